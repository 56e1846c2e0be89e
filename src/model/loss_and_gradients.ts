/** Loss and gradients of one batch: a training session for a single step without an update. */
import type { Graph } from '../graph/format.js';
import { crossEntropy } from '../losses/index.js';
import type { Model } from '../model.js';
import { loadAddon } from '../native.js';
import type { Tensor } from '../tensor.js';
import { normalizeOf } from './info.js';
import { modesOf } from './modes.js';
import { unwrap, wrap } from './tensors.js';
import type { LossAndGradients } from './types.js';

export interface LossAndGradientsOptions {
  /** A traced loss; default cross entropy over `output` and `label`. */
  loss?: Graph;
  /** Default `train`: batch norm updates its running statistics. */
  mode?: 'train' | 'eval';
  seed?: number;
  device?: string;
}

/** What `Model.lossAndGradients` does. */
export async function lossAndGradients(
  model: Model,
  batch: Record<string, Tensor>,
  options: LossAndGradientsOptions,
): Promise<LossAndGradients> {
  const parameters = model.graph.parameters
    .filter(({ kind }) => kind === 'parameter')
    .map(({ name }) => name);
  const normalize = normalizeOf(model.info.preprocessing);
  const session = new (loadAddon().TrainSession)(model.native, {
    device: options.device ?? 'cpu',
    loss: options.loss ?? crossEntropy(),
    optimizer: { name: 'sgd' },
    groups: [{ parameters, weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    modes: modesOf(options.mode ?? 'train'),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(normalize ? { normalize } : {}),
  });
  try {
    const { loss, outputs } = await session.step(unwrap(batch), { update: false });
    return { loss, gradients: wrap(session.gradients()), outputs: wrap(outputs) };
  } finally {
    session.dispose();
    model.changed();
  }
}
