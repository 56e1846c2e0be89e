/** Rows of steps that the gradient scaler skips: counted on the device, across runs and resumes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { loadAddon } from '#fornax/native.js';
import type { NativeTensor, RunResult, TrainOptions } from '#fornax/native/contract.js';

import { goldenBatch, goldenModel, openSession, type Batch } from './support/training_golden.js';

const batches = (count: number): Batch[] => Array.from({ length: count }, () => goldenBatch(0, 8));

/** Gradients overflow at every step, and the scale hardly falls. */
const hopeless: Partial<TrainOptions> = {
  amp: 'fp16',
  threads: 1,
  nan_watch: {},
  schedule: { name: 'constant', lr: 0 },
  scaler: { init_scale: 2 ** 120, backoff_factor: 0.999999 },
};

const outcome = ({ reason, fault }: RunResult): unknown[] => [reason, fault?.what, fault?.step];

for (const late of [false, true]) {
  const options = { ...hopeless, ...(late ? { tape: true, channels_last: true } : {}) };

  test(`a row of skipped steps goes on after a resume, ${late ? 'late' : 'at once'}`, async () => {
    const model = goldenModel();
    const before = openSession(model, options);
    assert.deepEqual(outcome(await before.run(batches(40), { steps: 40 })), ['done', undefined, undefined]);
    const kept = before.snapshot();
    before.dispose();
    const after = openSession(model, options);
    after.restore(kept, 40);
    const result = await after.run(batches(10), { steps: 10 });
    assert.deepEqual(outcome(result), ['not_finite', 'scale', 50]);
    // The next row begins after the fault.
    assert.equal((await after.run(batches(30), { steps: 30 })).reason, 'done');
    after.dispose();
  });

  test(`how many steps were skipped before is no row, ${late ? 'late' : 'at once'}`, async () => {
    const sound: Partial<TrainOptions> = { ...options, scaler: { init_scale: 1024 } };
    const first = openSession(goldenModel(), sound);
    const kept = first.snapshot();
    first.dispose();
    const scalar = (value: number): NativeTensor =>
      loadAddon().Tensor.fromTypedArray(Float32Array.of(value), []);
    const session = openSession(goldenModel(), sound);
    // A snapshot of an older version, which knew the total alone.
    const { 'scaler/skipped_in_a_row': _row, ...older } = kept;
    session.restore({ ...older, 'scaler/skipped': scalar(70) }, 2);
    const result = await session.run(batches(60), { steps: 60 });
    assert.deepEqual(outcome(result), ['done', undefined, undefined]);
    session.dispose();
  });
}

test('a gradient that overflows is the scaler’s affair, also where every node is looked at', async () => {
  const session = openSession(goldenModel(), {
    amp: 'fp16',
    threads: 1,
    nan_watch: { anomaly: true },
    scaler: { init_scale: 2 ** 30 },
  });
  const skipped: number[] = [];
  const { reason } = await session.run(batches(25), {
    steps: 25,
    onEvent: (event) => skipped.push(event.skipped ?? 0),
  });
  assert.equal(reason, 'done');
  assert.ok(skipped.at(-1)! > 0 && skipped.at(-1)! < 25, `${skipped.at(-1)} skipped`);
  session.dispose();
});
