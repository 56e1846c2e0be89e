/** What a native training session refuses, how a step fails, and how a session ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AbortedError,
  ArgumentError,
  DataError,
  DisposedError,
  ExecutionError,
  TrainError,
} from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import type { TrainOptions } from '#fornax/native/contract.js';
import { goldenBatch, goldenModel, openSession } from './support/training_golden.js';

/** A step on it takes a hundred milliseconds: it is not over before the next line. */
function longBatch(): ReturnType<typeof goldenBatch> {
  const image = loadAddon().Tensor.fromTypedArray(new Float32Array(64 * 3 * 128 * 128), [64, 3, 128, 128]);
  return { ...goldenBatch(0, 64), image };
}

test('settings that contradict, dangle or are out of range are refused by name', () => {
  const model = goldenModel();
  const refused: [Partial<TrainOptions>, RegExp][] = [
    [{ groups: [{ parameters: ['fc.wieght'], weight_decay: 0 }] }, /fc\.wieght/],
    [{ groups: [{ parameters: ['bn1.running_mean'], weight_decay: 0 }] }, /bn1\.running_mean/],
    [{ groups: [] }, /no parameter is to be trained/],
    [{ groups: [0, 1].map(() => ({ parameters: ['fc.bias'], weight_decay: 0 })) }, /two groups/],
    [{ optimizer: { name: 'sgd', nesterov: true } }, /nesterov/],
    [{ optimizer: { name: 'adam', betas: [0.9, 1] } }, /betas\[1\]/],
    [{ schedule: { name: 'cosine', lr: 0.1, total_steps: 5, warmup_steps: 5 } }, /total_steps/],
    [{ schedule: { name: 'constant', lr: -1 } }, /lr must be/],
    [{ clip_norm: 0 }, /clip_norm/],
    [{ grad_accum: 0 }, /grad_accum/],
  ];
  for (const [options, message] of refused) {
    assert.throws(
      () => openSession(model, options),
      (error) => error instanceof ArgumentError && message.test(error.message),
      JSON.stringify(options),
    );
  }
});

test('a batch without what the loss needs is a data error, and the session goes on', async () => {
  const session = openSession(goldenModel());
  const { image } = goldenBatch(0, 16);
  await assert.rejects(session.step({ image: image! }), (error) => {
    assert.ok(error instanceof DataError);
    assert.match(error.message, /`label`.*\(output\).*\(image\)/);
    return true;
  });
  const { loss } = await session.step(goldenBatch(0, 16));
  assert.ok(Number.isFinite(loss));
  session.dispose();
});

test('an operator that fails names its node', async () => {
  const session = openSession(goldenModel());
  const image = loadAddon().Tensor.fromTypedArray(new Float32Array(16 * 5 * 64), [16, 5, 8, 8]);
  await assert.rejects(session.step({ ...goldenBatch(0, 16), image }), (error) => {
    assert.ok(error instanceof ExecutionError);
    assert.match(error.message, /conv1/);
    return true;
  });
  session.dispose();
});

test('one job at a time: a second one and a look at the state are refused meanwhile', async () => {
  const session = openSession(goldenModel());
  const running = session.step(longBatch());
  await assert.rejects(session.step(goldenBatch(0, 16)), TrainError);
  assert.throws(() => session.snapshot(), TrainError);
  await running;
  session.dispose();
});

test('after dispose() everything throws DisposedError, dispose() itself does nothing', async () => {
  const session = openSession(goldenModel());
  session.dispose();
  session.dispose();
  assert.equal(session.disposed, true);
  assert.throws(() => session.snapshot(), DisposedError);
  assert.throws(() => session.learningRate(0), DisposedError);
  await assert.rejects(session.step(goldenBatch(0, 16)), DisposedError);
});

test('dispose() in the middle of a step rejects its promise', async () => {
  const session = openSession(goldenModel());
  const running = session.step(longBatch());
  session.dispose();
  await assert.rejects(running, AbortedError);
});

test('a model is trained by one session at a time', async () => {
  const model = goldenModel();
  const first = openSession(model);
  assert.throws(() => openSession(model), TrainError);
  await first.step(goldenBatch(0, 16));
  first.dispose();
  const second = openSession(model);
  assert.ok((await second.step(goldenBatch(0, 16))).loss > 0);
  assert.throws(() => openSession(model), TrainError);
  second.dispose();
});
