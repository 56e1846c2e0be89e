/** What ends a run before its last epoch, and which checkpoints it keeps. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { parseDuration } from '#fornax/config/duration.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { ConfigError } from '#fornax/errors.js';
import { Model } from '#fornax/model.js';
import { Linear } from '#fornax/nn/index.js';
import { CheckpointStore, type EpochRecord } from '#fornax/train/checkpoint.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { RunProgress } from '#fornax/train/run_progress.js';
import { stopNow } from '#fornax/train/stopping.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns({ train: { epochs: 6 } });
const { config, run } = tiny;

function history(top1: (number | null)[], loss = top1.map(() => 1)): EpochRecord[] {
  return top1.map((value, i) => ({
    epoch: i + 1,
    step: 10 * (i + 1),
    loss: 1,
    lr: 0.1,
    evaluation: value === null ? null : { loss: loss[i]!, top1: value, top5: 1, samples: 10 },
  }));
}

test('lengths of time', () => {
  assert.deepEqual(
    ['90s', '45m', '1h30m', '2d', '0.5h', '1d 2h', '', '0s', '5', '1x', 'm', '-1h'].map(parseDuration),
    [90, 2700, 5400, 172_800, 1800, 93_600, null, null, null, null, null, null],
  );
  assert.throws(
    () => config('a', { train: { maxTime: 'soon' } }),
    (error) => error instanceof ConfigError && /90s, 45m/.test(error.message),
  );
});

test('early stopping counts evaluations without an improvement', () => {
  const stopping = { patience: 2 };
  const stop = (changes: object, epochs: EpochRecord[]): string | null =>
    stopNow(config('a', { train: { earlyStopping: { ...stopping, ...changes } } }), epochs, 0)?.reason ??
    null;
  assert.equal(stop({}, history([0.5, 0.6, 0.6])), null);
  assert.equal(stop({}, history([0.5, 0.6, 0.6, 0.59])), 'early_stopping');
  assert.equal(stop({}, history([0.5, 0.6, 0.6, 0.61])), null);
  // Epochs that were not evaluated do not count, nor do changes that are too small.
  assert.equal(stop({}, history([0.6, null, null, 0.5])), null);
  assert.equal(stop({ minDelta: 0.02 }, history([0.6, 0.61, 0.615])), 'early_stopping');
  assert.equal(stop({ monitor: 'loss' }, history([0.1, 0.2, 0.3], [1, 1.1, 1.2])), 'early_stopping');
  assert.equal(stop({ monitor: 'loss' }, history([0.3, 0.2, 0.1], [1, 0.9, 0.8])), null);
  // A loss that was never finite does not keep a run alive.
  assert.equal(stop({ monitor: 'loss' }, history([0.3, 0.2], [NaN, NaN])), 'early_stopping');
  assert.equal(stopNow(config('a'), history([0.5, 0.4, 0.3, 0.2]), 1e9), null);
});

test('a run stops early with its best weights, and a resume leaves it so until the limit is raised', async () => {
  // No image ever changes its class at this rate.
  const given = config('early', { train: { lr: 1e-12, earlyStopping: { patience: 2 } } });
  const { events, outcome } = await run(given);
  assert.equal(outcome.epochs, 3);
  const stopped = events.find(({ type }) => type === 'stopped');
  assert.match((stopped as { message: string }).message, /top1 has not improved in 2 evaluations/);
  assert.equal(events.at(-1)!.type, 'done');
  const summary = JSON.parse(
    await fs.readFile(path.join(tiny.root, 'runs', 'early', 'summary.json'), 'utf8'),
  ) as { stopped: string; epochs: number };
  assert.deepEqual([summary.stopped, summary.epochs], ['early_stopping', 3]);

  assert.equal((await run(given, { resume: true })).events.at(-1)!.type, 'skipped');
  const patient = config('early', { train: { lr: 1e-12, earlyStopping: { patience: 4 } } });
  assert.equal((await run(patient, { resume: true })).outcome.epochs, 5);
});

test('what goes by an evaluation needs images for it', async () => {
  const samples = Array.from({ length: 12 }, (_, i) => [Math.sin(i), Math.cos(i)]);
  using data = await memoryData({ train: { x: samples, label: samples.map(([a]) => (a! > 0 ? 1 : 0)) } });
  const fit = async (train: TrainerOptions['train']): Promise<void> => {
    using model = Model.create(new Linear(2, 2), { inputs: [{ name: 'x', shape: [1, 2] }] });
    const trainer = new Trainer({ model, data, device: 'cpu', train: { epochs: 1, batchSize: 4, ...train } });
    for await (const _ of trainer.fit()) continue;
  };
  const refused = (where: string) => (error: unknown) =>
    error instanceof ConfigError && error.where === where;
  await assert.rejects(fit({ earlyStopping: { patience: 1 } }), refused('train.early_stopping'));
  const plateau = (metric: 'top1' | 'loss') => ({ schedule: { name: 'reduce_on_plateau', metric } }) as const;
  await assert.rejects(fit(plateau('top1')), refused('train.schedule.metric'));
  await fit(plateau('loss'));
});

test('max_time ends a run in the middle of an epoch; the time of all parts counts', async () => {
  const endless = { epochs: 100_000, batchSize: 4 };
  const { events } = await run(config('timed', { train: { ...endless, maxTime: '1.5s' } }));
  assert.deepEqual(
    events.filter(({ type }) => ['stopped', 'done'].includes(type)).map(({ type }) => type),
    ['stopped', 'done'],
  );
  const [newest] = await new CheckpointStore(path.join(tiny.root, 'runs', 'timed', 'checkpoints')).list();
  assert.ok(newest);
  const again = await run(config('timed', { train: { ...endless, maxTime: '1.5s' } }), { resume: true });
  const skipped = again.events.at(-1)!;
  assert.ok(skipped.type === 'skipped');
  assert.match(skipped.message, /^Stopped: train\.max_time \(1\.5s\) is over, and .*train\.max_time=…/s);
  const controller = new AbortController();
  const longer = await run(config('timed', { train: { ...endless, maxTime: '1h' } }), {
    resume: true,
    signal: controller.signal,
    report: ({ type }) => {
      if (type === 'steps') controller.abort();
    },
  });
  const resumed = longer.events.find(({ type }) => type === 'resumed') as { step: number };
  assert.equal(resumed.step, newest.step);
  assert.ok(longer.outcome.steps > newest.step);
  // The model is of the first end: under its limit the run ends once more, with the weights of now.
  const ended = await run(config('timed', { train: { ...endless, maxTime: '1.5s' } }), { resume: true });
  assert.equal(ended.events.at(-1)!.type, 'done');
  assert.equal(ended.outcome.steps, longer.outcome.steps);
});

test('the best checkpoints and those of every n-th epoch are kept', () => {
  const kept = (changes: ConfigInput['checkpoint'], epochs: EpochRecord[]): number[] => {
    const progress = new RunProgress(config('a', { checkpoint: changes }).checkpoint);
    progress.history = epochs;
    return [...progress.keptSteps].sort((a, b) => a - b);
  };
  const epochs = history([0.5, 0.9, null, 0.7, 0.9, 0.8], [5, 4, 0, 2, 3, 1]);
  assert.deepEqual(kept({}, epochs), [20]);
  assert.deepEqual(kept({ keepBest: 3 }, epochs), [20, 50, 60]);
  assert.deepEqual(kept({ keepBest: 2, monitor: 'loss' }, epochs), [40, 60]);
  assert.deepEqual(kept({ keepEveryEpochs: 3 }, epochs), [20, 30, 60]);
});

test('checkpoints inside an epoch, every so many steps', async () => {
  const given = config('steps', {
    checkpoint: { everySteps: 2, everyEpochs: 100, keep: 50 },
    train: { epochs: 1, batchSize: 4 },
  });
  const { events } = await run(given);
  const steps = events
    .filter(({ type }) => type === 'checkpoint')
    .map((event) => (event as { step: number }).step);
  const last = steps.at(-1)!;
  assert.ok(last > 4, `only ${last} steps`);
  const expected = Array.from({ length: Math.ceil(last / 2) - 1 }, (_, i) => 2 * (i + 1));
  assert.deepEqual(steps, [...expected, last]);
});

test('a run that stops at the end of an epoch without a checkpoint writes one', async () => {
  const changes = { checkpoint: { everyEpochs: 5 }, train: { lr: 1e-12 } };
  const early = { ...changes, train: { ...changes.train, earlyStopping: { patience: 2 } } };
  const { events, outcome } = await run(config('sparse', early));
  assert.equal(outcome.epochs, 3);
  const reasons = events.flatMap((event) => (event.type === 'checkpoint' ? [event.reason] : []));
  assert.deepEqual(reasons, ['epoch', 'stopped']);
  // Nothing that was trained is trained again.
  const longer = await run(config('sparse', changes), { resume: true });
  const resumed = longer.events.find(({ type }) => type === 'resumed');
  assert.equal((resumed as { epoch: number }).epoch, 3);
  assert.equal(longer.outcome.epochs, 6);
});

test('the best epochs are kept, also between those that have a checkpoint', async () => {
  // The loss falls, and is said to be best where it is largest: the first epochs are the best.
  const checkpoint = { everyEpochs: 4, keepBest: 3, monitor: 'loss', mode: 'max' } as const;
  const { outcome } = await run(config('ranked', { checkpoint }));
  const summary = JSON.parse(await fs.readFile(path.join(outcome.folder, 'summary.json'), 'utf8')) as {
    history: { step: number; evaluation: { loss: number } }[];
  };
  const best = [...summary.history].sort((a, b) => b.evaluation.loss - a.evaluation.loss).slice(0, 3);
  const kept = (await new CheckpointStore(path.join(outcome.folder, 'checkpoints')).list()).map(
    ({ step }) => step,
  );
  for (const { step } of best) assert.ok(kept.includes(step), `${step} is not in ${kept.join(', ')}`);
});
