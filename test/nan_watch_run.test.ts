/** Runs that meet NaN: what stops, what goes on from a checkpoint, and that resuming changes nothing. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import { loadAddon } from '#fornax/native.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import type { JobEvent } from '#fornax/train/events.js';
import { memoryData, type MemoryData, type Sample } from '#fornax/train/memory_data.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';
import { trainOptions } from '#fornax/train/train_options.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';
import { crossEntropy } from '#fornax/losses/index.js';

import { temporaryFolder } from './support/image_folder.js';
import { logOf } from './support/run_results.js';
import { pointModel, pointSamples, weightsOf } from './support/points.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
let data: MemoryData;
let sound: MemoryData;

/** The same points; with `bad`, one number of one of them is that. */
function* samples(bad: number | null): Generator<Sample> {
  let i = 0;
  for (const sample of pointSamples(40)) {
    const left = Float32Array.from(sample['left'] as Float32Array);
    if (bad !== null && i++ === 17) left[2] = bad;
    yield { ...sample, left };
  }
}

before(async () => {
  root = await temporaryFolder();
  data = await memoryData({ train: samples(NaN) });
  sound = await memoryData({ train: samples(null) });
});
after(async () => {
  data.dispose();
  sound.dispose();
  await root[Symbol.asyncDispose]();
});

const plain = { epochs: 3, batchSize: 4, lr: 0.05, amp: 'off', optimizer: 'adamw' } as const;
const stepsPerEpoch = 10;

interface Run {
  weights: string;
  events: JobEvent[];
  trainer: Trainer;
  error: Error | null;
}

async function train(
  settings: TrainerOptions['train'],
  more: Partial<TrainerOptions> = {},
  stopAfterEpoch = Infinity,
  stopAfterStep = Infinity,
): Promise<Run> {
  using model = pointModel();
  const stop = new AbortController();
  const stopAt = ({ step }: { step: number }): void => {
    if (step === stopAfterStep) stop.abort();
  };
  const callbacks = { onSteps: { every: 1, call: stopAt } };
  const trainer = new Trainer({
    model,
    data,
    device: 'cpu',
    train: { ...plain, ...settings },
    ...(stopAfterStep < Infinity && { callbacks }),
    ...more,
  });
  const events: JobEvent[] = [];
  let error: Error | null = null;
  try {
    for await (const event of trainer.fit({ signal: stop.signal, resume: more.folder ? 'auto' : false })) {
      events.push(event);
      if (event.type === 'epoch' && event.epoch === stopAfterEpoch) stop.abort();
    }
  } catch (thrown) {
    error = thrown as Error;
  }
  return { weights: weightsOf(model), events, trainer, error };
}

const faults = (events: JobEvent[]) =>
  events.flatMap((event) => (event.type === 'not_finite' ? [event] : []));
const rollback = { nanWatch: { policy: 'rollback' } } as const;
const folderOf = (name: string): string => path.join(root.path, name);

test('a run stops at NaN in the data, says where, and keeps its checkpoints', async () => {
  const folder = folderOf('stopped');
  const { error, events, weights } = await train({ gradAccum: 2 }, { folder, checkpoint: { everySteps: 1 } });
  assert.equal(error?.name, 'TrainError');
  assert.match(
    error.message,
    /the loss is not finite \(NaN\) at step \d: the batch is not finite: its `left` has 1 NaN of 16/,
  );
  const [fault] = faults(events);
  assert.deepEqual([fault!.action, fault!.node, fault!.what], ['stop', 'left', 'loss']);
  assert.ok(!weights.includes('null'), 'no weight is NaN');
  const newest = await new CheckpointStore(path.join(folder, 'checkpoints')).newest(() => undefined);
  assert.equal(newest?.state.step, fault!.step - 1);
});

test('with accumulation, mixed precision and clipping the same batch is named', async () => {
  for (const settings of [{ clipNorm: 1 }, { amp: 'bf16' as const }, { gradAccum: 3 }]) {
    const { error } = await train(settings);
    assert.match(error?.message ?? '', /its `left` has 1 NaN/, JSON.stringify(settings));
  }
});

test('an exploding rate stops with the first bad node', async () => {
  const { error } = await train({ lr: 1e30, optimizer: 'sgd' }, { data: sound });
  assert.match(
    error?.message ?? '',
    /not finite.* at step \d+.*(first bad node|first bad gradient|parameter)/,
  );
});

test('a rollback goes on from the last checkpoint, behind the bad batch', async () => {
  const { events, error, trainer, weights } = await train(rollback, { folder: folderOf('rolled') });
  assert.equal(error, null);
  const found = faults(events);
  assert.deepEqual(
    found.map(({ action, to, epoch }) => [action, to, epoch]),
    [
      ['rollback', null, 1],
      ['rollback', 10, 2],
      ['rollback', 20, 3],
    ],
  );
  assert.match(found[1]!.message, /Rollback 2 of 3: on from those of step 10, behind this batch/);
  assert.deepEqual(
    trainer.history.map(({ step }) => step),
    [10, 20, 30],
  );
  assert.ok(trainer.history.every(({ loss }) => Number.isFinite(loss)));

  // The same by hand: native steps up to the bad one, the snapshot of the epoch's beginning, native steps behind it.
  using model = pointModel();
  const config = defineConfig({ train: plain, data: { source: 'shapes' } }).train;
  const { Loader, TrainSession } = loadAddon();
  const options = trainOptions(model.graph, { ...config, batchSize: 4 } as never, {
    device: 'cpu',
    amp: 'off',
    loss: crossEntropy(),
    stepsPerEpoch,
    normalize: null,
  });
  const session = new TrainSession(model.native, options);
  const loader = new Loader(data.loaderOptions('train', { batchSize: 4, seed: 0 }));
  for (const [epoch, { step }] of found.entries()) {
    const begin = epoch * stepsPerEpoch;
    const weightsBefore = new Map(model.state().map(({ name, tensor }) => [name, tensor.native]));
    const copies = Object.fromEntries(
      [...weightsBefore].map(([name, tensor]) => [
        name,
        loadAddon().Tensor.fromTypedArray(tensor.toTypedArray().slice() as Float32Array, tensor.shape),
      ]),
    );
    const snapshot = session.snapshot();
    loader.startEpoch(epoch, 0);
    if (step - 1 > begin) await session.run(loader, { steps: step - 1 - begin });
    if (epoch > 0) model.native.loadState(copies);
    // In the first epoch there is no checkpoint yet: the weights are those before the bad step.
    session.restore(epoch > 0 ? snapshot : session.snapshot(), step);
    loader.startEpoch(epoch, step - begin);
    if (step < begin + stepsPerEpoch) await session.run(loader, { steps: begin + stepsPerEpoch - step });
  }
  session.dispose();
  loader.dispose();
  assert.equal(weightsOf(model), weights);
});

test('a resumed run rolls back as one that was not interrupted', async () => {
  const whole = await train({ ...rollback, ema: { decay: 0.9 } }, { folder: folderOf('whole') });
  const folder = folderOf('resumed');
  for (const epoch of [1, 2]) {
    const part = await train({ ...rollback, ema: { decay: 0.9 } }, { folder }, epoch);
    assert.ok(part.trainer.interrupted);
  }
  const resumed = await train({ ...rollback, ema: { decay: 0.9 } }, { folder });
  assert.equal(resumed.weights, whole.weights);
  assert.deepEqual(resumed.trainer.history, whole.trainer.history);
  // The rollbacks before count, too.
  assert.match(faults(resumed.events)[0]!.message, /Rollback 3 of 3/);
});

test('rollbacks come to an end', async () => {
  const nanWatch = { policy: 'rollback', rollbacks: 2 } as const;
  const { error, events } = await train({ nanWatch }, { folder: folderOf('ended') });
  assert.match(error?.message ?? '', /at step 2\d: .*, after 2 rollbacks/);
  assert.deepEqual(
    faults(events).map(({ action }) => action),
    ['rollback', 'rollback', 'stop'],
  );
});

test('a run that was stopped goes on with another policy', async () => {
  const folder = folderOf('changed');
  const first = await train({}, { folder, checkpoint: { everySteps: 2 } });
  assert.ok(first.error);
  const second = await train(rollback, { folder, checkpoint: { everySteps: 2 } });
  assert.equal(second.error, null);
  assert.equal(second.trainer.history.length, 3);
});

test('nobody looks where the watch is off', async () => {
  const { error, weights } = await train({ nanWatch: { policy: 'off' } });
  assert.equal(error, null);
  assert.ok(weights.includes('null'), 'the weights have it');
});

/** Checkpoints that an interruption or the clock adds are no place to go back to, and push none of those out. */
for (const [name, checkpoint, stops] of [
  ['between the epochs that have a checkpoint', { everyEpochs: 5 }, [20]],
  ['twice within a few steps', { everySteps: 7, everyEpochs: 5 }, [15, 16]],
  ['with checkpoints by the clock', { everySteps: 7, everyEpochs: 5, everyMinutes: 1e-5 }, [12]],
] as const) {
  test(`a run that is interrupted ${name} rolls back as one that is not`, async () => {
    const settings = { epochs: 6, nanWatch: { policy: 'rollback', rollbacks: 20 } } as const;
    const plainly = { ...checkpoint, everyMinutes: null };
    const whole = await train(settings, { folder: folderOf(`${name}, whole`), checkpoint: plainly });
    assert.equal(whole.error, null);
    const folder = folderOf(name);
    const events: JobEvent[] = [];
    for (const stop of stops) {
      const part = await train(settings, { folder, checkpoint }, Infinity, stop);
      assert.ok(part.trainer.interrupted, part.error?.message);
      events.push(...part.events);
    }
    const resumed = await train(settings, { folder, checkpoint });
    events.push(...resumed.events);
    const rollbacks = (all: JobEvent[]): unknown[] => faults(all).map(({ step, to }) => [step, to]);
    assert.deepEqual(rollbacks(events), rollbacks(whole.events));
    assert.equal(resumed.weights, whole.weights);
    // That it was resumed from stays, wherever it has gone back to.
    const names = (await new CheckpointStore(path.join(folder, 'checkpoints')).list()).map(
      ({ step }) => step,
    );
    assert.ok(names.includes(stops.at(-1)!), names.join(', '));
  });
}

test('hooks and records of steps that were left out come at their places', async () => {
  const folder = folderOf('left out');
  const seen: number[] = [];
  const callbacks = { onSteps: { every: 1, call: ({ step }: { step: number }) => void seen.push(step) } };
  const settings = { epochs: 8, nanWatch: { policy: 'rollback', rollbacks: 20 } } as const;
  const { events, error } = await train(settings, { folder, callbacks });
  assert.equal(error, null);
  assert.deepEqual(
    seen,
    Array.from({ length: 80 }, (_, i) => i + 1),
  );
  const leftOut = faults(events).map(({ step }) => step);
  assert.ok(
    leftOut.some((step) => step % stepsPerEpoch === 0),
    `none is an epoch's last: ${leftOut.join()}`,
  );
  const records = await logOf(folder, ['steps']);
  assert.deepEqual(
    records.map(({ epoch, step }) => [epoch, step]),
    Array.from({ length: 8 }, (_, i) => [i + 1, 10 * (i + 1)]),
  );
  const losses = records.flatMap(({ losses }) => losses as (number | null)[]);
  assert.deepEqual(
    losses.flatMap((loss, i) => (loss === null ? [i + 1] : [])),
    leftOut,
  );
});

test('steps that a scaler skips cost no checkpoint, and are counted', async () => {
  // The configuration allows fp16 on CUDA alone; the native core computes it anywhere.
  const feature: RunFeature = {
    prepare({ session }) {
      session.amp = 'fp16';
      session.scaler = { init_scale: 1024 };
    },
  };
  (RUN_FEATURES as RunFeature[]).push(feature);
  try {
    // More than float16 holds.
    using large = await memoryData({ train: samples(1e6) });
    const settings = { folder: folderOf('fp16'), data: large };
    const unwatched = { nanWatch: { policy: 'off' } } as const;
    const first = await train(unwatched, settings, 1);
    assert.ok(first.trainer.interrupted, first.error?.message);
    const { error, trainer, events } = await train(unwatched, settings);
    assert.equal(error, null);
    assert.ok(trainer.history.every(({ loss }) => Number.isFinite(loss)));
    const epochs = (await logOf(settings.folder, ['epoch'])).map(({ skipped_steps: skipped }) => skipped);
    assert.deepEqual(epochs, [1, 2, 3]);
    const done = events.find((event) => event.type === 'done');
    assert.equal(done?.skippedSteps, 3);
  } finally {
    (RUN_FEATURES as RunFeature[]).pop();
  }
});

test('without a checkpoint none is named, and scripts are told of their own settings', async () => {
  const { error } = await train({});
  assert.doesNotMatch(error?.message ?? '', /checkpoint|resume|clip_norm/);
  const kept = await train({}, { folder: folderOf('kept'), checkpoint: { everySteps: 1 } });
  assert.match(kept.error?.message ?? '', /checkpoint is sound \(fit\(\{ resume: true \}\)/);
});

test('losses that are not finite leave checkpoints that can be resumed', async () => {
  const folder = folderOf('unwatched');
  const nanWatch = { policy: 'off' } as const;
  const first = await train({ nanWatch }, { folder }, 2);
  assert.ok(first.trainer.interrupted, first.error?.message);
  const second = await train({ nanWatch }, { folder });
  assert.equal(second.error, null);
  const losses = second.trainer.history.map(({ loss }) => loss);
  assert.deepEqual(losses.map(Number.isFinite), [true, false, false]);
});
