/** The public Model: made, run, differentiated, given weights. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import {
  ArgumentError,
  ConfigError,
  DisposedError,
  ExecutionError,
  GuardError,
  WeightsError,
} from '#fornax/errors.js';
import { writeSafetensors } from '#fornax/io/safetensors.js';
import { Model } from '#fornax/model.js';
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  Linear,
  Module,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';
import { image, numbers } from './support/model_inputs.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;

before(async () => {
  root = await temporaryFolder();
});

after(() => root[Symbol.asyncDispose]());

/** Pads to a multiple of four, as Swin pads to its window: which way is taken depends on the size. */
class Padded extends Module {
  readonly conv = new Conv2d(3, 4, 4, { stride: 4 });

  forward(x: Symbolic): Symbolic {
    const rest = x.size(2).mod(4);
    return this.conv.forward(rest.eq(0) ? x : F.pad(x, [0, 0, 0, rest.neg().add(4)]));
  }
}

test('a zoo model has the names of PyTorch and runs at any batch size and resolution', async () => {
  using model = Model.create('resnet18', { seed: 3, numClasses: 7, inputs: [[2, 3, 32, 32]] });
  const names = model.state().map(({ name }) => name);
  assert.deepEqual(names.slice(0, 6), [
    'conv1.weight',
    'bn1.weight',
    'bn1.bias',
    'bn1.running_mean',
    'bn1.running_var',
    'bn1.num_batches_tracked',
  ]);
  assert.equal(names.at(-1), 'fc.bias');
  for (const [n, side] of [
    [1, 32],
    [5, 64],
    [3, 47],
  ] as const) {
    const { output } = await model.forward(image(n, side));
    assert.deepEqual(output!.shape, [n, 7]);
  }
  assert.equal(model.parameterCount, 11_180_103);
  assert.match(model.summary(), /conv2 +conv2d +\[2, 512, 1, 1\] +2,359,296/);
});

test('equal seeds give equal weights, other seeds others', async () => {
  const [a, b, c] = [1, 1, 2].map((seed) => Model.create('tiny_cnn', { seed }));
  const x = image(2);
  const outputs = await Promise.all(
    [a!, b!, c!].map(async (model) => (await model.forward(x)).output!.toArray()),
  );
  assert.deepEqual(outputs[0], outputs[1]);
  assert.notDeepEqual(outputs[0], outputs[2]);
  for (const model of [a!, b!, c!]) model.dispose();
});

test('train mode moves running statistics, eval mode does not', async () => {
  using model = Model.create('tiny_cnn');
  const mean = (): number[] =>
    model
      .state()
      .find(({ name }) => name === 'bn1.running_mean')!
      .tensor.toArray() as number[];
  const start = mean();
  await model.forward(image(4));
  assert.deepEqual(mean(), start);
  await model.forward(image(4), { mode: 'train' });
  assert.notDeepEqual(mean(), start);
});

test('modules can be tapped by their path', async () => {
  using model = Model.create('resnet18', { numClasses: 4, inputs: [[1, 3, 64, 64]] });
  const outputs = await model.forward(image(2, 64), { taps: ['layer1', 'layer4.1.conv2'] });
  assert.deepEqual(Object.keys(outputs).sort(), ['layer1', 'layer4.1.conv2', 'output']);
  assert.deepEqual(outputs.layer1!.shape, [2, 64, 16, 16]);
  assert.deepEqual(outputs['layer4.1.conv2']!.shape, [2, 512, 2, 2]);
});

test('forwards may overlap', async () => {
  using model = Model.create('tiny_cnn');
  const inputs = Array.from({ length: 8 }, (_, i) =>
    Tensor.from(numbers(3 * 32 * 32, i + 1), [1, 3, 32, 32]),
  );
  const single = [];
  for (const x of inputs) single.push((await model.forward(x)).output!.toArray());
  const together = await Promise.all(inputs.map(async (x) => (await model.forward(x)).output!.toArray()));
  assert.deepEqual(together, single);
});

test('uint8 images are normalised as the preprocessing says', async () => {
  const normalize = { mean: [0.2, 0.4, 0.6], std: [0.5, 0.25, 0.2] };
  using model = Model.create('tiny_cnn', {
    preprocessing: { channels: 3, pack_size: null, resize: 8, size: [8, 8], normalize },
  });
  const pixels = Uint8Array.from({ length: 2 * 8 * 8 * 3 }, (_, i) => (i * 37) % 256);
  const planes = new Float32Array(pixels.length);
  for (let n = 0; n < 2; n++) {
    for (let p = 0; p < 64; p++) {
      for (let c = 0; c < 3; c++) {
        const value = pixels[(n * 64 + p) * 3 + c]! / 255;
        planes[(n * 3 + c) * 64 + p] = (value - normalize.mean[c]!) / normalize.std[c]!;
      }
    }
  }
  const fromBytes = (await model.forward(Tensor.from(pixels, [2, 8, 8, 3]))).output!.toArray() as number[][];
  const fromFloats = (await model.forward(Tensor.from(planes, [2, 3, 8, 8]))).output!.toArray() as number[][];
  for (const [i, row] of fromBytes.entries()) {
    for (const [j, value] of row.entries()) assert.ok(Math.abs(value - fromFloats[i]![j]!) < 1e-5);
  }
});

test('a size that the trace was not made for: the source is traced again, a file says what it cannot do', async () => {
  using model = Model.create(new Padded(), { inputs: [[1, 3, 8, 8]] });
  const file = path.join(root.path, 'padded.safetensors');
  await model.save(file);
  assert.deepEqual((await model.forward(image(2, 8))).output!.shape, [2, 4, 2, 2]);
  assert.deepEqual((await model.forward(image(1, 12))).output!.shape, [1, 4, 3, 3]);
  const tall = Tensor.from(numbers(3 * 10 * 8), [1, 3, 10, 8]);
  assert.deepEqual((await model.forward(tall)).output!.shape, [1, 4, 3, 2]);
  // Both sizes at once, again and again: each is answered with a trace that fits it.
  const shapes = await Promise.all(
    [image(1, 8), tall, image(1, 8), tall].map(async (x) => (await model.forward(x)).output!.shape),
  );
  assert.deepEqual(shapes, [
    [1, 4, 2, 2],
    [1, 4, 3, 2],
    [1, 4, 2, 2],
    [1, 4, 3, 2],
  ]);

  using loaded = await Model.load(file);
  assert.deepEqual((await loaded.forward(image(1, 12))).output!.shape, [1, 4, 3, 3]);
  await assert.rejects(loaded.forward(tall), (error) => {
    assert.ok(error instanceof GuardError);
    assert.match(error.message, /% 4|%4|mod/);
    assert.match(error.message, /image \[1, 3, 8, 8\]/);
    return true;
  });
});

/** Branches on a size only after its batch norm, as a model that pads feature maps does. */
class PaddedLate extends Module {
  readonly bn = new BatchNorm2d(3);

  forward(x: Symbolic): Symbolic {
    const y = F.relu(this.bn.forward(x));
    return y.size(2).mod(2).eq(0) ? y : F.pad(y, [0, 0, 0, 1]);
  }
}

test('a retrace does not update the statistics of batch norm twice', async () => {
  using model = Model.create(new PaddedLate(), { inputs: [[2, 3, 8, 8]] });
  const buffer = (name: string): unknown =>
    model
      .state()
      .find((entry) => entry.name === name)!
      .tensor.toArray();
  const odd = image(2, 7);
  const { output } = await model.forward(odd, { mode: 'train' });
  assert.deepEqual(output!.shape, [2, 3, 8, 7]);
  assert.equal(buffer('bn.num_batches_tracked'), 1);
  using other = Model.create(new PaddedLate(), { inputs: [[2, 3, 7, 7]] });
  await other.forward(odd, { mode: 'train' });
  assert.deepEqual(
    buffer('bn.running_mean'),
    other
      .state()
      .find(({ name }) => name === 'bn.running_mean')!
      .tensor.toArray(),
  );
  // The same where only an override trains, and for a file, which cannot go on.
  const even = image(2, 8);
  const overrides = [{ prefix: 'bn', mode: 'train' as const }];
  await model.forward(even, { modes: { overrides } });
  assert.equal(buffer('bn.num_batches_tracked'), 2);
  const file = path.join(root.path, 'late.safetensors');
  await model.save(file);
  using loaded = await Model.load(file);
  await assert.rejects(loaded.forward(odd, { mode: 'train' }), GuardError);
  const tracked = loaded.state().find(({ name }) => name === 'bn.num_batches_tracked')!;
  assert.equal(tracked.tensor.item(), 2);
});

test('gradients agree with finite differences', async () => {
  class Net extends Module {
    readonly fc1 = new Linear(5, 6);
    readonly fc2 = new Linear(6, 3);
    forward(x: Symbolic): Symbolic {
      return this.fc2.forward(F.gelu(this.fc1.forward(x)));
    }
  }
  using model = Model.create(new Net(), { inputs: [{ name: 'x', shape: [4, 5] }], seed: 2 });
  const batch = {
    x: Tensor.from(numbers(20), [4, 5]),
    label: Tensor.from([0, 2, 1, 2], [4], { dtype: 'int64' }),
  };
  const { loss, gradients, outputs } = await model.lossAndGradients(batch);
  assert.deepEqual(Object.keys(gradients).sort(), ['fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight']);
  assert.deepEqual(outputs.output!.shape, [4, 3]);
  for (const name of ['fc1.weight', 'fc2.bias']) {
    const entry = model.state().find((candidate) => candidate.name === name)!;
    const values = entry.tensor.toTypedArray() as Float32Array;
    const gradient = gradients[name]!.toTypedArray() as Float32Array;
    for (const i of [0, 1, values.length - 1]) {
      const losses = [];
      for (const step of [1e-2, -1e-2]) {
        const moved = values.slice();
        moved[i]! += step;
        model.loadState({ [name]: Tensor.from(moved, entry.tensor.shape) }, { strict: false });
        losses.push((await model.lossAndGradients(batch)).loss);
      }
      model.loadState({ [name]: Tensor.from(values, entry.tensor.shape) }, { strict: false });
      const numeric = (losses[0]! - losses[1]!) / 2e-2;
      assert.ok(Math.abs(numeric - gradient[i]!) < 2e-4, `${name}[${i}]: ${gradient[i]} against ${numeric}`);
    }
  }
  assert.equal((await model.lossAndGradients(batch)).loss, loss);
});

test('weights are loaded strictly, or what fits', async () => {
  using model = Model.create('tiny_cnn', { numClasses: 4 });
  using other = Model.create('tiny_cnn', { numClasses: 9, seed: 8 });
  const file = path.join(root.path, 'other.safetensors');
  await other.save(file);
  await assert.rejects(model.loadWeights(file), (error) => {
    assert.ok(error instanceof WeightsError);
    assert.match(error.message, /fc\.weight/);
    return true;
  });
  const report = await model.loadWeights(file, { strict: false });
  assert.deepEqual(report.mismatched.sort(), [
    'fc.bias: model [4], given [9]',
    'fc.weight: model [4, 32], given [9, 32]',
  ]);
  const value = (from: Model): unknown =>
    from
      .state()
      .find(({ name }) => name === 'conv1.weight')!
      .tensor.toArray();
  assert.deepEqual(value(model), value(other));
  const foreign = path.join(root.path, 'foreign.safetensors');
  await writeSafetensors(foreign, [['unrelated', Tensor.zeros([1]).native]]);
  await assert.rejects(model.loadWeights(foreign, { strict: false }), /none of the tensors/);
  await assert.rejects(Model.load(foreign), /holds weights, but no model/);
});

test('the new weights are used at once', async () => {
  using model = Model.create('tiny_cnn');
  using other = Model.create('tiny_cnn', { seed: 4 });
  const x = image(1);
  await model.forward(x);
  model.loadState(Object.fromEntries(other.state().map(({ name, tensor }) => [name, tensor])));
  assert.deepEqual((await model.forward(x)).output!.toArray(), (await other.forward(x)).output!.toArray());
});

test('wrong use is refused with a reason', async () => {
  assert.throws(
    () => Model.create('resnet81'),
    (error) => error instanceof ConfigError && /resnet18/.test(error.message),
  );
  assert.throws(() => Model.create(new Padded()), ArgumentError);
  const model = Model.create('tiny_cnn');
  await assert.rejects(model.forward([image(1), image(1)]), ArgumentError);
  await assert.rejects(model.forward(image(1, 32, 5)), ExecutionError);
  model.dispose();
  model.dispose();
  await assert.rejects(model.forward(image(1)), DisposedError);
});
