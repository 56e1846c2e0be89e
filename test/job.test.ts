/** The main job end to end, on a small generated folder. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ConfigError, DataError, DeviceError, FornaxError, TrainError } from '#fornax/errors.js';
import { evaluateModel } from '#fornax/eval/evaluate.js';
import { predict } from '#fornax/eval/predict.js';
import { readModelHeader } from '#fornax/model/file.js';
import { loadAddon } from '#fornax/native.js';
import type { JobEvent } from '#fornax/train/events.js';
import { RunFolder } from '#fornax/train/run_folder.js';

import { weightsOf } from './support/run_results.js';
import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns();

const { config, run } = tiny;

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
  // The last epoch has evaluated these weights, or an earlier one has: nothing computes the same again.
  const last = events.filter((event) => event.type === 'evaluation').at(-1)!;
  assert.equal(last.epoch, null);
  assert.ok(!events.some((event) => event.type === 'evaluation_progress' && event.epoch === null));

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
  const elsewhere = path.join(tiny.root, 'elsewhere');
  await fs.symlink(tiny.images, elsewhere);
  const { data } = config('again');
  const other = await run(config('again', { train: { epochs: 1 }, data: { ...data, path: elsewhere } }));
  const said = other.events.find((event) => event.type === 'skipped')!.message;
  assert.match(said, /data\.path: ".*images" → ".*elsewhere"/);

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

test('a teacher may be named by its run; one that is not there is refused', async () => {
  await run(config('teaching', { train: { epochs: 1 } }));
  const taught = (teacher: string) =>
    run(config('taught', { train: { epochs: 1, loss: { name: 'distillation', teacher } } }));
  assert.equal((await taught(tiny.folder('teaching'))).outcome.status, 'done');
  const refused = (teacher: string, what: RegExp): Promise<void> =>
    assert.rejects(
      run(config('untaught', { train: { loss: { name: 'distillation', teacher } } })),
      (error) => error instanceof ConfigError && what.test(error.message),
    );
  await refused(tiny.images, /holds no model\.safetensors.*train\.loss/s);
  await refused('nowhere.safetensors', /no such teacher.*train\.loss: nowhere/s);
});

test('a step that is larger than the data is told', async () => {
  const warned = async (name: string, gradAccum: number): Promise<string[]> => {
    const { events } = await run(config(name, { train: { epochs: 1, gradAccum } }));
    return events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
  };
  assert.deepEqual(await warned('within', 7), []);
  const [message] = await warned('beyond', 100);
  assert.match(message!, /takes the \d\d images that there are, not 800 .*learning rate of auto/);
});

test('an error of a listener ends the run with that error', async () => {
  const report = (event: JobEvent): void => {
    if (event.type === 'steps') throw new RangeError('from the listener');
  };
  await assert.rejects(run(config('listener'), { report }), /from the listener/);
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
