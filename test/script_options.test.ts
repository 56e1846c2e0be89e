/** Options of the scripting interface: what is mistyped, missing or something else is said, and by name. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { ConfigError } from '#fornax/errors.js';
import type { EpochContext } from '#fornax/train/callbacks.js';
import { memoryData, type MemoryData, type MemoryDataOptions } from '#fornax/train/memory_data.js';
import { prepareData, Trainer, type FitOptions, type TrainerOptions } from '#fornax/train/trainer.js';

import { pointData, pointModel } from './support/points.js';

let data: MemoryData;
before(async () => {
  data = await pointData();
});
after(() => data.dispose());

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof ConfigError && pattern.test(`${error.where ?? ''}: ${error.message}`);

test('of a Trainer', () => {
  const model = pointModel();
  const good = { model, data, train: { epochs: 1, amp: 'off' as const } };
  const wrong: [options: unknown, pattern: RegExp][] = [
    [undefined, /a Trainer takes an object with model, data, .*, not undefined/],
    [null, /not null/],
    [[], /not a list/],
    [{}, /^model: .*must be a Model/],
    [{ model }, /^data: .*must be what prepareData or memoryData gives/],
    [{ ...good, modle: 1 }, /^modle: .*did you mean 'model'/s],
    [{ ...good, nproc: 2 }, /^nproc: .*trains in the process of its script/],
    [{ ...good, loss: null }, /^loss: /],
    [{ ...good, metrics: null }, /^metrics: /],
    [{ ...good, teacher: 'resnet18' }, /^teacher: .*must be a Model/],
    [{ ...good, folder: 3 }, /^folder: /],
    [{ ...good, callbacks: null }, /^callbacks: /],
    [{ ...good, callbacks: [null] }, /^callbacks: /],
    [{ ...good, callbacks: () => 1 }, /^callbacks: .*onSteps, onEvaluation/],
    [{ ...good, callbacks: { onSteps: { every: 2, evry: 3, call: () => undefined } } }, /^evry: .*'every'/s],
  ];
  for (const [options, pattern] of wrong) {
    assert.throws(() => new Trainer(options as TrainerOptions), refused(pattern), String(pattern));
  }
  new Trainer(good);
  model.dispose();
});

test('of fit and findLearningRate, before anything is trained', async () => {
  const model = pointModel();
  const trainer = new Trainer({ model, data, train: { epochs: 1, amp: 'off' } });
  const wrong: [options: unknown, pattern: RegExp][] = [
    [{ resumefrom: 'x' }, /^resumefrom: .*did you mean 'resumeFrom'/s],
    [{ resume: 'yes' }, /^resume: .*true, false or 'auto'/],
    [{ resumeFrom: 7 }, /^resumeFrom: /],
    [{ signal: {} }, /^signal: .*AbortSignal/],
    [null, /fit takes an object/],
  ];
  for (const [options, pattern] of wrong) {
    await assert.rejects(trainer.fit(options as FitOptions).next(), refused(pattern), String(pattern));
  }
  await assert.rejects(trainer.findLearningRate({ maxlr: 1 } as object), refused(/^maxlr: .*'maxLr'/s));
  // It is at nobody's work: what is right is done.
  for await (const _ of trainer.fit());
  assert.equal(trainer.history.length, 1);
  model.dispose();
});

test('of data', async () => {
  const train = { x: [[1], [2], [3], [4]] };
  const wrong: [options: unknown, pattern: RegExp][] = [
    [undefined, /memoryData takes an object/],
    [{}, /^train: /],
    [{ train, valfraction: 0.5 }, /^valfraction: .*'valFraction'/s],
    [{ train, valFraction: '0.2' }, /^valFraction: .*a number/],
    [{ train, seed: 0.5 }, /^seed: /],
  ];
  for (const [options, pattern] of wrong) {
    await assert.rejects(memoryData(options as MemoryDataOptions), refused(pattern), String(pattern));
  }
  await assert.rejects(prepareData({ source: 'shapes' }, { sede: 1 } as object), refused(/^sede: .*'seed'/s));
});

test('data are the same in whatever order their fields are given', async () => {
  const fields = { x: [[1], [2], [3], [4]], label: [0, 1, 0, 1] };
  using one = await memoryData({ train: fields });
  using other = await memoryData({ train: { label: fields.label, x: fields.x } });
  using different = await memoryData({ train: { ...fields, label: [0, 1, 1, 1] } });
  assert.equal(other.fingerprint, one.fingerprint);
  assert.notEqual(different.fingerprint, one.fingerprint);
});

test('what a callback logs is finite: the log could not tell it from nothing', async () => {
  const model = pointModel();
  for (const value of [NaN, -Infinity]) {
    const callbacks = { onEpochEnd: ({ log }: EpochContext) => log({ a: value }) };
    const trainer = new Trainer({ model, data, train: { epochs: 1, amp: 'off' }, callbacks });
    const train = async (): Promise<void> => {
      for await (const _ of trainer.fit());
    };
    await assert.rejects(train(), refused(new RegExp(`'a' is no finite number: ${value}`)));
  }
  model.dispose();
});
