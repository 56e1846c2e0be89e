/** The main job end to end, on a small generated folder. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import type { Config, ConfigInput } from '#fornax/config/schema.js';
import { ConfigError, DataError, DeviceError, FornaxError, TrainError } from '#fornax/errors.js';
import { evaluateModel } from '#fornax/eval/evaluate.js';
import { predict } from '#fornax/eval/predict.js';
import { readModelHeader } from '#fornax/model/file.js';
import { loadAddon } from '#fornax/native.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import type { JobEvent } from '#fornax/train/events.js';
import { RunFolder } from '#fornax/train/run_folder.js';

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

test('a run writes its folder, and the model file alone gives the same figures', async () => {
  const { outcome, events } = await run(config('whole'));
  assert.equal(outcome.status, 'done');
  assert.equal(outcome.epochs, 3);
  assert.equal(outcome.steps, 3 * 8);
  assert.ok(outcome.metrics!.top1! > 0.6, `top-1 is ${outcome.metrics!.top1}`);
  const names = await fs.readdir(outcome.folder);
  assert.deepEqual(names.sort(), [
    'checkpoints',
    'config.yaml',
    'events.jsonl',
    'model.safetensors',
    'summary.json',
  ]);
  assert.match(events.find((event) => event.type === 'device')!.message, /^Training on cpu/);
  assert.equal(events.filter((event) => event.type === 'epoch').length, 3);
  assert.equal(events.at(-1)!.type, 'done');

  const { info } = await readModelHeader(outcome.modelPath!);
  assert.deepEqual(info.labels, ['blue', 'green', 'red']);
  assert.equal(info.metrics.top1, outcome.metrics!.top1);

  const evaluated = await evaluateModel(outcome.modelPath!, tiny.images, {
    cache: path.join(tiny.root, 'cache2'),
    device: 'cpu',
  });
  assert.equal(evaluated.samples, 21);
  assert.equal(evaluated.top1, outcome.metrics!.top1);
  assert.ok(Math.abs(evaluated.loss! - outcome.metrics!.loss!) < 1e-6);
  assert.deepEqual(
    evaluated.classes.map(({ samples }) => samples),
    [7, 7, 7],
  );

  // Prediction takes the files one by one and must arrive at the very same confusion matrix.
  const confusion = [0, 1, 2].map(() => [0, 0, 0]);
  let seen = 0;
  for await (const { path: file, predictions } of predict(
    outcome.modelPath!,
    [path.join(tiny.images, 'val')],
    {
      batchSize: 5,
      device: 'cpu',
    },
  )) {
    const target = info.labels.indexOf(path.basename(path.dirname(file)));
    confusion[target]![predictions[0]!.index]!++;
    assert.ok(Math.abs(predictions.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-5);
    seen++;
  }
  assert.equal(seen, 21);
  assert.deepEqual(confusion, evaluated.confusion);
});

test('a finished run is skipped with the reason, refused, or trained anew', async () => {
  const { outcome } = await run(config('again', { train: { epochs: 1 } }));
  const second = await run(config('again', { train: { epochs: 1, lr: 0.01 } }));
  assert.equal(second.outcome.status, 'skipped');
  assert.equal(second.outcome.modelPath, outcome.modelPath);
  const skipped = second.events.find((event) => event.type === 'skipped')!;
  assert.match(skipped.message, /has its model already \(top-1 .*--force/s);
  assert.match(skipped.message, /train\.lr: 0\.05 → 0\.01/);

  const fail = config('again', {
    train: { epochs: 1 },
    run: { dir: path.join(tiny.root, 'runs'), existing: 'fail' },
  });
  await assert.rejects(run(fail), (error) => error instanceof TrainError && /--force/.test(error.message));

  const before = await weightsOf(outcome.modelPath!);
  const forced = await run(config('again', { train: { epochs: 1, seed: 5 } }), { force: true });
  assert.equal(forced.outcome.status, 'done');
  assert.notDeepEqual(await weightsOf(forced.outcome.modelPath!), before);
  assert.deepEqual(await weightsOf(path.join(outcome.folder, 'model.previous.safetensors')), before);
});

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

test('an error of a listener ends the run with that error', async () => {
  const report = (event: JobEvent): void => {
    if (event.type === 'steps') throw new RangeError('from the listener');
  };
  await assert.rejects(run(config('listener'), { report }), /from the listener/);
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

test('a GPU that is not there stops the job before the images are looked at', async (t) => {
  if (loadAddon().systemInfo().cuda.available) return t.skip('this machine has a GPU');
  const given = config('gpu', { device: 'cuda', data: { path: '/nowhere' } });
  await assert.rejects(
    run(given),
    (error) => error instanceof DeviceError && /no usable GPU/.test(error.message),
  );
});

test('bad input is refused with its reason', async () => {
  await assert.rejects(run(config('classes', { model: { name: 'tiny_cnn', numClasses: 7 } })), ConfigError);
  await assert.rejects(run(config('frozen', { train: { frozen: ['fx'] } })), (error) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /did you mean 'fc'/);
    return true;
  });
  await assert.rejects(run(config('both'), { resume: true, force: true }), ConfigError);
});

/** Every file of a run with its contents. */
async function contentsOf(folder: string): Promise<Record<string, string>> {
  const entries = await fs.readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.path, entry.name));
  return Object.fromEntries(
    await Promise.all(files.sort().map(async (file) => [file, await fs.readFile(file, 'base64')] as const)),
  );
}

test('a training that cannot begin leaves an earlier one as it was', async () => {
  const { outcome } = await run(config('kept', { train: { epochs: 1 } }));
  const before = await contentsOf(outcome.folder);
  const nowhere = { path: path.join(tiny.root, 'nowhere'), cache: path.join(tiny.root, 'cache') };
  await assert.rejects(run(config('kept', { data: nowhere }), { force: true }), DataError);
  await assert.rejects(
    run(config('kept', { model: { name: 'tiny_cnn', numClasses: 7 } }), { force: true }),
    ConfigError,
  );
  await assert.rejects(
    run(config('kept', { train: { epochs: 3, lr: 0.5 } }), { resume: true }),
    (error) => error instanceof TrainError && /train\.lr/.test(error.message),
  );
  const controller = new AbortController();
  controller.abort();
  const aborted = await run(config('kept'), { force: true, signal: controller.signal });
  assert.equal(aborted.outcome.status, 'interrupted');
  assert.equal(aborted.outcome.checkpoint, null);
  assert.deepEqual(await contentsOf(outcome.folder), before);
});

test('a training that cannot begin leaves no folder behind', async () => {
  const empty = path.join(tiny.root, 'empty');
  await fs.mkdir(empty);
  const dir = path.join(tiny.root, 'new', 'runs');
  for (const given of [path.join(tiny.root, 'nowhere'), empty]) {
    const data = { path: given, cache: path.join(tiny.root, 'cache') };
    await assert.rejects(run(config('unborn', { data, run: { dir } })), DataError);
    await assert.rejects(fs.stat(path.dirname(dir)), { code: 'ENOENT' });
  }
  // What was there before stays, empty as it is.
  await fs.mkdir(dir, { recursive: true });
  const data = { path: empty, cache: path.join(tiny.root, 'cache') };
  await assert.rejects(run(config('unborn', { data, run: { dir } })), DataError);
  assert.deepEqual(await fs.readdir(dir), []);
});

test('a stop in the final evaluation names the checkpoint to go on from', async () => {
  const controller = new AbortController();
  const given = config('at_the_end', { train: { epochs: 2 } });
  const { outcome, events } = await run(given, {
    signal: controller.signal,
    // What follows the last checkpoint is the evaluation of the weights to keep.
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

test('a folder on a file system that takes none is an error at once', async (t) => {
  if (!existsSync('/proc/self')) return t.skip('there is no /proc');
  await assert.rejects(run(config('x', { run: { dir: '/proc/x' } })), (error) => {
    assert.ok(error instanceof FornaxError);
    assert.match(error.message, /takes no new folders.*\/proc\/x/s);
    return true;
  });
});

test('a diverging loss stops the run and leaves the last sound checkpoint', async () => {
  await assert.rejects(run(config('diverged', { train: { lr: 1e30, epochs: 2 } })), (error) => {
    assert.ok(error instanceof TrainError);
    assert.match(
      error.message,
      /the loss is not finite \((NaN|Infinity|-Infinity)\) at step \d+: first bad node/,
    );
    return true;
  });
});

test('a validation loss that is not a number ends in a model file', async () => {
  const given = config('no_number', { train: { epochs: 1, lr: 1e30, nanWatch: { policy: 'off' } } });
  const { outcome } = await run(given);
  assert.equal(outcome.status, 'done');
  assert.ok(!Number.isFinite(outcome.metrics!.loss));
  const { info } = await readModelHeader(path.join(outcome.folder, 'model.safetensors'));
  assert.equal(info.metrics['loss'], null);
  assert.equal((await run(given, { resume: true })).events.at(-1)!.type, 'skipped');
});

test('one folder is for one process at a time', async () => {
  const given = config('locked', { train: { epochs: 1 } });
  const folder = await RunFolder.open(path.join(given.run.dir, given.name));
  await assert.rejects(
    run(given),
    (error) => error instanceof TrainError && /another process/.test(error.message),
  );
  await folder.close();
  assert.equal((await run(given)).outcome.status, 'done');
});

test('prediction reports images that cannot be read, and fails if none can', async () => {
  const { outcome } = await run(config('broken', { train: { epochs: 1 } }));
  const folder = path.join(tiny.root, 'mixed');
  await fs.mkdir(folder);
  await fs.copyFile(path.join(tiny.images, 'val', 'red', '0.png'), path.join(folder, 'good.png'));
  await fs.writeFile(path.join(folder, 'bad.png'), 'not an image');
  const results = [];
  for await (const result of predict(outcome.modelPath!, [folder], { topk: 2 })) results.push(result);
  assert.deepEqual(
    results.map(({ path: file, predictions, error }) => [
      path.basename(file),
      predictions.length,
      Boolean(error),
    ]),
    [
      ['bad.png', 0, true],
      ['good.png', 2, false],
    ],
  );
  await assert.rejects(
    (async () => {
      for await (const _ of predict(outcome.modelPath!, [path.join(folder, 'bad.png')]));
    })(),
    DataError,
  );
});
