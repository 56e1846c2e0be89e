/** Callbacks of a script: when they are called, what they can do, and that they change nothing. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ConfigError } from '#fornax/errors.js';
import type { Callbacks } from '#fornax/train/callbacks.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { Tensor } from '#fornax/tensor.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { collect, pointModel, type PointFiles, usePoints, weightsOf } from './support/points.js';

let root: PointFiles['root'];
let data: PointFiles['data'];
usePoints((made) => ({ root, data } = made));

/** 12 steps of 8 samples in each of 2 epochs. */
const train = { epochs: 2, batchSize: 8, lr: 0.05, amp: 'off' as const };

function trainer(changes: Partial<TrainerOptions> = {}): Trainer & Disposable {
  const model = pointModel();
  const made = new Trainer({ model, data, device: 'cpu', train, ...changes });
  return Object.assign(made, { [Symbol.dispose]: () => model.dispose() });
}

test('they are called at their places, in order, and awaited', async () => {
  const calls: string[] = [];
  let busy = false;
  const called = async (what: string): Promise<void> => {
    assert.ok(!busy, 'one at a time');
    busy = true;
    await new Promise((resolve) => setTimeout(resolve, 2));
    busy = false;
    calls.push(what);
  };
  const callbacks: Callbacks = {
    onSteps: { every: 5, call: ({ step, epoch }) => called(`step ${step} of epoch ${epoch}`) },
    onEvaluation: (event) => called(`evaluation of ${event.samples} in epoch ${event.epoch}`),
    onEpochEnd: ({ epoch, last, evaluation }) => called(`end of ${epoch} ${last} ${evaluation?.epoch}`),
    onCheckpoint: ({ step, reason }) => called(`checkpoint ${step} ${reason}`),
  };
  using run = trainer({ callbacks, folder: path.join(root.path, 'order') });
  await collect(run);
  // Checkpoints are written while training goes on.
  const checkpoints = calls.filter((call) => call.startsWith('checkpoint'));
  assert.deepEqual(checkpoints, ['checkpoint 12 epoch', 'checkpoint 24 final']);
  assert.ok(calls.indexOf(checkpoints[0]!) > calls.indexOf('end of 1 false 1'));
  assert.equal(calls.at(-1), checkpoints[1]);
  const others = calls.filter((call) => !checkpoints.includes(call));
  assert.deepEqual(others, [
    'step 5 of epoch 1',
    'step 10 of epoch 1',
    'evaluation of 30 in epoch 1',
    'end of 1 false 1',
    'step 15 of epoch 2',
    'step 20 of epoch 2',
    'evaluation of 30 in epoch 2',
    'end of 2 true 2',
  ]);
});

test('an interval changes nothing of what is computed', async () => {
  const settings = { ...train, gradAccum: 2, ema: { decay: 0.9 } };
  const results: string[] = [];
  for (const every of [null, 1, 3, 5]) {
    let calls = 0;
    const look: Callbacks = {
      onSteps: {
        every: every ?? 1,
        // Also a look at the weights, and a run of the model, between two steps.
        call: async ({ model, learningRate }) => {
          calls++;
          assert.equal(learningRate > 0, true);
          assert.ok(model.state().every(({ tensor }) => tensor.size > 0));
          using points = Tensor.ones([5, 4]);
          const { output } = await model.forward({ left: points, right: points });
          assert.deepEqual(output!.shape, [5, 3]);
        },
      },
    };
    using run = trainer({ train: settings, ...(every === null ? {} : { callbacks: look }) });
    await collect(run);
    assert.equal(calls, every === null ? 0 : Math.floor(12 / every));
    results.push(weightsOf(run.model) + JSON.stringify(run.history));
  }
  for (const result of results) assert.equal(result, results[0]);
});

test('a callback ends the training in good order', async () => {
  const folder = path.join(root.path, 'stopped');
  using run = trainer({
    folder,
    callbacks: { onSteps: { every: 7, call: ({ stop, step }) => void (step === 14 && stop('Good enough')) } },
  });
  const events = await collect(run);
  const stopped = events.find(({ type }) => type === 'stopped');
  assert.deepEqual(stopped, {
    type: 'stopped',
    reason: 'callback',
    step: 14,
    epoch: 1,
    message: 'Good enough',
  });
  assert.equal(run.stopped, 'callback');
  assert.equal(run.interrupted, false);
  assert.equal(events.at(-1)!.type, 'done');
  const [newest] = await new CheckpointStore(path.join(folder, 'checkpoints')).list();
  assert.equal(newest!.step, 14);
  // And it can go on.
  using again = trainer({ folder });
  await collect(again, { resume: true });
  using whole = trainer();
  await collect(whole);
  assert.deepEqual(again.history.at(-1), whole.history.at(-1));
});

test('an exception ends the training with a checkpoint and that error, from which a resume goes on', async () => {
  const folder = path.join(root.path, 'failed');
  class Mine extends Error {}
  for (const [step, callbacks] of [
    [9, { onSteps: { every: 9, call: () => Promise.reject(new Mine('at a step')) } }],
    [
      12,
      {
        onEpochEnd: () => {
          throw new Mine('at an end');
        },
      },
    ],
  ] satisfies [number, Callbacks][]) {
    using run = trainer({ folder, callbacks });
    await assert.rejects(collect(run, { resume: 'auto' }), Mine);
    const [newest] = await new CheckpointStore(path.join(folder, 'checkpoints')).list();
    assert.equal(newest!.step, step);
  }
  using again = trainer({ folder });
  await collect(again, { resume: true });
  using whole = trainer({ folder: path.join(root.path, 'whole') });
  await collect(whole);
  assert.deepEqual(again.history, whole.history);
});

test('what they log stands in the event log, once, also after a resume', async () => {
  const folder = path.join(root.path, 'logged');
  const callbacks: Callbacks = {
    onSteps: { every: 4, call: ({ log, step }) => log({ myStep: step, 'with space': 0.5 }) },
  };
  const checkpoint = { everySteps: 6 };
  const stop = new AbortController();
  using first = trainer({ folder, callbacks, checkpoint });
  for await (const event of first.fit({ signal: stop.signal })) if (event.type === 'epoch') stop.abort();
  using second = trainer({ folder, callbacks, checkpoint });
  const events = await collect(second, { resume: true });
  assert.ok(events.some(({ type }) => type === 'scalars'));
  const lines = readFileSync(path.join(folder, 'events.jsonl'), 'utf8').trim().split('\n');
  const scalars = lines
    .map((line) => JSON.parse(line) as { type: string; step: number; values: object })
    .filter(({ type }) => type === 'scalars');
  assert.deepEqual(
    scalars.map(({ step, values }) => [step, values]),
    [4, 8, 12, 16, 20, 24].map((step) => [step, { myStep: step, 'with space': 0.5 }]),
  );
});

test('weights that a callback sets are trained on', async () => {
  using run = trainer({
    callbacks: {
      onSteps: {
        every: 24,
        call: ({ model }) => {
          const bias = model.state().find(({ name }) => name === 'head.bias')!.tensor;
          using zeros = bias.call('aten::zeros_like');
          model.loadState({ 'head.bias': zeros }, { strict: false });
        },
      },
    },
  });
  await collect(run);
  assert.deepEqual(
    run.model
      .state()
      .find(({ name }) => name === 'head.bias')!
      .tensor.toArray(),
    [0, 0, 0],
  );
});

test('mistakes are told before training', () => {
  using model = pointModel();
  const wrong = (callbacks: unknown, what: RegExp): void => {
    assert.throws(
      () => new Trainer({ model, data, callbacks: callbacks as Callbacks }),
      (error) => error instanceof ConfigError && what.test(error.message),
    );
  };
  wrong({ onEpoch: () => undefined }, /no callback 'onEpoch'.*did you mean 'onEpochEnd'/s);
  wrong({ onSteps: () => undefined }, /\{ every, call \}/);
  wrong({ onSteps: { every: 0, call: () => undefined } }, /positive/);
  wrong({ onCheckpoint: 3 }, /function/);
});

test('whatever a callback throws ends the training, and what was trained is known', async () => {
  const thrown = async (what: unknown): Promise<void> => {
    using run = trainer({
      callbacks: {
        onEpochEnd({ epoch }) {
          if (epoch === 2) throw what;
        },
      },
    });
    await assert.rejects(collect(run), (error) => error === what);
    assert.equal(run.history.length, 2);
    assert.ok(run.best);
    assert.equal(run.interrupted, false);
  };
  await thrown(null);
  await thrown(undefined);
  await thrown(new TypeError('mine'));
});

test('a second training that fails at once does not have the epochs of the first', async () => {
  const folder = path.join(root.path, 'again');
  using run = trainer({ folder });
  await collect(run);
  assert.equal(run.history.length, 2);
  await assert.rejects(collect(run), /earlier training/);
  assert.deepEqual([run.history, run.best, run.metrics], [[], null, null]);
});

test('who leaves the loop hears that the last checkpoint could not be written', async () => {
  const folder = path.join(root.path, 'left');
  using run = trainer({ folder, train: { ...train, epochs: 500 } });
  const leave = async (): Promise<void> => {
    for await (const event of run.fit()) {
      if (event.type !== 'epoch' || event.epoch < 2) continue;
      rmSync(path.join(folder, 'checkpoints'), { recursive: true });
      writeFileSync(path.join(folder, 'checkpoints'), 'in the way');
      break;
    }
  };
  await assert.rejects(leave(), (error) => error instanceof Error && /checkpoints/.test(error.message));
  assert.ok(run.history.length >= 2);
  assert.equal(run.interrupted, true);
});

test('at the end of an epoch the rate is that of its last step', async () => {
  const rates: number[] = [];
  const schedule = { name: 'reduce_on_plateau', patience: 0, threshold: 0.9, factor: 0.5 } as const;
  using run = trainer({
    train: { ...train, epochs: 4, schedule },
    callbacks: { onEpochEnd: ({ learningRate }) => void rates.push(learningRate) },
  });
  await collect(run);
  assert.ok(rates.at(-1)! < rates[0]!, 'it falls');
  assert.deepEqual(
    rates,
    run.history.map(({ lr }) => lr),
  );
});
