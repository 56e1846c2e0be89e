/** Sessions whose steps are recorded, for comparison with others. */
import type { Graph } from '#fornax/graph/format.js';
import { traceLoss } from '#fornax/losses/index.js';
import { call, functional as F, Module, type Tensor } from '#fornax/nn/index.js';
import type { NativeTrain, RunResult, StepsEvent, TrainOptions } from '#fornax/native/contract.js';
import { goldenBatch, goldenModel, openSession, stateValues, type Batch } from './training_golden.js';

class ReadByHost extends Module {
  forward(output: Tensor, label: Tensor): Tensor {
    // On a GPU the one looks whether it succeeded, on the CPU the other whether its share is in range: no graph
    // tells beforehand.
    const one = call('aten::linalg_inv', [output.sum().reshape(1, 1).mul(0).add(1)]).sum();
    const none = call('aten::quantile.scalar', [output, 0.5]).sum().mul(0);
    return F.crossEntropy(output, label).mul(one).add(none);
  }
}

/** Cross entropy, in a step that cannot be recorded. */
export function readByHost(): Graph {
  return traceLoss(new ReadByHost(), ['output', 'label']);
}

/** What CUDA does not do either, and BatchNorm whose statistics move. */
export const plain: Partial<TrainOptions> = { fuse: false, channels_last: true, threads: 1 };

export const falling = { name: 'cosine', lr: 0.05, total_steps: 24 } as const;

export function batches(count: number, rows = 8): Batch[] {
  return Array.from({ length: count }, (_, i) => goldenBatch((i * rows) % (64 - rows), rows));
}

export interface Trained {
  losses: number[];
  events: StepsEvent[];
  result: RunResult;
  state: Record<string, Float32Array>;
  kept: Record<string, unknown>;
  gradients: Record<string, unknown>;
}

export function values(tensors: Record<string, { toTypedArray(): unknown }>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.toTypedArray()]));
}

export async function run(
  session: NativeTrain,
  source: Batch[],
  batchesPerStep = 1,
): Promise<[RunResult, StepsEvent[]]> {
  const events: StepsEvent[] = [];
  const result = await session.run(source, {
    steps: Math.ceil(source.length / batchesPerStep),
    event_interval_ms: 0,
    onEvent: (event) => events.push(event),
  });
  return [result, events];
}

export async function train(options: Partial<TrainOptions>, source: Batch[], dropout = 0): Promise<Trained> {
  const model = goldenModel({ dropout });
  const session = openSession(model, { ...plain, ...options });
  const [result, events] = await run(session, source, options.grad_accum);
  const kept = values(session.snapshot());
  const gradients = values(session.gradients());
  session.dispose();
  const losses = events.flatMap((event) => event.losses);
  return { losses, events, result, state: stateValues(model), kept, gradients };
}
