/** A model with weights that somebody has trained. */
import { basename } from 'node:path';

import { findArchitecture } from '../models/registry.js';
import type { Model } from '../model.js';
import type { Module } from '../nn/index.js';
import { loadPretrained, pretrainedPreprocessing } from '../weights/pretrained.js';
import { resolveWeights } from '../weights/resolve.js';
import type { CreateOptions, PretrainedModelOptions } from './types.js';

/** What `Model.pretrained` does; `create` is `Model.create`. */
export async function createPretrained(
  source: Module | string,
  options: PretrainedModelOptions,
  create: (source: Module | string, options: CreateOptions) => Model,
): Promise<Model> {
  const {
    weights = 'default',
    strict,
    unstrict,
    key,
    folder,
    cache,
    env,
    onProgress,
    signal,
    ...rest
  } = options;
  const { onMessage, ...createOptions } = rest;
  const zoo = typeof source === 'string' ? findArchitecture(source) : null;
  const resolve = { folder, cache, onProgress, onMessage, signal, ...(env ? { env } : {}) };
  const resolved = await resolveWeights(weights, zoo?.name ?? null, resolve);
  const { published } = resolved;
  const preprocessing = await pretrainedPreprocessing(resolved);
  const side = published?.preprocessing?.size;
  const model = create(source, {
    ...(preprocessing ? { preprocessing } : {}),
    ...(side ? { inputs: [[1, createOptions.inChannels ?? 3, ...side]] } : {}),
    ...createOptions,
    // The size for which a position embedding was trained belongs to the weights.
    ...(side && zoo && 'imageSize' in zoo.options
      ? { options: { imageSize: side[0], ...createOptions.options } }
      : {}),
  });
  try {
    const report = await loadPretrained(model.native, model.graph, resolved, {
      ...(strict === undefined ? {} : { strict }),
      ...(unstrict === undefined ? {} : { unstrict }),
      ...(key === undefined ? {} : { key }),
    });
    for (const message of report.messages) onMessage?.(message);
    const labels = report.replaced.length === 0 && !options.labels ? published?.labels : undefined;
    model.info = {
      ...model.info,
      ...(labels && labels.length > 0 ? { labels: [...labels] } : {}),
      provenance: {
        ...model.info.provenance,
        // Files travel: folders of this machine are nobody's business.
        pretrained: published?.name ?? basename(weights),
        weights: basename(resolved.file),
      },
    };
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}
