/** tiny_cnn on a pack of coloured images, trained by one process or by several. */
import { trace } from '#fornax/graph/trace.js';
import type { Processes } from '#fornax/dist/processes.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { TinyCnn } from '#fornax/models/tiny_cnn.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, OptimizerOptions, PackShard } from '#fornax/native/contract.js';
import { imageSize, normalize } from './training_pack.js';

export interface DistTraining {
  shard: PackShard;
  samples: number;
  /** Of each process. */
  batchSize: number;
  optimizer: OptimizerOptions;
  gradAccum: number;
  epochs: number;
  syncBatchNorm: boolean;
}

/** Its first weights are drawn from `seed`. */
export function traceTinyCnn(seed: number): NativeGraph {
  const graph = trace(new TinyCnn({ numClasses: 4 }), { inputs: [[2, 3, imageSize, imageSize]] });
  const model = new (loadAddon().Graph)(graph, { trusted: true });
  model.initialize(seed);
  return model;
}

/** @returns the loss of every step. */
export async function trainTinyCnn(
  model: NativeGraph,
  options: DistTraining & { processes: Processes },
): Promise<number[]> {
  const { Loader, TrainSession } = loadAddon();
  const { processes, optimizer } = options;
  const loader = new Loader(
    processes.shard(
      {
        shards: [options.shard],
        channels: 3,
        batch_size: options.batchSize,
        shuffle: true,
        seed: 5,
        augment: {
          size: [imageSize, imageSize],
          crop: { kind: 'random_crop', padding: 2 },
          hflip: 0.5,
        },
        threads: 1,
      },
      options.samples,
    ),
  );
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer,
    groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 5e-4 }],
    schedule: { name: 'constant', lr: optimizer.name === 'sgd' ? 0.05 : 1e-3 },
    grad_accum: options.gradAccum,
    clip_norm: 2,
    normalize,
    threads: 1,
    ...(processes.group && { process_group: processes.group, sync_batch_norm: options.syncBatchNorm }),
  });
  const losses: number[] = [];
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    loader.startEpoch(epoch);
    await session.run(loader, { steps: 1000, onEvent: (event) => losses.push(...event.losses) });
  }
  session.dispose();
  loader.dispose();
  return losses;
}

export function stateOf(model: NativeGraph): Record<string, number[]> {
  return Object.fromEntries(
    model.state().map(({ name, tensor }) => [name, [...tensor.toTypedArray()].map(Number)]),
  );
}
