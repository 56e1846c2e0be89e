/** The dry run and the overfit check. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import { AbortedError, TrainError } from '#fornax/errors.js';
import type { JobEvent } from '#fornax/train/events.js';
import { dryRun, overfitCheck } from '#fornax/train/trial.js';

import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns({ train: { epochs: 20 } });
const { config } = tiny;

test('a dry run does every phase once and leaves nothing behind', async () => {
  // A folder of its own: other tests make trials at the same time.
  const { TMPDIR: outer } = process.env;
  process.env['TMPDIR'] = path.join(tiny.root, 'temporary');
  mkdirSync(process.env['TMPDIR']);
  const events: JobEvent[] = [];
  // A warm-up longer than the one step of the trial is no obstacle.
  const given = config('trial', { train: { gradAccum: 2, schedule: { name: 'cosine', warmupEpochs: 5 } } });
  try {
    await dryRun(given, { report: (event) => events.push(event) });
    assert.deepEqual(readdirSync(tmpdir()), []);
  } finally {
    if (outer === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = outer;
  }
  const start = events.find(({ type }) => type === 'start') as {
    stepsPerEpoch: number;
    trainSamples: number;
  };
  assert.deepEqual([start.stepsPerEpoch, start.trainSamples], [1, 16]);
  // No path to a model that is gone by now.
  assert.ok(!events.some(({ type }) => type === 'done'));
  for (const type of ['steps', 'evaluation', 'checkpoint']) {
    assert.ok(
      events.some((event) => event.type === type),
      `no ${type}`,
    );
  }
  assert.match((events.at(-1) as { message: string }).message, /Dry run done/);
  assert.ok(!existsSync(path.join(tiny.root, 'runs')));
});

test('a dry run takes the schedule for that of the run itself', async () => {
  const schedule = (warmupSteps: number) => ({ name: 'cosine', warmupSteps }) as const;
  // 3 epochs of 8 steps; those of the trial have one.
  await dryRun(config('trial', { train: { epochs: 3, schedule: schedule(5) } }));
  await assert.rejects(
    dryRun(config('trial', { train: { epochs: 3, schedule: schedule(24) } })),
    /warm-up of 24 steps is as long as the whole training \(24 steps\)/,
  );
});

test('a dry run finds what only the native core refuses of a schedule', async () => {
  const schedule = { name: 'one_cycle', cycleMomentum: true } as const;
  await dryRun(config('trial', { train: { epochs: 1, schedule } }));
  await assert.rejects(
    dryRun(config('trial', { train: { optimizer: 'adagrad', schedule } })),
    /the schedule moves momentum, which the optimizer does not have/,
  );
});

test('whether anything is learnt is asked of the weights, not of their average', async () => {
  const ema = { decay: 0.9999, warmup: false };
  const metrics = await overfitCheck(config('trial', { train: { ema, bnRecompute: 1 } }), 9);
  assert.equal(metrics.top1, 1);
});

test('a sound setup learns a few images by heart', async () => {
  // A limit of time is one of the run, as its number of epochs is.
  const metrics = await overfitCheck(config('trial', { train: { epochs: 1, maxTime: '0.001s' } }), 9);
  assert.equal(metrics.top1, 1);
  assert.equal(metrics.samples, 9);
});

test('one that cannot learn is told so', async () => {
  await assert.rejects(overfitCheck(config('trial', { train: { lr: 1e-12 } }), 6), (error) => {
    assert.ok(error instanceof TrainError);
    assert.match(error.message, /did not learn 6 images by heart.*labels/s);
    return true;
  });
});

test('a signal stops a trial', async () => {
  const controller = new AbortController();
  const report = (event: JobEvent): void => {
    if (event.type === 'start') controller.abort();
  };
  await assert.rejects(
    overfitCheck(config('trial', { train: { lr: 1e-12 } }), 6, { report, signal: controller.signal }),
    AbortedError,
  );
});
