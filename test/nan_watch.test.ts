/** The native watch for NaN and infinity: the weights never have them, and the first bad node is named. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { trace } from '#fornax/graph/trace.js';
import { crossEntropy, mse, traceLoss } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type {
  Finding,
  NativeGraph,
  NativeTensor,
  NativeTrain,
  TrainOptions,
} from '#fornax/native/contract.js';
import { call, Linear, Module, ReLU, Sequential, type Tensor } from '#fornax/nn/index.js';
import { describeFinding } from '#fornax/train/finding.js';

import {
  goldenBatch,
  goldenModel,
  openSession,
  parameterGroups,
  stateValues,
} from './support/training_golden.js';

const floats = (values: readonly number[], shape: number[]): NativeTensor =>
  loadAddon().Tensor.fromTypedArray(Float32Array.from(values), shape);

/** log of the sum of a hidden layer: not finite once the sum is not above 0. */
class Logarithm extends Module {
  readonly features = new Sequential(new Linear(4, 8), new ReLU());
  readonly head = new Linear(1, 2);
  forward(x: Tensor): Tensor {
    const sum = this.features.forward(x).sum([1], { keepdim: true });
    return this.head.forward(call('aten::log', [sum.sub(1)]));
  }
}

function logarithm(): NativeGraph {
  const graph = trace(new Logarithm(), { inputs: [{ name: 'image', shape: [2, 4] }] });
  const model = new (loadAddon().Graph)(graph, { trusted: true });
  model.initialize(0);
  return model;
}

function open(model: NativeGraph, more: Partial<TrainOptions> = {}): NativeTrain {
  return openSession(model, { nan_watch: {}, fuse: false, ...more });
}

async function isRefused(session: NativeTrain, batch: Record<string, NativeTensor>, message: RegExp) {
  await assert.rejects(session.step(batch), { name: 'TrainError', message });
}

/** What the golden network is given, with one pixel replaced. */
function spoilt(value: number): Record<string, NativeTensor> {
  const batch = goldenBatch(0, 4);
  const pixels = (batch['image']!.toTypedArray() as Float32Array).slice();
  pixels[100] = value;
  return { ...batch, image: floats([...pixels], [4, 3, 16, 16]) };
}

test('NaN in the data: neither weights nor statistics of batch norm have it', async () => {
  const model = goldenModel();
  const session = open(model);
  await session.step(goldenBatch(0, 4));
  const before = stateValues(model);
  await isRefused(session, spoilt(NaN), /loss is not finite at step 2/);
  assert.deepEqual(stateValues(model), before);
  assert.equal(session.stepCount, 1);
  const finding = await session.diagnose([spoilt(NaN)]);
  assert.equal(describeFinding(finding), 'the batch is not finite: its `image` has 1 NaN of 3072');
  assert.deepEqual(stateValues(model), before);
  session.dispose();
});

test('a bad step leaves a session as if it had never been', async () => {
  const run = async (bad: boolean): Promise<Record<string, Float32Array>> => {
    const model = goldenModel({ dropout: 0.3 });
    const session = open(model, { optimizer: { name: 'adamw' }, ema: { decay: 0.9 } });
    for (let i = 0; i < 4; i++) {
      if (bad && i === 2) {
        await isRefused(session, spoilt(Infinity), /not finite at step 3/);
        await session.diagnose([spoilt(Infinity)]);
      }
      await session.step(goldenBatch(8 * i, 8));
    }
    const averages = session.ema();
    const values = Object.fromEntries(
      Object.entries(averages)
        .filter(([, tensor]) => tensor.dtype === 'float32')
        .map(([name, tensor]) => [name, (tensor.toTypedArray() as Float32Array).slice()]),
    );
    session.dispose();
    return {
      ...stateValues(model),
      ...Object.fromEntries(Object.entries(values).map(([k, v]) => [`ema/${k}`, v])),
    };
  };
  assert.deepEqual(await run(true), await run(false));
});

test('NaN in a weight is named', async () => {
  const model = goldenModel();
  const { Tensor } = loadAddon();
  const entry = model.state().find(({ name }) => name === 'conv2.weight')!;
  const values = (entry.tensor.toTypedArray() as Float32Array).slice();
  values[5] = NaN;
  model.loadState({ 'conv2.weight': Tensor.fromTypedArray(values, entry.tensor.shape) }, { strict: false });
  const session = open(model);
  await isRefused(session, goldenBatch(0, 4), /loss is not finite/);
  const finding = await session.diagnose([goldenBatch(0, 4)]);
  assert.equal(finding.phase, 'parameter');
  assert.match(describeFinding(finding), /^the parameter conv2\.weight is not finite: 1 NaN of \d+$/);
  session.dispose();
});

test('the first bad node of a model: the logarithm of a negative number', async () => {
  const batch = () => ({
    image: floats(Array<number>(8).fill(0), [2, 4]),
    target: floats([1, 2, 3, 4], [2, 2]),
  });
  for (const more of [{}, { amp: 'bf16' as const }, { grad_accum: 2 }, { clip_norm: 1 }]) {
    const session = open(logarithm(), { loss: mse(), ...more });
    await isRefused(session, batch(), /loss is not finite at step 1/);
    const finding = await session.diagnose([batch()]);
    assert.equal(finding.phase, 'forward', JSON.stringify(more));
    assert.match(
      describeFinding(finding),
      /^first bad node aten::log at the root \(node \d+\), inputs finite, output [12] NaN of [12]$/,
    );
    session.dispose();
  }
});

test('the first bad gradient: the square root of zero', async () => {
  class Root extends Module {
    readonly hidden = new Linear(2, 2, { bias: false });
    forward(x: Tensor): Tensor {
      return call('aten::sqrt', [this.hidden.forward(x).abs()]);
    }
  }
  const graph = trace(new Root(), { inputs: [{ name: 'image', shape: [2, 2] }] });
  const batch = () => ({ image: floats([0, 0, 0, 0], [2, 2]), target: floats([1, 1, 1, 1], [2, 2]) });
  const model = new (loadAddon().Graph)(graph, { trusted: true });
  model.initialize(0);
  const session = open(model, { loss: mse(), groups: parameterGroups(model) });
  const { reason, fault, steps } = await session.run([batch()], { steps: 1 });
  assert.deepEqual(
    [reason, fault!.what, fault!.step, fault!.applied, steps],
    ['not_finite', 'gradient', 1, false, 0],
  );
  assert.ok(Object.values(stateValues(model)).every((values) => values.every(Number.isFinite)));
  const finding = await session.diagnose([batch()]);
  assert.equal(finding.phase, 'backward');
  assert.match(
    describeFinding(finding),
    /^first bad gradient in the backward of aten::sqrt at the root \(node \d+\): for the result of aten::abs at the root \(node 1\), 4 infinite of 4, of which NaN came at aten::linear at hidden \(node 0\)$/,
  );
  session.dispose();
});

/** The loss is finite, its gradient is not where the weight is 0: √x at 0. */
class RootLoss extends Module {
  forward(output: Tensor, weight: Tensor): Tensor {
    return call('aten::sqrt', [output.mul(weight).square().sum()]);
  }
}
const rootLoss = {
  loss: traceLoss(new RootLoss(), ['output', 'weight']),
  schedule: { name: 'constant', lr: 0 },
} as const;
const rootBatch = (weight: number): Record<string, NativeTensor> => ({
  image: floats(Array<number>(8).fill(9), [2, 4]),
  weight: floats(Array<number>(4).fill(weight), [2, 2]),
});

test('gradients are looked at in every step, wherever a run ends', async () => {
  for (const steps of [6, 8]) {
    const model = logarithm();
    const session = open(model, rootLoss);
    const { fault } = await session.run([1, 1, 1, 1, 1, 0, 1, 1].slice(0, steps).map(rootBatch), { steps });
    assert.deepEqual([fault!.what, fault!.step, fault!.applied], ['gradient', 6, false]);
    assert.ok(Object.values(stateValues(model)).every((values) => values.every(Number.isFinite)));
    session.dispose();
  }
});

test('gradients are looked at every few steps where that is asked for, and at the last one of a run', async () => {
  const model = logarithm();
  const batch = rootBatch;
  const session = open(model, { ...rootLoss, nan_watch: { gradients_every: 3 } });
  const first = await session.run([1, 1, 0, 1].map(batch), { steps: 4 });
  assert.deepEqual([first.steps, first.fault!.what, first.fault!.step], [2, 'gradient', 3]);
  const last = await session.run([1, 0].map(batch), { steps: 2 });
  assert.deepEqual(
    [last.steps, last.fault!.what, last.fault!.step],
    [1, 'gradient', 4],
    'the last step of a run',
  );
  const ended = await session.run([0].map(batch), { steps: 5 });
  assert.deepEqual(
    [ended.reason, ended.fault!.step, ended.fault!.applied],
    ['not_finite', 4, true],
    'the end of the data',
  );
  session.dispose();
  // Noticed at the loss of the step after it, and not laid at that one's door.
  const spoiling = open(logarithm(), { ...rootLoss, nan_watch: { gradients_every: 10 } });
  const { fault } = await spoiling.run([1, 1, 0, 1, 1].map(batch), { steps: 5 });
  assert.deepEqual([fault!.what, fault!.step, fault!.applied], ['gradient', 3, true]);
  spoiling.dispose();
});

test('an exploding rate: infinity first, and the node is named', async () => {
  const model = goldenModel();
  const session = open(model, {
    nan_watch: { gradients_every: 1 },
    schedule: { name: 'constant', lr: 1e20 },
  });
  const batches = Array.from({ length: 6 }, (_, i) => goldenBatch(8 * i, 8));
  const { reason, fault, steps } = await session.run(batches, { steps: 6 });
  assert.equal(reason, 'not_finite');
  assert.equal(fault!.step, steps + 1);
  assert.equal(session.stepCount, steps);
  const finding = await session.diagnose([goldenBatch(8 * steps, 8)]);
  assert.notEqual(finding.phase, 'none');
  assert.ok(Object.values(stateValues(model)).every((values) => !values.some(Number.isNaN)));
  session.dispose();
});

test('where nobody waits for the loss, the bad step and all after it change nothing', async () => {
  // A tape on the CPU stands in for a CUDA graph.
  const late = { tape: true, threads: 1, optimizer: { name: 'adam' }, nan_watch: {} } as const;
  const train = async (count: number, more: Partial<TrainOptions>): Promise<[NativeTrain, NativeGraph]> => {
    const model = goldenModel({ dropout: 0.3 });
    const session = open(model, { ...late, ...more });
    const batches = Array.from({ length: count }, (_, i) => (i === 8 ? spoilt(NaN) : goldenBatch(4 * i, 4)));
    const { reason, fault, steps, repeated } = await session.run(batches, { steps: count });
    assert.ok(repeated > 0);
    if (count > 8) {
      assert.deepEqual([reason, fault!.what, fault!.step, fault!.applied], ['not_finite', 'loss', 9, false]);
      assert.deepEqual([steps, session.stepCount], [8, 8]);
    }
    return [session, model];
  };
  const kept = (session: NativeTrain) =>
    Object.entries(session.snapshot()).map(([name, tensor]) => [
      name,
      [...tensor.toTypedArray()].map(Number),
    ]);
  const settings: Partial<TrainOptions>[] = [
    {},
    { ema: { decay: 0.9 } },
    { ema: { decay: 0.9, warmup: true } },
    { swa: { start: 2, interval: 2 } },
    { optimizer: { name: 'rmsprop' } },
  ];
  for (const more of settings) {
    const [session, model] = await train(13, more);
    const [expected, same] = await train(8, more);
    // Statistics of batch norm, averages and their counts, and the generator among them.
    assert.deepEqual(stateValues(model), stateValues(same));
    assert.deepEqual(kept(session), kept(expected));
    assert.equal((await session.diagnose([spoilt(NaN)])).phase, 'input');
    await isRefused(session, spoilt(NaN), /loss is not finite at step 9/);
    // And it can go on, as if nothing had been.
    for (const each of [session, expected]) {
      const again = await each.run([goldenBatch(0, 4), goldenBatch(4, 4)], { steps: 2 });
      assert.equal(again.reason, 'done');
    }
    assert.deepEqual(stateValues(model), stateValues(same));
    assert.deepEqual(kept(session), kept(expected));
    session.dispose();
    expected.dispose();
  }
});

test('where nobody waits, gradients that are not finite are found too, whatever the loss', async () => {
  const session = open(logarithm(), { ...rootLoss, tape: true, threads: 1 });
  const batches = [1, 1, 1, 1, 1, 0, 1, 1].map(rootBatch);
  const { reason, fault, steps } = await session.run(batches, { steps: 8 });
  assert.deepEqual([reason, fault!.what, fault!.step, steps], ['not_finite', 'gradient', 6, 5]);
  session.dispose();
});

test('anomaly mode sees what the loss hides', async () => {
  class Masked extends Module {
    readonly hidden = new Linear(2, 2);
    forward(x: Tensor): Tensor {
      const h = this.hidden.forward(x);
      const bad = call('aten::log', [h.mul(0).sub(1)]);
      return h.add(call('aten::nan_to_num', [bad]));
    }
  }
  const graph = trace(new Masked(), { inputs: [{ name: 'image', shape: [2, 2] }] });
  const batch = () => ({ image: floats([1, 2, 3, 4], [2, 2]), target: floats([1, 1, 1, 1], [2, 2]) });
  const train = async (anomaly: boolean) => {
    const model = new (loadAddon().Graph)(graph, { trusted: true });
    model.initialize(0);
    const session = open(model, { loss: mse(), groups: parameterGroups(model), nan_watch: { anomaly } });
    const result = await session.run([batch(), batch()], { steps: 2 });
    session.dispose();
    return result;
  };
  assert.equal((await train(false)).fault?.what ?? 'none', 'none');
  const { fault, finding, steps } = await train(true);
  assert.deepEqual([fault!.what, fault!.step, steps], ['node', 1, 0]);
  assert.match(
    describeFinding(finding as Finding),
    /^first bad node aten::log at the root \(node \d+\), inputs finite, output 4 NaN of 4$/,
  );
});

test('steps that a gradient scaler skips are no fault; a scale that has collapsed is', async () => {
  const scaled = { amp: 'fp16' as const, loss: crossEntropy() };
  const session = open(goldenModel(), { ...scaled, scaler: { init_scale: 2 ** 40 } });
  const few = await session.run(
    Array.from({ length: 40 }, () => goldenBatch(0, 8)),
    { steps: 40 },
  );
  assert.equal(few.reason, 'done');
  session.dispose();
  const hopeless = open(logarithm(), { ...rootLoss, amp: 'fp16' });
  const batches = Array.from({ length: 60 }, () => rootBatch(0));
  const { reason, fault } = await hopeless.run(batches, { steps: 60 });
  assert.deepEqual([reason, fault!.what, fault!.step], ['not_finite', 'scale', 50]);
  hopeless.dispose();
});

test('with a gradient scaler a loss that is not finite is a fault at once', async () => {
  for (const more of [{}, { tape: true, threads: 1 }]) {
    const model = goldenModel();
    const session = open(model, { amp: 'fp16', ...more });
    const batches = Array.from({ length: 12 }, (_, i) => (i === 6 ? spoilt(NaN) : goldenBatch(4 * i, 4)));
    const { reason, fault, steps } = await session.run(batches, { steps: 12 });
    assert.deepEqual([reason, fault!.what, fault!.step, steps], ['not_finite', 'loss', 7, 6]);
    assert.ok(Object.values(stateValues(model)).every((values) => values.every(Number.isFinite)));
    session.dispose();
  }
});
