/** Training from a loader: run(), its events, stopping, teardown; and evaluation on a loader. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AbortedError, ArgumentError, DataError, TrainError } from '#fornax/errors.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type {
  NativeGraph,
  NativeLoader,
  NativeTrain,
  PackShard,
  StepsEvent,
  TrainOptions,
} from '#fornax/native/contract.js';
import { goldenModel, openSession, stateValues } from './support/training_golden.js';
import { imageSize, normalize, openColourLoader, writeColourPack } from './support/training_pack.js';

const pack = writeColourPack(100);
after(() => pack.remove());

const options: Partial<TrainOptions> = { normalize, schedule: { name: 'constant', lr: 0.02 } };

function open(model: NativeGraph, overrides: Partial<TrainOptions> = {}): NativeTrain {
  return openSession(model, { ...options, ...overrides });
}

/** An epoch of 100,000 steps: no run comes to its end, however late the main thread gets its turn. */
function openEndlessLoader(): NativeLoader {
  return openColourLoader(pack, { shards: new Array<PackShard>(1000).fill(pack.shard), batch_size: 1 });
}

test('runs an epoch, reports every loss once, and learns', async () => {
  const session = open(goldenModel());
  const loader = openColourLoader(pack);
  const losses: number[] = [];
  for (let epoch = 0; epoch < 4; epoch++) {
    const events: StepsEvent[] = [];
    loader.startEpoch(epoch);
    const result = await session.run(loader, {
      steps: 1000,
      event_interval_ms: 10,
      onEvent: (event) => events.push(event),
    });
    assert.deepEqual([result.steps, result.samples, result.reason], [13, 100, 'epoch_end']);
    assert.equal(events.at(-1)!.step, 13 * (epoch + 1));
    assert.equal(events.at(-1)!.lr, 0.02);
    assert.equal(sum(events.map(({ samples }) => samples)), 100);
    assert.ok(events.every(({ seconds, wait_seconds: wait, memory }) => wait <= seconds && memory > 1e6));
    losses.push(...events.flatMap((event) => event.losses));
  }
  assert.equal(losses.length, 52);
  assert.ok(mean(losses.slice(-5)) < 0.5 * mean(losses.slice(0, 5)), losses.join(' '));
  session.dispose();
  loader.dispose();
});

test('run() does what step() does with the same batches, bit for bit', async () => {
  const stepped = goldenModel();
  const running = goldenModel();
  const loader = openColourLoader(pack);
  loader.startEpoch(0);
  const bySteps = open(stepped);
  for (let batch = await loader.next(); batch; batch = await loader.next()) await bySteps.step(batch);
  bySteps.dispose();
  loader.startEpoch(0);
  const byRun = open(running);
  const events: StepsEvent[] = [];
  await byRun.run(loader, { steps: 5, event_interval_ms: 0, onEvent: (event) => events.push(event) });
  assert.deepEqual(
    events.map(({ step, losses }) => [step, losses.length]),
    [1, 2, 3, 4, 5].map((step) => [step, 1]),
  );
  const rest = await byRun.run(loader, { steps: 100 });
  assert.deepEqual([rest.steps, rest.reason], [8, 'epoch_end']);
  byRun.dispose();
  loader.dispose();
  assert.deepEqual(stateValues(running), stateValues(stepped));
});

test('the number of steps ends a run, the next one goes on from there', async () => {
  const session = open(goldenModel());
  const loader = openColourLoader(pack);
  loader.startEpoch(0);
  const first = await session.run(loader, { steps: 4 });
  assert.deepEqual([first.steps, first.samples, first.reason], [4, 32, 'done']);
  const second = await session.run(loader, { steps: 100 });
  assert.deepEqual([second.steps, second.samples, second.reason], [9, 68, 'epoch_end']);
  assert.equal(session.stepCount, 13);
  session.dispose();
  loader.dispose();
});

test('micro-batches: an incomplete last group is averaged over what it has', async () => {
  // 100 samples in batches of 20: groups of 2, 2 and 1. The last equals a step on that batch alone.
  const alone = goldenModel();
  const grouped = goldenModel();
  const loader = openColourLoader(pack, { batch_size: 20 });
  const sgd: Partial<TrainOptions> = { optimizer: { name: 'sgd' }, grad_accum: 2 };
  const session = open(grouped, sgd);
  loader.startEpoch(0);
  const full = await session.run(loader, { steps: 2 });
  assert.deepEqual([full.steps, full.samples, full.reason], [2, 80, 'done']);
  alone.loadState(Object.fromEntries(grouped.state().map(({ name, tensor }) => [name, tensor])));
  const last = await session.run(loader, { steps: 2 });
  assert.deepEqual([last.steps, last.samples, last.reason], [1, 20, 'epoch_end']);
  session.dispose();

  const single = open(alone, { ...sgd, grad_accum: 1 });
  loader.startEpoch(0, 4);
  await single.run(loader, { steps: 1 });
  single.dispose();
  loader.dispose();
  const expected = stateValues(alone)['fc.weight']!;
  const actual = stateValues(grouped)['fc.weight']!;
  actual.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-6));
});

test('uint8 pixels are normalised on the device', async () => {
  const loader = openColourLoader(pack);
  loader.startEpoch(0);
  const batch = (await loader.next())!;
  const pixels = batch['image']!.toTypedArray();
  const n = batch['image']!.shape[0]!;
  const plane = imageSize * imageSize;
  const floats = new Float32Array(n * 3 * plane);
  for (let i = 0; i < n * plane; i++) {
    for (let c = 0; c < 3; c++) {
      const index = (Math.floor(i / plane) * 3 + c) * plane + (i % plane);
      floats[index] = (Number(pixels[i * 3 + c]) / 255 - 0.5) / 0.25;
    }
  }
  const image = loadAddon().Tensor.fromTypedArray(floats, [n, 3, imageSize, imageSize]);
  const session = open(goldenModel());
  const fromPixels = await session.step(batch, { update: false });
  const fromFloats = await session.step({ ...batch, image }, { update: false });
  assert.ok(Math.abs(fromPixels.loss - fromFloats.loss) < 1e-5);
  session.dispose();
  loader.dispose();
});

test('stop() ends a run after the current step', async () => {
  const session = open(goldenModel());
  const loader = openEndlessLoader();
  loader.startEpoch(0);
  const result = await session.run(loader, {
    steps: 1_000_000,
    event_interval_ms: 0,
    onEvent: () => session.stop(),
  });
  assert.equal(result.reason, 'stopped');
  assert.ok(result.steps < 100_000);
  assert.equal(session.stepCount, result.steps);
  const rest = await session.run(loader, { steps: 3 });
  assert.deepEqual([rest.steps, rest.reason], [3, 'done']);
  assert.equal(session.stepCount, result.steps + 3);
  session.dispose();
  loader.dispose();
});

test('stop() also ends the wait for a batch', { timeout: 120_000 }, async () => {
  const session = open(goldenModel());
  const loader = openColourLoader(pack);
  loader.startEpoch(0);
  const running = session.run(loader, { steps: 1000 });
  session.stop();
  assert.ok(['stopped', 'epoch_end'].includes((await running).reason));
  session.dispose();
  loader.dispose();
});

test('a run in progress refuses a second one, and dispose() ends it', async () => {
  const session = open(goldenModel());
  const loader = openEndlessLoader();
  const other = openColourLoader(pack);
  loader.startEpoch(0);
  other.startEpoch(0);
  const running = session.run(loader, { steps: 1_000_000 });
  await assert.rejects(session.run(other, { steps: 1 }), TrainError);
  assert.throws(() => session.snapshot(), TrainError);
  session.dispose();
  await assert.rejects(running, AbortedError);
  loader.dispose();
  other.dispose();
});

/** Runs test/support/training_process.ts in a process of its own. */
function runProcess(how: string): { status: number | null; signal: string | null; output: string } {
  const script = fileURLToPath(new URL('./support/training_process.js', import.meta.url));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', script, how], {
    encoding: 'utf8',
    timeout: 300_000,
  });
  return { status, signal, output: stdout + stderr };
}

for (const [how, status] of [
  ['exit', 7],
  ['throw', 1],
  ['worker', 0],
  ['collected', 0],
] as const) {
  test(`teardown in the middle of a run: ${how}`, () => {
    const result = runProcess(how);
    assert.equal(result.signal, null, result.output);
    assert.equal(result.status, status, result.output);
    assert.match(result.output, /running/);
  });
}

test('evaluate() counts what the logits say', async () => {
  const model = goldenModel();
  const session = open(model);
  const training = openColourLoader(pack);
  training.startEpoch(0);
  await session.run(training, { steps: 12 });
  session.dispose();
  training.dispose();

  const inference = new (loadAddon().InferenceSession)(model, { normalize });
  const loader = openColourLoader(pack, { shuffle: false, batch_size: 32 });
  const confusion = new Array<number>(100).fill(0);
  let loss = 0;
  let top5 = 0;
  loader.startEpoch(0);
  for (let batch = await loader.next(); batch; batch = await loader.next()) {
    const { output } = await inference.forward({ image: batch['image']! });
    const logits = output!.toTypedArray() as Float32Array;
    const labels = Array.from(batch['label']!.toTypedArray(), Number);
    for (const [row, label] of labels.entries()) {
      const values = Array.from(logits.subarray(row * 10, row * 10 + 10));
      const ranked = values.map((_, k) => k).sort((a, b) => values[b]! - values[a]!);
      confusion[label * 10 + ranked[0]!]!++;
      top5 += Number(ranked.slice(0, 5).includes(label));
      loss += Math.log(sum(values.map(Math.exp))) - values[label]!;
    }
  }
  loader.startEpoch(0);
  const progress: number[][] = [];
  const result = await inference.evaluate(loader, {
    classes: 10,
    loss: crossEntropy(),
    onProgress: (done, total) => progress.push([done, total]),
  });
  assert.equal(result.samples, 100);
  assert.deepEqual(result.confusion, confusion);
  assert.equal(result.top1, sum(confusion.filter((_, i) => i % 11 === 0)) / 100);
  assert.equal(result.top5, top5 / 100);
  assert.ok(Math.abs(result.loss! - loss / 100) < 1e-5);
  assert.deepEqual(progress.at(-1), [100, 100]);
  inference.dispose();
  loader.dispose();
});

test('evaluate() refuses labels and classes that do not fit the model', async () => {
  const inference = new (loadAddon().InferenceSession)(goldenModel(), { normalize });
  const loader = openColourLoader(pack, { shuffle: false });
  loader.startEpoch(0);
  await assert.rejects(inference.evaluate(loader, { classes: 3 }), (error) => {
    assert.ok(error instanceof DataError);
    assert.match(error.message, /label 3 is outside 0…2/);
    assert.match(error.message, /sample 3/);
    return true;
  });
  loader.startEpoch(0);
  await assert.rejects(inference.evaluate(loader, { classes: 20 }), (error) => {
    assert.ok(error instanceof ArgumentError);
    assert.match(error.message, /10 classes/);
    return true;
  });
  inference.dispose();
  loader.dispose();
});

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: number[]): number {
  return sum(values) / values.length;
}
