/**
 * A full or read-only disk at any write of a run: a typed error, and nothing that a resume cannot repair. Every single
 * write of the first settings fails in turn, of the others every so many: FORNAX_FAULT_STRIDE, 1 for all.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { trainJob } from '#fornax/train/job.js';

import type { FaultJob, FaultResult } from './support/fault_child.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

const source = fileURLToPath(new URL('../../../test/support/faults.c', import.meta.url));
const child = fileURLToPath(new URL('./support/fault_child.js', import.meta.url));
const run = promisify(execFile);

const STRIDE = Number(process.env['FORNAX_FAULT_STRIDE'] ?? 12);
/** Processes at a time: of the writes that fail, each takes every so many. */
const LANES = 2;

const skip = process.platform === 'linux' ? false : 'the shim that injects faults is for Linux';

/** What failed in runs with these settings, everything else being small. */
async function faultsOf(
  { train, checkpoint }: Pick<ConfigInput, 'train' | 'checkpoint'>,
  stride: number,
): Promise<FaultResult> {
  // Waiting for a real disk takes most of the time, and tells nothing.
  await using root = await temporaryFolder({ inMemory: true });
  // Containers mount the folder in memory so that nothing in it can be executed.
  await using programs = await temporaryFolder();
  const library = path.join(programs.path, 'faults.so');
  await run('cc', ['-O1', '-shared', '-fPIC', '-o', library, source, '-ldl', '-lpthread']);
  const images = path.join(root.path, 'images');
  await writeColourFolder(images, { train: 4, val: 2 });
  const configOf = (name: string): FaultJob['config'] =>
    defineConfig({
      name,
      model: { name: 'tiny_cnn' },
      device: 'cpu',
      data: { path: images, cache: path.join(root.path, 'cache'), resolution: 16, workers: 1 },
      run: { dir: path.join(root.path, 'runs') },
      checkpoint: { everySteps: 1, ...checkpoint },
      // One thread: those of a pool would wait for each other most of the time.
      train: { epochs: 2, batchSize: 6, lr: 0.05, amp: 'off', threads: 1, ...train },
    });
  // The pack lies outside of FAULT_ROOT and is there already.
  await trainJob(configOf('pack'));
  const lanes = Array.from({ length: LANES }, async (_, lane): Promise<FaultResult> => {
    const config = configOf(`fault${lane}`);
    const job: FaultJob = { config, first: 1 + lane * stride, stride: LANES * stride };
    const env = {
      ...process.env,
      LD_PRELOAD: library,
      FAULT_ROOT: path.join(config.run.dir, config.name),
    };
    const { stdout } = await run(process.execPath, [child, JSON.stringify(job)], { env });
    return JSON.parse(stdout) as FaultResult;
  });
  const results = await Promise.all(lanes);
  const struck: Record<string, number> = {};
  for (const result of results) {
    for (const [key, count] of Object.entries(result.struck)) struck[key] = (struck[key] ?? 0) + count;
  }
  return { struck, errors: results.flatMap(({ errors }) => errors) };
}

function report(t: TestContext, { struck }: FaultResult): void {
  t.diagnostic(
    Object.entries(struck)
      .map(([key, count]) => `${key}: ${count}`)
      .join(', '),
  );
}

test('a disk that fails at any single write costs nothing that was kept', { skip }, async (t) => {
  const result = await faultsOf({ train: { ema: { decay: 0.9 }, bnRecompute: 2 } }, 1);
  report(t, result);
  const { struck, errors } = result;
  assert.equal(Object.keys(struck).length, 6);
  for (const [key, count] of Object.entries(struck)) {
    assert.ok(count > (key.endsWith('start') ? 70 : 25), `${key}: only ${count} faults`);
  }
  for (const said of [/no space|disk is full/i, /read-only/i]) {
    assert.ok(
      errors.some((what) => said.test(what)),
      errors.join('; '),
    );
  }
});

for (const [name, settings] of Object.entries({
  'SWA, mixup, the best checkpoints': {
    train: {
      optimizer: 'adamw',
      mixup: 0.2,
      swa: { start: 0.5, interval: 1, lr: 0.01 },
      bnRecompute: 2,
      headLr: '3x',
    },
    checkpoint: { keepBest: 2, monitor: 'loss' },
  },
  'reduce on plateau, early stopping, accumulation': {
    train: {
      epochs: 4,
      gradAccum: 2,
      schedule: { name: 'reduce_on_plateau', patience: 0, factor: 0.5, threshold: 0.5 },
      earlyStopping: { patience: 2, monitor: 'loss', minDelta: 10 },
    },
    checkpoint: { keepEveryEpochs: 2 },
  },
} satisfies Record<string, Pick<ConfigInput, 'train' | 'checkpoint'>>)) {
  test(`nor does one that fails with ${name}`, { skip }, async (t) => {
    const result = await faultsOf(settings, STRIDE);
    report(t, result);
    for (const [key, count] of Object.entries(result.struck)) {
      assert.ok((count + 1) * STRIDE > 24, `${key}: only ${count} faults`);
    }
  });
}
