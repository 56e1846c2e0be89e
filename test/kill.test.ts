/**
 * SIGKILL at any moment: during a step, an evaluation, a checkpoint. A resumed run must come to the very same
 * weights, optimizer, figures and log as one that nobody disturbed. FORNAX_KILLS: how many kills (default 20).
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { defineConfig } from '#fornax/config/load.js';
import type { Config } from '#fornax/config/schema.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { trainJob } from '#fornax/train/job.js';

import { temporaryFolder, writeColourFolder } from './support/image_folder.js';
import { random as integers } from './support/random.js';
import { logOf, weightsOf } from './support/run_results.js';

const KILLS = Number(process.env['FORNAX_KILLS'] ?? 20);
const SEED = Number(process.env['FORNAX_KILL_SEED'] ?? Date.now() % 1_000_000);
const child = fileURLToPath(new URL('./support/kill_child.js', import.meta.url));

/** Longest time, ms, that a child lives after its mark: time for steps, evaluations and checkpoints. */
const LONGEST_LIFE = 10_000;

/** Also checkpoints: they come after so many steps. How many epochs there are to be is no part of what was done. */
async function records(folder: string): Promise<unknown[]> {
  const log = await logOf(folder, ['steps', 'epoch', 'evaluation', 'checkpoint']);
  return log.map(({ epochs: _, ...rest }) => rest);
}

/** @returns whether it was killed, and did not come to an end before */
async function runAndKill(config: Config, after: 'ready' | 'start', life: number): Promise<boolean> {
  const process_ = spawn(process.execPath, [child], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(process_, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  process_.stdin.end(JSON.stringify(config));
  let printed = '';
  const reached = new Promise<void>((resolve) => {
    process_.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      if (printed.includes(after)) resolve();
    });
  });
  await Promise.race([reached, exit]);
  await Promise.race([sleep(life), exit]);
  process_.kill('SIGKILL');
  const [code, signal] = await exit;
  assert.ok(signal === 'SIGKILL' || code === 0, `the child failed with ${code}`);
  return signal === 'SIGKILL';
}

test(
  `a run that is killed ${KILLS} times ends as if nothing had happened`,
  { timeout: 7_200_000 },
  async (t) => {
    t.diagnostic(`FORNAX_KILL_SEED=${SEED}`);
    const draw = integers(SEED);
    const random = (): number => draw(1 << 30) / (1 << 30);
    await using root = await temporaryFolder();
    const images = path.join(root.path, 'images');
    await writeColourFolder(images, { train: 20, val: 40 });
    const config = (name: string, epochs: number, workers: number): Config =>
      defineConfig({
        name,
        model: { name: 'tiny_cnn', options: { dropout: 0.3 } },
        device: 'cpu',
        data: { path: images, cache: path.join(root.path, 'cache'), resolution: 24, workers },
        run: { dir: path.join(root.path, 'runs') },
        checkpoint: { everySteps: 4, keepBest: 2, keepEveryEpochs: 7 },
        // Without end while processes are killed; the schedule does not depend on it.
        train: {
          epochs,
          batchSize: 3,
          gradAccum: 3,
          clipNorm: 1,
          labelSmoothing: 0.1,
          amp: 'bf16',
          optimizer: { name: 'adamw' },
          lr: 0.002,
          schedule: { name: 'constant', warmupSteps: 5 },
        },
      });
    const name = 'killed';
    const folder = path.join(root.path, 'runs', name);
    const store = new CheckpointStore(path.join(folder, 'checkpoints'));
    let life = 500;
    let reached = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const workers = 1 + Math.floor(3 * random());
      const after = random() < 0.2 ? 'ready' : 'start';
      assert.ok(await runAndKill(config(name, 100_000, workers), after, life * random()));
      // Until one life in two gets as far as a new checkpoint, however busy the machine is.
      const { step = 0 } = (await store.list())[0] ?? {};
      if (step <= reached) life = Math.min(1.25 * life, LONGEST_LIFE);
      reached = step;
    }
    const newest = await store.newest(() => undefined);
    assert.ok(newest, 'not one checkpoint was written between the kills');
    const epochs = newest.state.epoch + 1;
    t.diagnostic(`${epochs} epochs, ${newest.state.step} steps`);
    await trainJob(config(name, epochs, 2), { resume: true });
    const straight = await trainJob(config('straight', epochs, 1));

    assert.deepEqual(
      await weightsOf(path.join(folder, 'model.safetensors')),
      await weightsOf(path.join(straight.folder, 'model.safetensors')),
    );
    const checkpoints = async (of: string): Promise<string[]> =>
      (await new CheckpointStore(path.join(of, 'checkpoints')).list()).map((entry) => entry.path);
    const [last] = await checkpoints(folder);
    const [expected] = await checkpoints(straight.folder);
    assert.equal(path.basename(last!), path.basename(expected!));
    for (const file of ['model.safetensors', 'optimizer.safetensors']) {
      assert.deepEqual(await weightsOf(path.join(last!, file)), await weightsOf(path.join(expected!, file)));
    }
    assert.deepEqual(await records(folder), await records(straight.folder));
    const left = (await fs.readdir(folder, { recursive: true })).filter((entry) => entry.includes('.tmp-'));
    assert.deepEqual(left, [], 'orphans were left');
  },
);
