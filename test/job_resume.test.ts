/** Jobs that are stopped, killed or finished and go on. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { Config, ConfigInput } from '#fornax/config/schema.js';
import { TrainError } from '#fornax/errors.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import type { JobEvent } from '#fornax/train/events.js';

import { writeColourFolder } from './support/image_folder.js';
import { logOf, weightsOf } from './support/run_results.js';
import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns();

const { config, run } = tiny;

/** Stops at the first report of a step at or beyond `step`. */
function stopAt(step: number): { signal: AbortSignal; report: (event: JobEvent) => void } {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    report: (event) => {
      if (event.type === 'steps' && event.step >= step) controller.abort();
    },
  };
}

/** Goes on with the run in a process of its own and kills that so many ms after its n-th report of steps. */
async function runAndKill(given: Config, reports: number, delay: number): Promise<boolean> {
  const child = spawn(process.execPath, [new URL('./support/train_child.js', import.meta.url).pathname], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(JSON.stringify(given));
  let lines = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const before = lines;
    lines += text.split('\n').length - 1;
    if (before < reports && lines >= reports) setTimeout(() => child.kill('SIGKILL'), delay);
  });
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return signal === 'SIGKILL';
}

test('a run that was stopped in the middle of epochs goes on to the very same result', async () => {
  // Epochs so long that a stop comes through before their end.
  const many = path.join(tiny.root, 'many');
  await writeColourFolder(many, { train: 100, val: 7 });
  const long: Partial<ConfigInput> = {
    data: { path: many, cache: path.join(tiny.root, 'cache'), resolution: 64 },
    train: { epochs: 2, batchSize: 1, clipNorm: 5 },
  };
  const straight = await run(config('straight', long));
  const stopped = config('stopped', long);
  const stops: number[] = [];
  for (let resume = false; ; resume = true) {
    // The first report of every session comes right after its first step.
    const stop = stops.length < 4 ? stopAt((stops.at(-1) ?? 0) + 1) : {};
    const { outcome, events } = await run(stopped, { resume, ...stop });
    if (resume) assert.equal(events.find((event) => event.type === 'resumed')!.step, stops.at(-1));
    if (outcome.status === 'done') {
      assert.deepEqual(outcome.metrics, straight.outcome.metrics);
      break;
    }
    assert.equal(outcome.status, 'interrupted');
    assert.ok(outcome.interrupted && outcome.checkpoint);
    stops.push(outcome.steps);
    await assert.rejects(run(stopped), (error) => {
      assert.ok(error instanceof TrainError);
      assert.match(error.message, /begun and not finished.*--resume/s);
      return true;
    });
  }
  assert.ok(
    stops.some((step) => step % 300 !== 0),
    `all stops were at the end of an epoch: ${stops.join()}`,
  );
  const folder = path.join(tiny.root, 'runs');
  for (const name of ['model.safetensors', 'checkpoints/step-00000600/optimizer.safetensors']) {
    assert.deepEqual(
      await weightsOf(path.join(folder, 'stopped', name)),
      await weightsOf(path.join(folder, 'straight', name)),
    );
  }
  assert.deepEqual(await logOf(path.join(folder, 'stopped')), await logOf(path.join(folder, 'straight')));
});

test('a run that is killed at any moment goes on to the very same result', async () => {
  // Every kill hits: while processes are killed there is no end to reach. The schedule does not depend on it.
  const given = (name: string, epochs: number): Config =>
    config(name, {
      train: { epochs, batchSize: 2, schedule: 'constant' },
      checkpoint: { everyMinutes: 0.0005 },
    });
  for (const [reports, delay] of [
    [1, 0],
    [5, 3],
    [9, 11],
    [2, 30],
    [7, 6],
  ] as const) {
    assert.ok(await runAndKill(given('killed', 100_000), reports, delay), 'it ended before it was killed');
  }
  const store = new CheckpointStore(path.join(tiny.root, 'runs', 'killed', 'checkpoints'));
  const epochs = (await store.newest(() => undefined))!.state.epoch + 1;
  const { outcome, events } = await run(given('killed', epochs), { resume: true });
  assert.equal(outcome.status, 'done');
  assert.ok(events.find((event) => event.type === 'resumed')!.step > 0);
  const straight = await run(given('unharmed', epochs));
  assert.deepEqual(await weightsOf(outcome.modelPath!), await weightsOf(straight.outcome.modelPath!));
  assert.deepEqual(outcome.metrics, straight.outcome.metrics);
  const log = async (folder: string): Promise<unknown[]> =>
    (await logOf(folder)).map(({ epochs: _, ...rest }) => rest);
  assert.deepEqual(await log(outcome.folder), await log(straight.outcome.folder));
});

test('more epochs can be asked for after the end', async () => {
  await run(config('longer', { train: { epochs: 1 } }));
  const { outcome, events } = await run(config('longer', { train: { epochs: 2 } }), { resume: true });
  assert.equal(outcome.status, 'done');
  assert.equal(outcome.epochs, 2);
  assert.ok(events.some((event) => event.type === 'warning' && event.message.includes('train.epochs')));
});

test('resuming needs a checkpoint, unless told to start fresh', async () => {
  await assert.rejects(run(config('fresh'), { resume: true }), (error) => {
    assert.ok(error instanceof TrainError);
    assert.match(error.message, /nothing to resume.*--resume=auto/s);
    return true;
  });
  const { outcome } = await run(config('fresh', { train: { epochs: 1 } }), { resume: 'auto' });
  assert.equal(outcome.status, 'done');
});

test('resuming with other settings is refused with what differs', async () => {
  await run(config('changed'), stopAt(9));
  await assert.rejects(
    run(config('changed', { train: { lr: 0.5, batchSize: 4 } }), { resume: true }),
    (error) => {
      assert.ok(error instanceof TrainError);
      assert.match(error.message, /train\.batch_size: 8 → 4/);
      assert.match(error.message, /train\.lr: 0\.05 → 0\.5/);
      return true;
    },
  );
  await assert.rejects(
    run(config('changed', { model: { name: 'resnet20' } }), { resume: 'auto' }),
    (error) => error instanceof TrainError && /model\.name/.test(error.message),
  );
});

test('resuming with another number of threads is told', async () => {
  await run(config('threads', { train: { threads: 1 } }), stopAt(9));
  const { outcome, events } = await run(config('threads', { train: { threads: 2 } }), { resume: true });
  assert.equal(outcome.status, 'done');
  const warning = events.find((event) => event.type === 'warning')!;
  assert.match(warning.message, /cpu \(fp32, 1 thread\), from here on cpu \(fp32, 2 threads\)/);
});

test('a damaged checkpoint is passed over for the one before', async () => {
  const { outcome } = await run(config('damaged'), stopAt(20));
  const newest = outcome.checkpoint!;
  const file = path.join(newest, 'model.safetensors');
  const bytes = await fs.readFile(file);
  bytes[bytes.length - 5]! ^= 1;
  await fs.writeFile(file, bytes);
  const { outcome: resumed, events } = await run(config('damaged'), { resume: true });
  assert.equal(resumed.status, 'done');
  assert.ok(events.some((event) => event.type === 'warning' && event.message.includes('checksum')));
  assert.equal(events.find((event) => event.type === 'resumed')!.step, 16);
});

test('a stop behind the last step names the checkpoint to go on from', async () => {
  const controller = new AbortController();
  const given = config('at_the_end', { train: { epochs: 2, bnRecompute: 2 } });
  const { outcome, events } = await run(given, {
    signal: controller.signal,
    // What follows the last checkpoint are the statistics of batch norm, and an evaluation with them.
    report: (event) => {
      if (event.type === 'checkpoint' && event.reason === 'final') controller.abort();
    },
  });
  const checkpoint = path.join(outcome.folder, 'checkpoints', 'step-00000016');
  assert.equal(outcome.status, 'interrupted');
  assert.equal(outcome.checkpoint, checkpoint);
  assert.deepEqual(events.at(-1), { type: 'interrupted', step: 16, checkpoint, signal: null });
  assert.match(await fs.readFile(path.join(outcome.folder, 'events.jsonl'), 'utf8'), /"interrupted".*\n$/);
  const finished = await run(given, { resume: true });
  assert.equal(finished.outcome.status, 'done');
  assert.equal(finished.outcome.steps, 16);
});
