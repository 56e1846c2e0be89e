/**
 * Recorded steps: a tape of operators stands in for a CUDA graph, so that what surrounds one is compared with
 * ordinary steps bit for bit on the CPU. test/cuda.test.ts does the same with CUDA graphs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArgumentError, DeviceError } from '#fornax/errors.js';
import type { NativeGraph, TrainOptions } from '#fornax/native/contract.js';
import { batches, falling, plain, readByHost, run, train, values } from './support/recorded_steps.js';
import {
  goldenBatch,
  goldenModel,
  openSession,
  parameterGroups,
  stateValues,
} from './support/training_golden.js';

const settings: [name: string, options: (model: NativeGraph) => Partial<TrainOptions>][] = [
  ['sgd with momentum', () => ({})],
  ['adam', () => ({ optimizer: { name: 'adam' } })],
  [
    'adamw with amsgrad in two groups of their own rates',
    (model) => ({
      optimizer: { name: 'adamw', amsgrad: true },
      groups: parameterGroups(model, 0.01, true).map((group, i) => ({ ...group, lr_scale: 1 - 0.3 * i })),
    }),
  ],
  ['clipping by norm and value', () => ({ clip_norm: 0.5, clip_value: 0.05 })],
  ['micro-batches', () => ({ grad_accum: 3 })],
  ['an average', () => ({ ema: { decay: 0.9 } })],
  ['bf16', () => ({ amp: 'bf16' })],
  ['frozen statistics', () => ({ modes: { batch_norm: 'eval' } })],
];

for (const [name, of] of settings) {
  test(`repeated steps equal ordinary ones bit for bit: ${name}`, async () => {
    const options = { schedule: falling, ...of(goldenModel()) };
    const source = batches(24);
    const ordinary = await train({ ...options, cuda_graphs: 'off' }, source, 0.3);
    const repeated = await train({ ...options, tape: true, cuda_graphs: 'on' }, source, 0.3);
    const steps = 24 / (options.grad_accum ?? 1);
    assert.equal(ordinary.result.repeated, 0);
    assert.equal(repeated.result.repeated, steps - 3, 'all but the three of the warm-up');
    assert.deepEqual(repeated.losses, ordinary.losses);
    assert.deepEqual(repeated.state, ordinary.state);
    assert.deepEqual(repeated.kept, ordinary.kept);
    assert.deepEqual(repeated.gradients, ordinary.gradients);
    assert.ok(Object.keys(repeated.gradients).length > 0);
  });
}

test('the average of a warm-up follows its count through repeated steps', async () => {
  const source = batches(12);
  const options: Partial<TrainOptions> = { ema: { decay: 0.999, warmup: true }, schedule: falling };
  const ordinary = await train({ ...options, cuda_graphs: 'off' }, source);
  const repeated = await train({ ...options, tape: true, cuda_graphs: 'on' }, source);
  assert.deepEqual(repeated.state, ordinary.state);
  for (const [name, expected] of Object.entries(ordinary.kept)) {
    const actual = repeated.kept[name] as Float32Array;
    if (!name.startsWith('ema/') || !(expected instanceof Float32Array))
      assert.deepEqual(actual, expected, name);
    // The share lies on the device as a float32: rounded once more than the number it is otherwise.
    else expected.forEach((value, i) => assert.ok(Math.abs(actual[i]! - value) < 1e-6, name));
  }
});

test('fp16: a step that overflows is skipped and counted, repeated or not', async () => {
  const options: Partial<TrainOptions> = {
    amp: 'fp16',
    scaler: { init_scale: 2 ** 40, growth_interval: 4 },
    schedule: falling,
  };
  const source = batches(24);
  const ordinary = await train({ ...options, cuda_graphs: 'off' }, source);
  const repeated = await train({ ...options, tape: true, cuda_graphs: 'on' }, source);
  assert.deepEqual(repeated.kept, ordinary.kept);
  assert.deepEqual(repeated.state, ordinary.state);
  const skipped = repeated.events.map((event) => event.skipped!);
  assert.ok(skipped[2]! >= 3 && skipped.at(-1)! > 3, 'some of the repeated steps overflow, too');
  assert.ok(skipped.at(-1)! < 24, 'and some do not');
});

test('batches of another size are computed as usual, between repeated ones', async () => {
  const source = [...batches(6), goldenBatch(0, 5), ...batches(3), goldenBatch(1, 3)];
  const ordinary = await train({ schedule: falling, cuda_graphs: 'off' }, source, 0.2);
  const repeated = await train({ schedule: falling, tape: true }, source, 0.2);
  assert.equal(repeated.result.repeated, 6);
  const each = repeated.events.flatMap(({ losses, repeated: count = 0 }) =>
    losses.length === 1 ? [count] : assert.fail('one event for each step'),
  );
  assert.deepEqual(each, [0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0]);
  assert.deepEqual(repeated.losses, ordinary.losses);
  assert.deepEqual(repeated.kept, ordinary.kept);
  assert.deepEqual(repeated.gradients, ordinary.gradients, 'those of the last step');
});

test('a size that stays is recorded anew, and an incomplete group of micro-batches is a step of its own', async () => {
  const source = [...batches(6), ...batches(24, 4)];
  const ordinary = await train({ cuda_graphs: 'off' }, source);
  const repeated = await train({ tape: true }, source);
  assert.equal(repeated.result.repeated, 3 + 24 - 16);
  assert.deepEqual(repeated.state, ordinary.state);
  const odd = batches(13);
  const [off, on] = [
    await train({ grad_accum: 2, cuda_graphs: 'off' }, odd),
    await train({ grad_accum: 2, tape: true }, odd),
  ];
  assert.equal(on.result.steps, 7);
  assert.equal(on.result.repeated, 3);
  assert.deepEqual(on.state, off.state);
});

test('a run resumed between repeated steps goes on with the very same numbers', async () => {
  const options: Partial<TrainOptions> = {
    ...plain,
    schedule: falling,
    optimizer: { name: 'adamw' },
    tape: true,
    ema: { warmup: true },
  };
  const source = batches(20);
  const whole = await train(options, source, 0.3);
  const first = goldenModel({ dropout: 0.3 });
  const before = openSession(first, options);
  await run(before, source.slice(0, 11));
  const kept = before.snapshot();
  before.dispose();
  // Warmed up and recorded with other data, then put back to where the first one was.
  const weights = Object.fromEntries(first.state().map(({ name, tensor }) => [name, tensor]));
  const second = goldenModel({ dropout: 0.3 });
  const after = openSession(second, options);
  await run(after, batches(6));
  second.loadState(weights);
  after.restore(kept, 11);
  const [result, events] = await run(after, source.slice(11));
  assert.equal(result.repeated, 9, 'the recording of before serves');
  assert.deepEqual(
    events.flatMap(({ losses }) => losses),
    whole.losses.slice(11),
  );
  assert.deepEqual(stateValues(second), whole.state);
  assert.deepEqual(values(after.snapshot()), whole.kept);
  after.dispose();
});

test('single steps and runs mix', async () => {
  const source = batches(9);
  const trained = async (options: Partial<TrainOptions>): Promise<Record<string, Float32Array>> => {
    const model = goldenModel();
    const session = openSession(model, { ...plain, schedule: falling, ...options });
    await run(session, source.slice(0, 5));
    await session.step(source[5]!);
    await session.step(source[0]!, { update: false });
    await run(session, source.slice(6));
    session.dispose();
    return stateValues(model);
  };
  assert.deepEqual(await trained({ tape: true }), await trained({ cuda_graphs: 'off' }));
});

test('what cannot be recorded runs as usual and says why, or is an error', async () => {
  const options: Partial<TrainOptions> = { nan_watch: { anomaly: true }, tape: true };
  const { events, result } = await train(options, batches(5));
  assert.equal(result.repeated, 0);
  assert.match(events[0]!.declined ?? '', /looks at every node/);
  assert.equal(events.filter(({ declined }) => declined !== undefined).length, 1, 'said once');
  assert.throws(
    () => openSession(goldenModel(), { ...plain, ...options, cuda_graphs: 'on' }),
    (error: Error) => error instanceof DeviceError && /looks at every node/.test(error.message),
  );
  assert.throws(() => openSession(goldenModel(), { cuda_graphs: 'on' }), ArgumentError);
});

test('a value that the host reads is noticed, and steps go on as usual, draws included', async () => {
  const options = { loss: readByHost(), schedule: falling };
  const ordinary = await train({ ...options, cuda_graphs: 'off' }, batches(12), 0.3);
  const { events, result, kept } = await train({ ...options, tape: true }, batches(12), 0.3);
  assert.equal(result.repeated, 0);
  assert.match(events.map(({ declined }) => declined ?? '').join(''), /the host reads a value/);
  assert.deepEqual(kept, ordinary.kept);
});

test('sizes that change from step to step are given up', async () => {
  const source = Array.from({ length: 40 }, (_, i) => goldenBatch(0, 2 + (i % 5)));
  const { events, result } = await train({ tape: true }, source);
  assert.equal(result.repeated, 0);
  assert.match(events.map(({ declined }) => declined ?? '').join(''), /change from step to step/);
});
