/**
 * Recorded steps of every optimizer and of schedules that move the momentum, against ordinary ones: on the CPU,
 * where a tape of operators stands in for a CUDA graph. test/cuda.test.ts does the same with CUDA graphs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OptimizerOptions, TrainOptions } from '#fornax/native/contract.js';
import { batches, falling, train, type Trained } from './support/recorded_steps.js';
import { goldenModel, parameterGroups } from './support/training_golden.js';

const cycle = { name: 'one_cycle', max_lr: 0.001, total_steps: 24, cycle_momentum: true } as const;

/** With weight decay, and rates of their own for biases and scales of normalisation. */
function grouped(options: Partial<TrainOptions>): Partial<TrainOptions> {
  const groups = parameterGroups(goldenModel(), 0.02, true).map((group, i) => ({
    ...group,
    lr_scale: 1 - 0.3 * i,
  }));
  return { groups, schedule: falling, ...options };
}

async function both(options: Partial<TrainOptions>): Promise<[ordinary: Trained, repeated: Trained]> {
  const ordinary = await train({ ...options, cuda_graphs: 'off' }, batches(24), 0.3);
  const repeated = await train({ ...options, tape: true, cuda_graphs: 'on' }, batches(24), 0.3);
  assert.equal(repeated.result.repeated, 21, 'all but the three of the warm-up');
  return [ordinary, repeated];
}

const made: OptimizerOptions[] = [
  { name: 'rmsprop' },
  { name: 'rmsprop', momentum: 0.9, centered: true },
  { name: 'adagrad' },
  { name: 'adagrad', lr_decay: 0.1 },
  { name: 'radam' },
  { name: 'radam', decoupled_weight_decay: true },
  { name: 'nadam' },
  { name: 'nadam', decoupled_weight_decay: true },
  { name: 'lion' },
  { name: 'lamb' },
  { name: 'lamb', decoupled_decay: true, grad_averaging: false, trust_clip: true },
  { name: 'lars', momentum: 0.9, nesterov: true },
  { name: 'lars', trust_clip: true },
];

const named = (optimizer: OptimizerOptions): string => JSON.stringify(optimizer).replaceAll('"', '');

for (const optimizer of made) {
  test(`repeated steps equal ordinary ones bit for bit: ${named(optimizer)}`, async () => {
    const [ordinary, repeated] = await both(grouped({ optimizer }));
    assert.deepEqual(repeated.losses, ordinary.losses);
    assert.deepEqual(repeated.state, ordinary.state);
    assert.deepEqual(repeated.kept, ordinary.kept);
    assert.notEqual(ordinary.losses[0], ordinary.losses[20]);
  });
}

const withMomentum = made.filter(
  (optimizer) =>
    optimizer.name !== 'adagrad' && ('momentum' in optimizer || !/rms|lars/.test(optimizer.name)),
);

for (const optimizer of withMomentum) {
  test(`a schedule that moves the momentum, bit for bit: ${named(optimizer)}`, async () => {
    const [ordinary, repeated] = await both(grouped({ optimizer, schedule: cycle }));
    assert.deepEqual(repeated.losses, ordinary.losses);
    assert.deepEqual(repeated.state, ordinary.state);
    assert.deepEqual(repeated.kept, ordinary.kept);
    const steady = await train(
      grouped({ optimizer, schedule: { ...cycle, cycle_momentum: false }, tape: true }),
      batches(24),
      0.3,
    );
    assert.notDeepEqual(repeated.losses, steady.losses, 'the momentum does matter');
  });
}

/** Largest difference of two runs' weights and statistics, over the largest element of each tensor. */
function distance(a: Trained, b: Trained): number {
  let largest = 0;
  for (const [name, value] of Object.entries(a.state)) {
    const other = b.state[name]!;
    const scale = value.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-30);
    value.forEach((x, i) => (largest = Math.max(largest, Math.abs(x - other[i]!) / scale)));
  }
  return largest;
}

/**
 * Ordinary steps of these go through kernels of one pass, which round once where the multi-tensor operators of
 * recorded ones round twice.
 */
const fused: [OptimizerOptions, Partial<TrainOptions>][] = [
  [{ name: 'sgd', momentum: 0.9 }, { schedule: cycle }],
  [{ name: 'sgd', momentum: 0.9, nesterov: true }, { schedule: cycle }],
  [{ name: 'sgd', momentum: 0.9, dampening: 0.3 }, { schedule: { ...falling, lr: 0.001 } }],
  [{ name: 'sgd', momentum: 0.9, dampening: 0.3 }, { schedule: cycle }],
  [{ name: 'adam' }, { schedule: cycle }],
  [{ name: 'adam', amsgrad: true }, { schedule: cycle }],
  [{ name: 'adamw' }, { schedule: cycle }],
];

for (const [optimizer, options] of fused) {
  const { schedule } = options;
  test(`recorded and fused steps go the same way: ${named(optimizer)}, ${schedule!.name}`, async () => {
    const [ordinary, repeated] = await both(grouped({ ...options, optimizer }));
    assert.ok(distance(ordinary, repeated) < 1e-6);
    assert.ok(ordinary.losses.every((loss, i) => Math.abs(repeated.losses[i]! - loss) < 1e-6 * loss));
  });
}

/** The first of each name. */
const different = [...made, ...fused.map(([each]) => each)].filter(
  (optimizer, i, all) => all.findIndex(({ name }) => name === optimizer.name) === i,
);

for (const optimizer of different) {
  const schedule = withMomentum.includes(optimizer) || !made.includes(optimizer) ? cycle : falling;
  test(`fp16: overflowing steps change nothing when repeated: ${named(optimizer)}, ${schedule.name}`, async () => {
    const scaler = { init_scale: 2 ** 40, growth_interval: 4 };
    const options = grouped({ optimizer, schedule, scaler, amp: 'fp16', nan_watch: {} });
    const [ordinary, repeated] = await both(options);
    const skipped = repeated.events.map((event) => event.skipped!);
    assert.ok(skipped[2]! >= 3 && skipped.at(-1)! > 3 && skipped.at(-1)! < 24, String(skipped));
    if (made.includes(optimizer)) assert.deepEqual(repeated.kept, ordinary.kept);
    assert.deepEqual(repeated.kept['scaler/skipped'], ordinary.kept['scaler/skipped']);
    assert.ok(Object.values(repeated.state).every((value) => value.every(Number.isFinite)));
  });
}
