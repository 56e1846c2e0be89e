/** Stochastic weight averaging: which weights are averaged, at what rate, and what becomes of the average. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import { Model } from '#fornax/model.js';
import type { TrainData } from '#fornax/train/data.js';
import type { JobEvent } from '#fornax/train/events.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { trainJob } from '#fornax/train/job.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { swaRate, swaSteps } from '#fornax/train/swa.js';
import { prepareData } from '#fornax/train/prepare_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { temporaryFolder, writeColourFolder } from './support/image_folder.js';
import { pointModel, pointSamples, weightsOf as pointWeights } from './support/points.js';
import { goldenBatch, goldenModel, openSession, stateValues } from './support/training_golden.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
let data: TrainData;

before(async () => {
  root = await temporaryFolder();
  const images = path.join(root.path, 'images');
  await writeColourFolder(images);
  data = await prepareData({ path: images, cache: path.join(root.path, 'cache') }, { resolution: [24, 24] });
});
after(() => root[Symbol.asyncDispose]());

const plain = { epochs: 4, batchSize: 8, lr: 0.05, amp: 'off' } as const;

interface Trained {
  weights: Record<string, Float32Array>;
  events: JobEvent[];
  trainer: Trainer;
}

async function train(
  settings: TrainerOptions['train'],
  more: Partial<TrainerOptions> = {},
  stopAfterEpoch = Infinity,
): Promise<Trained> {
  using model = Model.create('tiny_cnn', { seed: 0, numClasses: 3, inputs: [[2, 3, 24, 24]] });
  const trainer = new Trainer({ model, data, device: 'cpu', train: { ...plain, ...settings }, ...more });
  const events: JobEvent[] = [];
  const stop = new AbortController();
  for await (const event of trainer.fit({ signal: stop.signal, resume: more.folder ? 'auto' : false })) {
    events.push(event);
    if (event.type === 'epoch' && event.epoch === stopAfterEpoch) stop.abort();
  }
  return { weights: stateValues(model.native), events, trainer };
}

test('the mean of the weights after every interval from the start on', async () => {
  const model = goldenModel();
  const session = openSession(model, { swa: { start: 2, interval: 2 } });
  const sums: Record<string, Float64Array> = {};
  let count = 0;
  for (let step = 1; step <= 7; step++) {
    const batch = goldenBatch(8 * step, 8);
    const { outputs } = await session.step(batch);
    for (const tensor of [...Object.values(batch), ...Object.values(outputs)]) tensor.dispose();
    const weights = stateValues(model);
    if (step > 2 && step % 2 === 0) {
      count++;
      for (const [name, values] of Object.entries(weights)) {
        const sum = (sums[name] ??= new Float64Array(values.length));
        values.forEach((value, i) => (sum[i]! += value));
      }
    }
    const averages = session.ema();
    const expected = (name: string, i: number): number =>
      count === 0 ? weights[name]![i]! : sums[name]![i]! / count;
    for (const [name, tensor] of Object.entries(averages)) {
      if (tensor.dtype !== 'float32') continue;
      (tensor.toTypedArray() as Float32Array).forEach((value, i) => {
        const wanted = expected(name, i);
        assert.ok(
          Math.abs(value - wanted) <= 1e-6 * Math.max(1, Math.abs(wanted)),
          `step ${step}: ${name}[${i}]`,
        );
      });
    }
    for (const tensor of Object.values(averages)) tensor.dispose();
  }
  assert.equal(count, 2);
  session.dispose();
});

test('the rate goes from the schedule’s to its own, as torch’s SWALR', () => {
  const model = goldenModel();
  const schedule = { name: 'cosine', lr: 0.1, total_steps: 20 } as const;
  const rates = (swa: object): number[] => {
    const session = openSession(model, { schedule: { ...schedule, swa: { start: 10, lr: 0.02, ...swa } } });
    const all = Array.from({ length: 16 }, (_, step) => session.learningRate(step));
    session.dispose();
    return all;
  };
  const at = (step: number): number => (0.1 * (1 + Math.cos((Math.PI * step) / 20))) / 2;
  const close = (actual: number[], expected: number[]): void =>
    actual.forEach((rate, i) =>
      assert.ok(Math.abs(rate - expected[i]!) < 1e-15, `${i}: ${rate}, ${expected[i]}`),
    );
  const annealed = (alpha: (t: number) => number): number[] =>
    Array.from({ length: 16 }, (_, step) => {
      if (step < 10) return at(step);
      const a = alpha(Math.min(1, (step - 10) / 4));
      return 0.02 * a + at(10) * (1 - a);
    });
  close(
    rates({ anneal_steps: 4 }),
    annealed((t) => (1 - Math.cos(Math.PI * t)) / 2),
  );
  close(
    rates({ anneal_steps: 4, anneal: 'linear' }),
    annealed((t) => t),
  );
  assert.deepEqual(rates({}).slice(9), [at(9), ...Array<number>(6).fill(0.02)]);
});

test('the start is a share of the epochs or a number of them', () => {
  const steps = (swa: object, epochs = 8) =>
    swaSteps(defineConfig({ train: { epochs, swa }, data: { source: 'shapes' } }).train, 10);
  assert.deepEqual(steps({}), { start: 60, interval: 10 });
  assert.deepEqual(steps({ start: 5, interval: 2 }), { start: 50, interval: 20 });
  assert.deepEqual(steps({ start: 0, intervalSteps: 3 }), { start: 0, interval: 3 });
  assert.throws(() => steps({ start: 7, interval: 2 }), /no weights would be averaged/);
  assert.throws(() => steps({ start: 8 }), /train\.swa\.start/);
  assert.throws(() => steps({}, 1) && steps({ start: 1 }, 1), /train\.swa\.start/);
  const both = { train: { swa: {}, ema: {} }, data: { source: 'shapes' } } as const;
  assert.throws(() => defineConfig(both), /only one average can become the model/);
  const plateau = { schedule: { name: 'reduce_on_plateau' }, swa: { lr: 0.1 } } as const;
  assert.throws(() => defineConfig({ train: plateau, data: { source: 'shapes' } }), /reduce_on_plateau/);
});

test('the average becomes the model, with batch norm recomputed', async () => {
  const swa = { start: 2 };
  const { weights, events } = await train({ swa });
  const third = await train({ swa }, { folder: path.join(root.path, 'third') }, 3);
  const raw = await train({});
  assert.ok(third.trainer.interrupted);
  // Averaged are the weights after epochs 3 and 4: those of the interrupted run, and of one without averaging.
  for (const name of ['conv1.weight', 'bn1.weight', 'fc.bias']) {
    weights[name]!.forEach((value, i) => {
      const mean = (third.weights[name]![i]! + raw.weights[name]![i]!) / 2;
      assert.ok(Math.abs(value - mean) < 1e-6, `${name}[${i}]`);
    });
  }
  const messages = events.flatMap((event) => (event.type === 'info' ? [event.message] : []));
  assert.ok(messages.some((message) => message.startsWith('Recomputing BatchNorm statistics: 2 layers')));
  assert.notDeepEqual(weights['bn1.running_mean'], raw.weights['bn1.running_mean']);
});

test('a resumed run ends with the very same average', async () => {
  const settings = { swa: { start: 1, intervalSteps: 3, lr: 0.02 }, gradAccum: 2 };
  const whole = await train(settings, { folder: path.join(root.path, 'whole') });
  const folder = path.join(root.path, 'resumed');
  for (const epoch of [1, 2, 3]) assert.ok((await train(settings, { folder }, epoch)).trainer.interrupted);
  const resumed = await train(settings, { folder });
  assert.equal(resumed.trainer.interrupted, false);
  assert.deepEqual(resumed.weights, whole.weights);
  assert.deepEqual(resumed.trainer.history, whole.trainer.history);
});

test('a run that ends before averaging begins keeps its weights', async () => {
  const early = { earlyStopping: { patience: 1, minDelta: 100 } } as const;
  const { weights } = await train({ ...early, swa: { start: 3 } });
  const plainly = await train({ ...early });
  assert.deepEqual(weights, plainly.weights);
});

test('where the only weights to average were left out, nothing was averaged', async () => {
  const points = [...pointSamples(40)];
  (points[17]!['left'] as Float32Array)[2] = NaN;
  using bad = await memoryData({ train: points });
  const settings = { epochs: 3, batchSize: 4, lr: 0.05, amp: 'off' } as const;
  const go = async (swa: NonNullable<TrainerOptions['train']>['swa']) => {
    using model = pointModel();
    const train = { ...settings, nanWatch: { policy: 'rollback' }, ...(swa && { swa }) } as const;
    const trainer = new Trainer({ model, data: bad, device: 'cpu', train });
    const events: JobEvent[] = [];
    for await (const event of trainer.fit()) events.push(event);
    return { weights: pointWeights(model), events };
  };
  const plainly = await go(null);
  const leftOut = plainly.events.flatMap((event) => (event.type === 'not_finite' ? [event.step] : []));
  // Weights are taken after that step alone.
  const { weights, events } = await go({ start: 0, intervalSteps: leftOut.find((step) => step > 15)! });
  assert.equal(weights, plainly.weights);
  assert.ok(!events.some((event) => event.type === 'info' && /Recomputing BatchNorm/.test(event.message)));
});

test('an average that has begun goes on where a run is extended', async () => {
  const folder = path.join(root.path, 'extended');
  const swa = { start: 0.5 };
  const schedule = 'constant';
  await train({ epochs: 2, schedule, swa }, { folder });
  const { weights } = await train({ epochs: 4, schedule, swa }, { folder });
  // By the share the average would begin after epoch 2 anew; it began after epoch 1, and has three weights.
  const store = new CheckpointStore(path.join(folder, 'checkpoints'));
  const snapshot = await store.optimizer((await store.newest(assert.fail))!);
  assert.equal(Number(snapshot['swa_count']!.toTypedArray()[0]), 3);
  for (const tensor of Object.values(snapshot)) tensor.dispose();
  assert.ok(weights['fc.bias']!.every(Number.isFinite));
});

test('the settings of the rate are those of the session', () => {
  const swa = { start: 2, lr: 0.01, annealEpochs: 3, anneal: 'linear' } as const;
  const { train } = defineConfig({ train: { epochs: 8, swa }, data: { source: 'shapes' } });
  assert.deepEqual(swaRate(train, 10), { start: 20, lr: 0.01, anneal_steps: 30, anneal: 'linear' });
});

test('a finished run says that its model is the average', async () => {
  const given = defineConfig({
    name: 'mean',
    model: { name: 'tiny_cnn' },
    device: 'cpu',
    data: { path: path.join(root.path, 'images'), cache: path.join(root.path, 'cache'), resolution: 24 },
    run: { dir: path.join(root.path, 'runs') },
    train: { ...plain, epochs: 2, swa: { start: 1 } },
  });
  const events: JobEvent[] = [];
  await trainJob(given, { report: (event) => events.push(event) });
  const last = events.findLast((event) => event.type === 'evaluation');
  assert.equal(last?.weights, 'average');
});
