/** From a module, or the name of one in the zoo, to a traced graph with weights. */
import { ArgumentError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { trace } from '../graph/trace.js';
import { createModule, findArchitecture } from '../models/registry.js';
import type { NativeGraph } from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { Module } from '../nn/index.js';
import { inputSpecs } from './inputs.js';
import type { ModelInfo } from './info.js';
import type { CreateOptions } from './types.js';

export interface ModelParts {
  graph: Graph;
  native: NativeGraph;
  info: ModelInfo;
  module: Module;
}

/** What `Model.create` is made of. */
export function createParts(source: Module | string, options: CreateOptions): ModelParts {
  const { numClasses, inChannels } = options;
  const zoo = typeof source === 'string' ? findArchitecture(source) : null;
  const module =
    typeof source === 'string'
      ? createModule(source, {
          ...(numClasses === undefined ? {} : { numClasses }),
          ...(inChannels === undefined ? {} : { inChannels }),
          ...options.options,
        })
      : source;
  const side = zoo?.defaultResolution;
  const given = options.inputs ?? (side ? [[1, inChannels ?? 3, side, side]] : undefined);
  if (!given) throw new ArgumentError('a module of your own needs `inputs`: example shapes of its arguments');
  const inputs = inputSpecs(given);
  const graph = trace(module, { inputs });
  const native = new (loadAddon().Graph)(graph, { trusted: true });
  native.initialize(options.seed ?? 0);
  const info: ModelInfo = {
    name: options.name ?? (typeof source === 'string' ? source : source.constructor.name),
    task: zoo?.task ?? 'custom',
    labels: [...(options.labels ?? [])],
    inputs,
    preprocessing: options.preprocessing ?? zoo?.preprocessing ?? null,
    ...(zoo?.detection ? { detection: zoo.detection } : {}),
    provenance: {},
    metrics: {},
  };
  return { graph, native, info, module };
}
