/** Training with mixup and cutmix: the losses it fits, resuming, and what is refused. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { BinaryCrossEntropyLoss, FocalLoss, traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import { call, Linear, Module, type Tensor } from '#fornax/nn/index.js';
import { largestBatch, roundRows } from '#fornax/train/batch_size.js';
import type { TrainData } from '#fornax/train/data.js';
import type { JobEvent } from '#fornax/train/events.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { colourData, type ColourData } from './support/colour_data.js';
import { stateValues } from './support/training_golden.js';

let root: ColourData['root'];
let data: TrainData;
colourData((made) => ({ root, data } = made));

const plain = { epochs: 3, batchSize: 8, lr: 0.05, amp: 'off' } as const;

async function train(
  settings: TrainerOptions['train'],
  more: Partial<TrainerOptions> = {},
  stopAfterEpoch = Infinity,
): Promise<{ weights: Record<string, Float32Array>; trainer: Trainer; events: JobEvent[] }> {
  using model = Model.create('tiny_cnn', { seed: 0, numClasses: 3, inputs: [[2, 3, 24, 24]] });
  const trainer = new Trainer({ model, data, device: 'cpu', train: { ...plain, ...settings }, ...more });
  const stop = new AbortController();
  const events: JobEvent[] = [];
  for await (const event of trainer.fit({ signal: stop.signal, resume: more.folder ? 'auto' : false })) {
    events.push(event);
    if (event.type === 'epoch' && event.epoch === stopAfterEpoch) stop.abort();
  }
  return { weights: stateValues(model.native), trainer, events };
}

const mixed = { mixup: 0.4, cutmix: 1, labelSmoothing: 0.1 };

test('colours are learnt from mixed images, too', async () => {
  for (const loss of ['cross_entropy', 'bce', { name: 'focal', alpha: null, gamma: 1 }] as const) {
    const settings = { ...mixed, epochs: 10, loss, ...(typeof loss === 'object' && { labelSmoothing: 0 }) };
    const { trainer } = await train(settings);
    assert.ok(trainer.metrics!.top1! > 0.9, `${JSON.stringify(loss)}: ${trainer.metrics!.top1!}`);
  }
});

test('a resumed run mixes on as if nothing had happened', async () => {
  const settings = { ...mixed, gradAccum: 2 };
  const whole = await train(settings, { folder: path.join(root.path, 'whole') });
  const folder = path.join(root.path, 'resumed');
  for (const epoch of [1, 2]) assert.ok((await train(settings, { folder }, epoch)).trainer.interrupted);
  const resumed = await train(settings, { folder });
  assert.deepEqual(resumed.weights, whole.weights);
  assert.deepEqual(resumed.trainer.history, whole.trainer.history);
  assert.notDeepEqual((await train({ gradAccum: 2, labelSmoothing: 0.1 })).weights, whole.weights);
});

test('a batch size is found for a loss of shares, too', async () => {
  for (const loss of ['bce', { name: 'focal', alpha: null }] as const) {
    const { events } = await train({ mixup: 0.3, loss, epochs: 1, batchSize: 'auto' });
    const found = events.find((event) => event.type === 'batch_size');
    assert.equal(found?.batchSize, roundRows(largestBatch('cpu', data.trainSamples, 1)));
    assert.notEqual(found?.batchSize, 64);
  }
});

test('losses of shares are those of classes where nothing is mixed', async () => {
  for (const loss of ['cross_entropy', 'bce', 'focal'] as const) {
    const settings = { epochs: 1, loss, labelSmoothing: loss === 'focal' ? 0 : 0.1 };
    const classes = await train(settings);
    const shares = await train({ ...settings, mixup: 1, mixProb: 0 });
    const [a, b] = [classes, shares].map(({ trainer }) => trainer.history[0]!.loss);
    assert.ok(Math.abs(a! - b!) < 1e-5, `${loss}: ${a!}, ${b!}`);
  }
});

test('focal loss and binary cross entropy of shares', async () => {
  const { InferenceSession, Graph, Tensor: Values } = loadAddon();
  const logits = [0.3, -1.2, 2, 0.4, -0.1, 0.9];
  const shares = [0.7, 0.3, 0, 0.1, 0.4, 0.5];
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  const entropy = (x: number, t: number): number =>
    -t * Math.log(sigmoid(x)) - (1 - t) * Math.log(1 - sigmoid(x));
  const mean = (each: (x: number, t: number) => number): number =>
    logits.reduce((sum, x, i) => sum + each(x, shares[i]!), 0) / logits.length;
  // torchvision.ops.sigmoid_focal_loss
  const focal = (alpha: number, gamma: number) => (x: number, t: number) => {
    const p = sigmoid(x);
    const agreement = p * t + (1 - p) * (1 - t);
    return entropy(x, t) * (1 - agreement) ** gamma * (alpha * t + (1 - alpha) * (1 - t));
  };
  const cases = [
    { loss: new FocalLoss({ mode: 'multilabel', soft: true }), expected: mean(focal(0.25, 2)) },
    { loss: new BinaryCrossEntropyLoss(), expected: mean(entropy) },
  ];
  for (const { loss, expected } of cases) {
    const graph = new Graph(traceLoss(loss, ['output', 'label']), { trusted: true });
    const session = new InferenceSession(graph, {});
    const output = Values.fromTypedArray(Float32Array.from(logits), [2, 3]);
    const label = Values.fromTypedArray(Float32Array.from(shares), [2, 3]);
    const results = await session.forward({ output, label });
    assert.ok(Math.abs(Number(results['loss']!.toTypedArray()[0]) - expected) < 1e-6);
    session.dispose();
  }
});

test('what cannot be mixed is refused before training', async () => {
  const configured = (settings: ConfigInput['train']) => () =>
    defineConfig({ train: settings, data: { source: 'shapes' } });
  assert.throws(
    configured({ mixup: 0.2, loss: 'mse' }),
    /train\.mixup: the loss mse compares with no labels/,
  );
  assert.throws(configured({ cutmix: 1, loss: 'dice' }), /train\.cutmix: the loss dice/);
  const ignoring = { name: 'cross_entropy', ignoreIndex: 2 } as const;
  assert.throws(configured({ mixup: 0.2, loss: ignoring }), /cannot ignore a label \(ignore_index\)/);
  const samples = Array.from({ length: 12 }, (_, i) => [Math.sin(i), Math.cos(i)]);
  using vectors = await memoryData({ train: { x: samples, label: samples.map(([a]) => (a! > 0 ? 1 : 0)) } });
  using line = Model.create(new Linear(2, 2), { inputs: [{ name: 'x', shape: [1, 2] }] });
  const trainer = new Trainer({ model: line, data: vectors, device: 'cpu', train: { ...plain, mixup: 0.2 } });
  await assert.rejects(
    async () => {
      for await (const _ of trainer.fit()) continue;
    },
    { name: 'ConfigError', message: /the input x of the model has 2 dimensions/ },
  );
  // A teacher that nobody has told how to see images.
  using teacher = Model.create('tiny_cnn', { seed: 1, numClasses: 3, inputs: [[2, 3, 24, 24]] });
  await assert.rejects(train({ epochs: 1, loss: { name: 'distillation' } }, { teacher }), {
    name: 'ConfigError',
    message: /the teacher does not say how its images are normalised/,
  });
  class Hard extends Module {
    forward(output: Tensor, label: Tensor): Tensor {
      return call('aten::nll_loss_nd', [output.logSoftmax(1), label, null, 1, -100]);
    }
  }
  const loss = traceLoss(new Hard(), ['output', 'label']);
  await train({ epochs: 1 }, { loss });
  await assert.rejects(train({ mixup: 0.2 }, { loss }), {
    name: 'ConfigError',
    message: /takes `label` for the index of a class \(aten::nll_loss_nd\)/,
  });
});

test('every setting of the mixing reaches the session', async () => {
  let mix: unknown;
  (RUN_FEATURES as RunFeature[]).push({ prepare: ({ session }) => void (mix = session.mix) });
  try {
    const settings = { mixup: 0.2, cutmix: 1, mixProb: 0.7, mixSwitchProb: 0.3, mixEpochs: 2 };
    await train(settings);
  } finally {
    (RUN_FEATURES as RunFeature[]).pop();
  }
  const steps = 2 * Math.ceil(data.trainSamples / plain.batchSize);
  assert.deepEqual(mix, {
    classes: 3,
    label: 'label',
    mixup: 0.2,
    cutmix: 1,
    prob: 0.7,
    switch_prob: 0.3,
    steps,
  });
});
