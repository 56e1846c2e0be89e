/** Training from a script. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ArgumentError, ConfigError, TrainError } from '#fornax/errors.js';
import { traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import { functional as F, Linear, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';
import type { TrainData } from '#fornax/train/data.js';
import { EventQueue } from '#fornax/train/event_queue.js';
import type { JobEvent } from '#fornax/train/events.js';
import { StepMeter } from '#fornax/train/step_meter.js';
import { parameterGroups } from '#fornax/train/parameter_groups.js';
import { scheduleOptions } from '#fornax/train/train_options.js';
import { prepareData, Trainer, type TrainerOptions } from '#fornax/train/trainer.js';
import { Tensor } from '#fornax/tensor.js';

import { colourData, type ColourData } from './support/colour_data.js';

let root: ColourData['root'];
let data: TrainData;
colourData((made) => ({ root, data } = made));

function tiny(seed = 0): Model {
  return Model.create('tiny_cnn', { seed, numClasses: 3, inputs: [[2, 3, 24, 24]] });
}

const train = { epochs: 2, batchSize: 8, lr: 0.05 };

async function collect(trainer: Trainer, signal?: AbortSignal): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of trainer.fit(signal ? { signal } : {})) events.push(event);
  return events;
}

test('fit yields what happens and trains the model in place', async () => {
  using model = tiny();
  const trainer = new Trainer({ model, data, device: 'cpu', train: { ...train, epochs: 4 } });
  const events = await collect(trainer);
  assert.deepEqual(
    events
      .filter(({ type }) => ['start', 'epoch', 'evaluation', 'done'].includes(type))
      .map(({ type }) => type),
    ['start', ...Array.from({ length: 4 }, () => ['epoch', 'evaluation']).flat(), 'done'],
  );
  assert.equal(trainer.history.length, 4);
  assert.ok(trainer.metrics!.top1! > 0.6, `top-1 is ${trainer.metrics!.top1}`);
  assert.ok(trainer.history[3]!.loss < trainer.history[0]!.loss);
  assert.deepEqual(model.info.labels, ['blue', 'green', 'red']);
  // The model carries its preprocessing, and its forward uses the new weights.
  const file = path.join(root.path, 'scripted.safetensors');
  await model.save(file);
  using loaded = await Model.load(file);
  assert.deepEqual(loaded.info.metrics, { ...trainer.metrics });
});

test('leaving the loop stops training', async () => {
  using model = tiny();
  const trainer = new Trainer({ model, data, device: 'cpu', train: { ...train, epochs: 1000 } });
  for await (const event of trainer.fit()) if (event.type === 'epoch') break;
  assert.ok(trainer.interrupted);
  assert.ok(trainer.history.length < 1000);
});

test('a trainer goes on from its folder', async () => {
  const folder = path.join(root.path, 'scripted');
  using model = tiny();
  const controller = new AbortController();
  const first = new Trainer({ model, data, device: 'cpu', folder, train: { ...train, epochs: 3 } });
  let stoppedAt = 0;
  for await (const event of first.fit({ signal: controller.signal })) {
    if (event.type === 'epoch') controller.abort();
    if (event.type === 'interrupted') stoppedAt = event.step;
  }
  assert.ok(first.interrupted);
  assert.ok(stoppedAt >= 8 && stoppedAt < 24, `stopped at step ${stoppedAt}`);
  using other = tiny(9);
  await assert.rejects(
    collect(new Trainer({ model: other, data, device: 'cpu', folder, train: { ...train, epochs: 3 } })),
    TrainError,
  );
  const second = new Trainer({ model: other, data, device: 'cpu', folder, train: { ...train, epochs: 3 } });
  for await (const event of second.fit({ resume: true })) {
    if (event.type === 'start') assert.equal(event.firstStep, stoppedAt);
  }
  assert.equal(second.history.length, 3);
  assert.deepEqual(second.history[0], first.history[0]);
});

test('a loss of one’s own is a graph', async () => {
  class Margin extends Module {
    forward(output: Symbolic, label: Symbolic): Symbolic {
      return F.crossEntropy(output.mul(2), label);
    }
  }
  using model = tiny();
  const trainer = new Trainer({
    model,
    data,
    device: 'cpu',
    train,
    loss: traceLoss(new Margin(), ['output', 'label']),
  });
  await collect(trainer);
  assert.equal(trainer.history.length, 2);
});

test('frozen parts stay as they are, with their running statistics', async () => {
  using model = tiny();
  const values = (): Record<string, unknown> =>
    Object.fromEntries(model.state().map(({ name, tensor }) => [name, tensor.toArray()]));
  const before = values();
  await collect(new Trainer({ model, data, device: 'cpu', train: { ...train, frozen: ['conv1', 'bn1'] } }));
  const after = values();
  const changed = Object.keys(before).filter(
    (name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  );
  assert.deepEqual(
    changed.filter((name) => /^(conv1|bn1)\./.test(name)),
    [],
  );
  assert.deepEqual(changed.sort(), [
    'bn2.bias',
    'bn2.num_batches_tracked',
    'bn2.running_mean',
    'bn2.running_var',
    'bn2.weight',
    'conv2.weight',
    'fc.bias',
    'fc.weight',
  ]);
});

test('numbers in the gradients are cut off at clip_value', async () => {
  const moved = async (clipValue: number | null): Promise<number> => {
    using model = tiny();
    const values = (): Float32Array[] =>
      model
        .state()
        .filter(({ kind }) => kind === 'parameter')
        .map(({ tensor }) => tensor.toTypedArray() as Float32Array);
    const before = values();
    const settings = { ...train, epochs: 1, lr: 0.1, weightDecay: 0, amp: 'off' as const, clipValue };
    const optimizer = { name: 'sgd', momentum: 0, nesterov: false } as const;
    const schedule = { name: 'constant' } as const;
    await collect(new Trainer({ model, data, device: 'cpu', train: { ...settings, optimizer, schedule } }));
    return Math.max(
      ...values().flatMap((after, i) => [...after].map((x, j) => Math.abs(x - before[i]![j]!))),
    );
  };
  const steps = Math.ceil(data.trainSamples / train.batchSize);
  const farthest = steps * 0.1 * 1e-4;
  const clipped = await moved(1e-4);
  assert.ok(clipped > 0.3 * farthest && clipped < 1.01 * farthest, `${clipped} of ${farthest}`);
  assert.ok((await moved(null)) > 10 * farthest);
});

test('what a script saves has no figures of other weights', async () => {
  using model = tiny();
  model.info = { ...model.info, metrics: { top1: 1 } };
  const steps = Math.ceil(data.trainSamples / train.batchSize);
  const trainer = new Trainer({
    ...{ model, data, device: 'cpu', train },
    callbacks: { onSteps: { every: steps + 2, call: ({ stop }) => stop('enough') } },
  });
  const events = await collect(trainer);
  assert.ok(events.some(({ type }) => type === 'evaluation'));
  assert.equal(trainer.stopped, 'callback');
  assert.equal(trainer.metrics, null);
  assert.deepEqual(model.info.metrics, {});
  const done = events.at(-1) as { type: string; metrics: unknown };
  assert.deepEqual([done.type, done.metrics], ['done', null]);
  model.info = { ...model.info, metrics: { top1: 1 } };
  await collect(new Trainer({ model, data, device: 'cpu', train }), AbortSignal.abort());
  assert.deepEqual(model.info.metrics, {});
});

test(
  'CUDA graphs on a CPU are a mistake in the settings',
  { skip: loadAddon().systemInfo().cuda.available },
  async () => {
    using model = tiny();
    const trainer = new Trainer({ model, data, device: 'auto', train: { ...train, cudaGraphs: 'on' } });
    await assert.rejects(
      collect(trainer),
      (error) => error instanceof ConfigError && error.where === 'train.cuda_graphs',
    );
  },
);

test('after a training that failed the model runs with the weights it has', async () => {
  using model = tiny();
  const x = Tensor.ones([1, 3, 24, 24]);
  const before = (await model.forward(x)).output!.toArray();
  const trainer = new Trainer({
    model,
    data,
    device: 'cpu',
    train: { ...train, lr: 1e20, amp: 'off' },
  });
  await assert.rejects(
    collect(trainer),
    (error) => error instanceof TrainError && /not finite/.test(error.what),
  );
  const file = path.join(root.path, 'failed.safetensors');
  await model.save(file);
  using saved = await Model.load(file);
  const after = (await model.forward(x)).output!.toArray();
  assert.deepEqual(after, (await saved.forward(x)).output!.toArray());
  assert.notDeepEqual(after, before);
});

test('settings are checked like those of a configuration', async () => {
  using model = tiny();
  const wrong = (changes: Partial<TrainerOptions>): (() => Trainer) => {
    return () => new Trainer({ model, data, device: 'cpu', ...changes });
  };
  assert.throws(wrong({ train: { batchSize: 0 } }), ConfigError);
  assert.throws(wrong({ train: { batchsize: 3 } as never }), ConfigError);
  await assert.rejects(
    (async () => {
      for await (const _ of new Trainer({ model, data, device: 'cpu' }).fit({ resume: true }));
    })(),
    ArgumentError,
  );
  const warmup = { ...train, schedule: { name: 'cosine' as const, warmupSteps: 100 } };
  await assert.rejects(
    collect(new Trainer({ model, data, device: 'cpu', train: warmup })),
    (error) => error instanceof ConfigError && /warm-up of 100 steps/.test(error.message),
  );
});

test('parameters are grouped by weight decay', () => {
  class Net extends Module {
    readonly a = new Linear(2, 3);
    readonly ab = new Linear(3, 2);
    forward(x: Symbolic): Symbolic {
      return this.ab.forward(this.a.forward(x));
    }
  }
  using model = Model.create(new Net(), { inputs: [[1, 2]] });
  const base = { weightDecay: 0.1, decayNormAndBias: true, frozen: [] };
  assert.deepEqual(parameterGroups(model.graph, base), [
    { parameters: ['a.weight', 'a.bias', 'ab.weight', 'ab.bias'], weight_decay: 0.1 },
  ]);
  assert.deepEqual(parameterGroups(model.graph, { ...base, decayNormAndBias: false }), [
    { parameters: ['a.weight', 'ab.weight'], weight_decay: 0.1 },
    { parameters: ['a.bias', 'ab.bias'], weight_decay: 0 },
  ]);
  // `a` is a module, not a prefix of letters.
  assert.deepEqual(parameterGroups(model.graph, { ...base, frozen: ['a'] })[0]!.parameters, [
    'ab.weight',
    'ab.bias',
  ]);
  assert.throws(() => parameterGroups(model.graph, { ...base, frozen: ['a', 'ab'] }), /no parameter is left/);
});

test('schedules span the whole training', () => {
  const cosine = { name: 'cosine', warmupEpochs: 0.5, warmupSteps: null, minLr: 0.001, per: 'step' } as const;
  assert.deepEqual(scheduleOptions({ schedule: cosine, lr: 0.1, epochs: 5 }, 20), {
    name: 'cosine',
    lr: 0.1,
    min_lr: 0.001,
    total_steps: 100,
    warmup_steps: 10,
    interval: 1,
  });
  const step = {
    name: 'step',
    warmupEpochs: 1,
    warmupSteps: null,
    stepSize: 3,
    gamma: 0.1,
    per: 'epoch',
  } as const;
  assert.deepEqual(scheduleOptions({ schedule: step, lr: 0.1, epochs: 5 }, 20), {
    name: 'step',
    lr: 0.1,
    step_size: 3,
    gamma: 0.1,
    warmup_steps: 20,
    interval: 20,
  });
  const constant = { name: 'constant', warmupEpochs: 2, warmupSteps: 7 } as const;
  assert.deepEqual(scheduleOptions({ schedule: constant, lr: 0.1, epochs: 5 }, 20), {
    name: 'constant',
    lr: 0.1,
    warmup_steps: 7,
    interval: 1,
  });
});

test('the meter adds up losses and speed over an epoch', () => {
  const meter = new StepMeter();
  const at = { epoch: 2, epochs: 3, stepsPerEpoch: 4, totalSteps: 12 };
  meter.beginEpoch();
  const raw = { step: 6, losses: [1, 3], lr: 0.1, samples: 16, seconds: 2, wait_seconds: 0.5, memory: 5 };
  const event = meter.take(raw, at);
  assert.equal(event.loss, 2);
  assert.equal(event.epochStep, 2);
  assert.equal(event.samplesPerSecond, 8);
  assert.equal(event.waitShare, 0.25);
  assert.equal(event.etaSeconds, 6);
  meter.take({ ...raw, step: 7, losses: [5] }, at);
  assert.equal(meter.epochLoss, 3);
});

test('a single slow interval does not make the ETA jump', () => {
  const meter = new StepMeter();
  const at = { epoch: 1, epochs: 1, stepsPerEpoch: 10_000, totalSteps: 10_000 };
  let step = 0;
  const take = (steps: number, seconds: number): number => {
    step += steps;
    const losses = new Array<number>(steps).fill(1);
    const raw = { step, losses, lr: 0.1, samples: 8 * steps, seconds, wait_seconds: 0, memory: 5 };
    return meter.take(raw, at).etaSeconds / (10_000 - step);
  };
  let perStep = 0;
  for (let i = 0; i < 50; i++) perStep = take(20, 0.2);
  assert.ok(Math.abs(perStep - 0.01) < 1e-9);
  assert.ok(take(2, 0.2) < 0.0115, 'ten times slower for 0.2 s after 10 s');
  // A speed that lasts is followed.
  for (let i = 0; i < 500; i++) perStep = take(4, 0.2);
  assert.ok(Math.abs(perStep - 0.05) < 0.002, String(perStep));
});

test('events arrive in order, then the error', async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  setTimeout(() => {
    queue.push(2);
    queue.fail(new TrainError('at last'));
  }, 5);
  const seen: number[] = [];
  await assert.rejects(async () => {
    for await (const value of queue) seen.push(value);
  }, /at last/);
  assert.deepEqual(seen, [1, 2]);
});

test('packs are decoded once', async () => {
  const seen: JobEvent[] = [];
  const again = await prepareData(
    { path: path.join(root.path, 'images'), cache: path.join(root.path, 'cache') },
    { resolution: [24, 24], report: (event) => seen.push(event) },
  );
  assert.equal(again.fingerprint, data.fingerprint);
  assert.deepEqual(seen, []);
  assert.ok((await fs.readdir(path.join(root.path, 'cache'))).includes('packs'));
});
