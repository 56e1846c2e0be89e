/** Snapshots of a native training session, and the generator that is in them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WeightsError } from '#fornax/errors.js';
import type { NativeTensor, NativeTrain, TrainOptions } from '#fornax/native/contract.js';
import { goldenBatch, goldenModel, openSession, stateValues } from './support/training_golden.js';

/** The network with dropout, so that the generator matters. */
const dropout = { dropout: 0.4 };

test('snapshot and restore continue bit for bit', async () => {
  const options: Partial<TrainOptions> = {
    optimizer: { name: 'adamw', amsgrad: true },
    seed: 5,
    clip_norm: 1,
  };
  const train = async (session: NativeTrain, from: number, to: number): Promise<void> => {
    for (let step = from; step < to; step++) await session.step(goldenBatch((step * 16) % 64, 16));
  };
  const whole = goldenModel(dropout);
  const uninterrupted = openSession(whole, options);
  await train(uninterrupted, 0, 7);
  uninterrupted.dispose();

  const first = goldenModel(dropout);
  const interrupted = openSession(first, options);
  await train(interrupted, 0, 3);
  const snapshot = interrupted.snapshot();
  const weights = Object.fromEntries(first.state().map(({ name, tensor }) => [name, tensor]));
  interrupted.dispose();

  const second = goldenModel(dropout);
  second.loadState(weights);
  const resumed = openSession(second, { ...options, seed: 99 });
  resumed.restore(snapshot, 3);
  assert.equal(resumed.stepCount, 3);
  await train(resumed, 3, 7);
  resumed.dispose();
  assert.deepEqual(stateValues(second), stateValues(whole));
});

test('the seed decides what dropout draws', async () => {
  const lossWith = async (seed: number): Promise<number> => {
    const session = openSession(goldenModel(dropout), { seed });
    const { loss } = await session.step(goldenBatch(0, 16));
    session.dispose();
    return loss;
  };
  assert.equal(await lossWith(1), await lossWith(1));
  assert.notEqual(await lossWith(1), await lossWith(2));
});

test('restore refuses a snapshot of another optimizer and changes nothing', async () => {
  const model = goldenModel();
  const adam = openSession(model, { optimizer: { name: 'adam' } });
  await adam.step(goldenBatch(0, 16));
  const foreign = adam.snapshot();
  adam.dispose();
  const sgd = openSession(model);
  await sgd.step(goldenBatch(0, 16));
  const before = tensorValues(sgd.snapshot());
  assert.throws(() => sgd.restore(foreign, 1), WeightsError);
  const { generator, ...incomplete } = sgd.snapshot();
  assert.ok(generator);
  assert.throws(() => sgd.restore(incomplete, 1), /`generator` is missing/);
  assert.deepEqual(tensorValues(sgd.snapshot()), before);
  assert.equal(sgd.stepCount, 1);
  sgd.dispose();
});

function tensorValues(tensors: Record<string, NativeTensor>): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [name, Array.from(tensor.toTypedArray(), Number)]),
  );
}
