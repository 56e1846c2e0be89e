/** Batch-norm statistics of a finished model from a folder of images: what `fornax bn` does. */
import { existsSync } from 'node:fs';
import path from 'node:path';

import { prepareSplit } from '../data/evaluation_split.js';
import { subfolders } from '../data/folder.js';
import { loaderOptions } from '../data/loader_options.js';
import { ArgumentError, DataError } from '../errors.js';
import type { Model } from '../model.js';
import type { RecomputeResult } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { resolveDevice } from '../train/devices.js';
import type { Report } from '../train/events.js';
import { hasBatchNorm, recomputeBatchNorm } from '../train/recompute_batch_norm.js';
import { evaluationAugment } from '../train/train_data.js';
import { requirePreprocessing } from './evaluate.js';

export interface RecomputeModelOptions {
  /** Folder inside the data; default: `train` if there is one, else the data itself. */
  split?: string;
  /** Batches at most. Default 200. */
  batches?: number;
  /** Images in a batch, at least 2. Default 128. */
  batchSize?: number;
  /** `auto` (default), `cpu`, `cuda`, `cuda:N`. */
  device?: string;
  /** Folder for packs. Default `$FORNAX_CACHE`, else `~/.cache/fornax`. */
  cache?: string | null;
  report?: Report;
  signal?: AbortSignal;
}

/** `train`, also for IDX files, which lie in no folder; else the data itself. */
function defaultSplit(data: string): string {
  return existsSync(path.join(data, 'train')) || subfolders(data).length === 0 ? 'train' : '.';
}

/**
 * Gives every batch norm of a model the population statistics of its activations over images, with dropout off.
 * Images are shuffled and come to their size as in evaluation. The model changes in place.
 *
 * @param data folder of labelled images (`train/<class>/<file>` or `<class>/<file>`), or IDX files.
 * @throws ArgumentError for a model without batch norm, DataError for the data, AbortedError: then the model is as
 *   it was.
 */
export async function recomputeModel(
  model: Model,
  data: string,
  options: RecomputeModelOptions = {},
): Promise<RecomputeResult> {
  const { batches = 200, batchSize = 128, signal } = options;
  const report: Report = options.report ?? (() => undefined);
  if (!hasBatchNorm(model.graph)) {
    throw new ArgumentError(`the model '${model.info.name}' has no batch norm`);
  }
  const preprocessing = requirePreprocessing(model);
  const { device } = resolveDevice(options.device ?? 'auto', loadAddon().systemInfo());
  const { split, warnings } = await prepareSplit(
    {
      source: 'auto',
      path: data,
      split: options.split ?? defaultSplit(data),
      classes: model.info.labels,
      channels: preprocessing.channels,
      resolution: preprocessing.size,
      ...(preprocessing.pack_size === null
        ? { pack: 'original' as const }
        : { pack: 'resized' as const, packSize: preprocessing.pack_size }),
      onBroken: 'skip',
      cache: options.cache ?? null,
    },
    {
      onProgress: ({ split: name, done, total }) =>
        report({ type: 'data_progress', split: name, done, total, stage: 'Decoding images' }),
      ...(signal ? { signal } : {}),
    },
  );
  for (const message of warnings) report({ type: 'warning', message });
  if (split.samples < 2) {
    throw new DataError({ what: 'statistics need at least two images', where: split.location });
  }
  const size = Math.min(batchSize, split.samples);
  return recomputeBatchNorm(model, {
    batches,
    device,
    normalize: preprocessing.normalize,
    loader: {
      ...loaderOptions(split, {
        channels: preprocessing.channels,
        resolution: preprocessing.size,
        batchSize: size,
        seed: 0,
        train: false,
      }),
      augment: evaluationAugment(preprocessing),
      shuffle: true,
      // A last batch of one image has no statistics.
      drop_last: true,
    },
    report,
    signal,
  });
}
