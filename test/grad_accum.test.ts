/** Gradient accumulation: every row of a step counts alike, however the last batches of an epoch turn out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { trace } from '#fornax/graph/trace.js';
import { Linear, ReLU, Sequential } from '#fornax/nn/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor, TrainOptions } from '#fornax/native/contract.js';

import { assertClose, trainOptions } from './support/training_golden.js';

const FEATURES = 6;
const CLASSES = 10;

/** Samples [first, first + rows). */
function batch(first: number, rows: number): Record<string, NativeTensor> {
  const { Tensor } = loadAddon();
  const values = Float32Array.from({ length: rows * FEATURES }, (_, i) =>
    Math.sin(1 + 7.3 * (first * FEATURES + i)),
  );
  const labels = BigInt64Array.from({ length: rows }, (_, i) => BigInt(((first + i) * 7) % CLASSES));
  return {
    image: Tensor.fromTypedArray(values, [rows, FEATURES]),
    label: Tensor.fromTypedArray(labels, [rows]),
  };
}

interface Step {
  loss: number;
  gradients: Record<string, number[]>;
  weights: Record<string, number[]>;
}

const numbers = (tensors: Record<string, NativeTensor>): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [name, [...tensor.toTypedArray()].map(Number)]),
  );

/** A step on batches of these sizes, taken one after another. No batch norm: the whole batch gives the same. */
async function stepOn(sizes: readonly number[], options: Partial<TrainOptions>): Promise<Step> {
  const { Graph, TrainSession } = loadAddon();
  const net = new Sequential(new Linear(FEATURES, 16), new ReLU(), new Linear(16, CLASSES));
  const model = new Graph(trace(net, { inputs: [[2, FEATURES]] }), { trusted: true });
  model.initialize(3);
  const session = new TrainSession(model, trainOptions(model, options));
  let first = 0;
  const batches = sizes.map((rows) => batch((first += rows) - rows, rows));
  const losses: number[] = [];
  const { steps } = await session.run(batches, {
    steps: 1,
    onEvent: (event) => losses.push(...event.losses),
  });
  assert.equal(steps, 1);
  const gradients = numbers(session.gradients());
  session.dispose();
  return {
    loss: losses[0]!,
    gradients,
    weights: numbers(Object.fromEntries(model.state().map(({ name, tensor }) => [name, tensor]))),
  };
}

function assertSameStep(step: Step, expected: Step): void {
  assertClose(step.loss, expected.loss, 1e-6, 'loss');
  for (const what of ['gradients', 'weights'] as const) {
    for (const [name, values] of Object.entries(expected[what])) {
      step[what][name]!.forEach((value, i) => assertClose(value, values[i]!, 1e-6, `${what} ${name}[${i}]`));
    }
  }
}

for (const [what, sizes, accumulate] of [
  ['a smaller last batch', [10, 10, 4], 3],
  ['a group that the epoch cuts short', [8, 8], 3],
  ['both', [10, 10, 4], 4],
  ['a single small batch', [4], 4],
] as const) {
  test(`micro-batches give the step of the whole batch: ${what}`, async () => {
    const rows = sizes.reduce<number>((sum, size) => sum + size, 0);
    for (const options of [{}, { clip_norm: 0.05 }]) {
      const whole = await stepOn([rows], options);
      assertSameStep(await stepOn(sizes, { ...options, grad_accum: accumulate }), whole);
    }
  });
}
