/** What a run remembers and where features plug into it. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ArgumentError } from '#fornax/errors.js';
import { CheckpointStore, type CheckpointContents } from '#fornax/train/checkpoint.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';
import { RunHooks, type RunMoment } from '#fornax/train/run_hooks.js';
import { RunState } from '#fornax/train/run_state.js';

import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns();
const { config, run } = tiny;

/** For one test. */
async function withFeature(feature: RunFeature, work: () => Promise<void>): Promise<void> {
  const features = RUN_FEATURES as RunFeature[];
  features.push(feature);
  try {
    await work();
  } finally {
    features.splice(features.indexOf(feature), 1);
  }
}

test('a part is restored as it registers, saved under its key, and no key is taken twice', () => {
  const state = new RunState({ counter: 5, unknown: 1 });
  let counter = 0;
  const owner = {
    key: 'counter',
    save: () => counter,
    restore: (saved: unknown) => void (counter = saved as number),
  };
  assert.equal(state.register(owner), true);
  assert.equal(counter, 5);
  assert.equal(state.register({ key: 'fresh', decided: true, save: () => [1], restore: assert.fail }), false);
  assert.equal(state.register({ key: 'nothing', save: () => undefined, restore: assert.fail }), false);
  assert.throws(() => state.register(owner), ArgumentError);
  counter = 6;
  assert.deepEqual(state.save(), { counter: 6, fresh: [1] });
  assert.deepEqual(state.saveDecided(), { fresh: [1] });
});

test('hooks are due at multiples of their steps', async () => {
  const hooks = new RunHooks();
  assert.equal(hooks.stepsUntilDue(7), Infinity);
  const called: [string, number][] = [];
  for (const everySteps of [4, 6]) {
    hooks.add({ everySteps, onSteps: ({ step }) => void called.push([`every ${everySteps}`, step]) });
  }
  assert.deepEqual(
    [0, 3, 4, 5, 12].map((step) => hooks.stepsUntilDue(step)),
    [4, 1, 2, 1, 4],
  );
  for (const step of [4, 5, 6, 12]) await hooks.steps({ step, epoch: 1 });
  assert.deepEqual(called, [
    ['every 4', 4],
    ['every 6', 6],
    ['every 4', 12],
    ['every 6', 12],
  ]);
  assert.throws(() => hooks.add({ everySteps: 0 }), ArgumentError);
});

test('hooks between steps change nothing that is computed, and checkpoints come as without them', async () => {
  const checkpoint = { everySteps: 5, keep: 20 };
  const plain = await run(config('plain', { checkpoint }));
  const moments: RunMoment[] = [];
  const feature: RunFeature = {
    attach: ({ hooks }) => hooks.add({ everySteps: 3, onSteps: (moment) => void moments.push(moment) }),
  };
  await withFeature(feature, async () => {
    const hooked = await run(config('hooked', { checkpoint }));
    assert.deepEqual(hooked.outcome.metrics, plain.outcome.metrics);
    const names = (name: string): Promise<string[]> =>
      fs.readdir(path.join(tiny.folder(name), 'checkpoints'));
    assert.deepEqual(await names('hooked'), await names('plain'));
  });
  assert.deepEqual(
    moments.map(({ step, epoch }) => [step, epoch]),
    [3, 6, 9, 12, 15, 18, 21, 24].map((step) => [step, Math.ceil(step / 8)]),
  );
});

test('what was settled before a run died without a checkpoint is settled the same way again', async () => {
  let measured = 0;
  const settled: number[] = [];
  const feature: RunFeature = {
    prepare: ({ state }) => {
      let verdict: number | null = null;
      state.register({
        key: 'verdict',
        decided: true,
        save: () => verdict,
        restore: (saved) => void (verdict = saved as number),
      });
      settled.push((verdict ??= ++measured));
    },
  };
  const dies = { report: ({ type }: { type: string }) => assert.notEqual(type, 'steps', 'it dies') };
  const given = (changes: object = {}): ReturnType<typeof config> =>
    config('settled', { train: { epochs: 1, ...changes } });
  await withFeature(feature, async () => {
    await assert.rejects(run(given(), dies), /it dies/);
    assert.ok(!existsSync(path.join(tiny.folder('settled'), 'checkpoints')));
    await assert.rejects(run(given(), { ...dies, resume: 'auto' }), /it dies/);
    // Of other settings it says nothing.
    await assert.rejects(run(given({ lr: 0.01 }), { ...dies, resume: 'auto' }), /it dies/);
    await assert.rejects(run(given(), { ...dies, force: true }), /it dies/);
    await run(given(), { resume: 'auto' });
    await run(config('settled', { train: { epochs: 2 } }), { resume: true });
  });
  assert.deepEqual(settled, [1, 1, 2, 3, 3, 3]);
});

test('a checkpoint holds the books of its own step, however late it is written', async () => {
  const save = CheckpointStore.prototype.save;
  const seen: [epoch: number, records: number][] = [];
  let evaluated = 0;
  let release = (): void => undefined;
  CheckpointStore.prototype.save = async function (this: CheckpointStore, contents: CheckpointContents) {
    // Written when the next epoch is in the books.
    const { epoch } = contents.state;
    if (epoch < 3) await new Promise<void>((resolve) => (release = () => evaluated > epoch && resolve()));
    seen.push([epoch, contents.state.history.length]);
    return save.call(this, contents);
  };
  try {
    await run(config('late'), {
      report: ({ type }) => {
        if (type !== 'evaluation') return;
        evaluated++;
        release();
      },
    });
  } finally {
    CheckpointStore.prototype.save = save;
  }
  assert.deepEqual(seen, [
    [1, 1],
    [2, 2],
    [3, 3],
  ]);
});
