/** Precision of single nodes: where a plan's casts stand, what it computes, and what measuring leaves alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ArgumentError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { loadAddon } from '#fornax/native.js';
import type {
  MeasureRequest,
  NativeGraph,
  PrecisionMeasurement,
  PrecisionVerdict,
  TrainOptions,
} from '#fornax/native/contract.js';
import {
  BatchNorm2d,
  call,
  cat,
  Conv2d,
  functional as F,
  LayerNorm,
  Linear,
  Module,
  type Tensor,
} from '#fornax/nn/index.js';

import { goldenBatch, openSession, stateValues, trainOptions } from './support/training_golden.js';

const features = loadAddon().systemInfo().cpu_features;
const noBf16 = features.avx512_bf16 || features.amx_bf16 ? false : 'this CPU has no bf16 arithmetic';

/** MobileNetV2's block, between a stem and a classifier. */
class InvertedResidual extends Module {
  readonly stem: Conv2d;
  readonly stemNorm: BatchNorm2d;
  readonly expand: Conv2d;
  readonly expandNorm: BatchNorm2d;
  readonly depthwise: Conv2d;
  readonly depthwiseNorm: BatchNorm2d;
  readonly project: Conv2d;
  readonly projectNorm: BatchNorm2d;
  readonly fc: Linear;

  constructor(channels = 8, hidden = 24) {
    super();
    this.stem = new Conv2d(3, channels, 3, { padding: 1, bias: false });
    this.stemNorm = new BatchNorm2d(channels);
    this.expand = new Conv2d(channels, hidden, 1, { bias: false });
    this.expandNorm = new BatchNorm2d(hidden);
    this.depthwise = new Conv2d(hidden, hidden, 3, { padding: 1, groups: hidden, bias: false });
    this.depthwiseNorm = new BatchNorm2d(hidden);
    this.project = new Conv2d(hidden, channels, 1, { bias: false });
    this.projectNorm = new BatchNorm2d(channels);
    this.fc = new Linear(channels, 10);
  }

  forward(image: Tensor): Tensor {
    const x = F.relu6(this.stemNorm.forward(this.stem.forward(image)));
    let y = F.relu6(this.expandNorm.forward(this.expand.forward(x)));
    y = F.relu6(this.depthwiseNorm.forward(this.depthwise.forward(y)));
    y = x.add(this.projectNorm.forward(this.project.forward(y)));
    return this.fc.forward(F.adaptiveAvgPool2d(y, 1).flatten(1));
  }
}

function graphOf(module: Module, shape: number[]): NativeGraph {
  const model = new (loadAddon().Graph)(trace(module, { inputs: [shape] }), { trusted: true });
  model.initialize(3);
  return model;
}

const plan = (module: Module, shape: number[], bf16: string[]): string[] =>
  loadAddon().precisionPlan(graphOf(module, shape), bf16);

test('casts stand at the inputs of the nodes that need them', () => {
  const lines = plan(new InvertedResidual(), [2, 3, 16, 16], ['stem', 'expand', 'project']);
  assert.deepEqual(lines, [
    'cast BFloat16 stem',
    'cast BFloat16 stem',
    'aten::conv2d stem',
    'fornax::batch_norm stemNorm',
    'aten::relu6',
    'cast BFloat16 expand', // The weight alone: the activation comes in bf16.
    'aten::conv2d expand',
    'fornax::batch_norm expandNorm',
    'aten::relu6',
    'cast Float depthwise',
    'aten::conv2d depthwise',
    'fornax::batch_norm depthwiseNorm',
    'aten::relu6',
    'cast BFloat16 project',
    'cast BFloat16 project',
    'aten::conv2d project',
    'fornax::batch_norm projectNorm',
    'aten::add.Tensor',
    'aten::adaptive_avg_pool2d',
    'aten::flatten.using_ints',
    'cast Float fc',
    'aten::linear fc',
  ]);
});

test('of squeeze-and-excitation the factors are cast, not the product', () => {
  class SqueezeExcitation extends Module {
    readonly depthwise = new Conv2d(3, 3, 3, { padding: 1, groups: 3, bias: false });
    readonly norm = new BatchNorm2d(3);
    readonly gate = new Conv2d(3, 3, 1, { bias: false });
    readonly project = new Conv2d(3, 4, 1, { bias: false });
    forward(image: Tensor): Tensor {
      const x = F.silu(this.norm.forward(this.depthwise.forward(image)));
      const scale = F.sigmoid(this.gate.forward(F.adaptiveAvgPool2d(x, 1)));
      return this.project.forward(scale.mul(x));
    }
  }
  assert.deepEqual(plan(new SqueezeExcitation(), [2, 3, 8, 8], ['project']), [
    'aten::conv2d depthwise',
    'fornax::batch_norm norm',
    'aten::silu',
    'cast BFloat16', // Directly after the activation, with which it is fused: pool and product read it.
    'aten::adaptive_avg_pool2d',
    'cast Float gate',
    'aten::conv2d gate',
    'aten::sigmoid',
    'cast BFloat16',
    'aten::mul.Tensor',
    'cast BFloat16 project', // The weight.
    'aten::conv2d project',
    'cast Float',
  ]);
});

test('outputs come back in float32; without names nothing changes', () => {
  const lines = plan(new InvertedResidual(), [2, 3, 16, 16], ['fc']);
  assert.deepEqual(lines.slice(-5), [
    'cast BFloat16 fc',
    'cast BFloat16 fc',
    'cast BFloat16 fc',
    'aten::linear fc',
    'cast Float',
  ]);
  assert.ok(!plan(new InvertedResidual(), [2, 3, 16, 16], []).some((line) => line.startsWith('cast')));
});

test('a module that is called twice has two nodes, and its weight is cast once', () => {
  class Twice extends Module {
    readonly conv = new Conv2d(3, 3, 3, { padding: 1, bias: false });
    forward(image: Tensor): Tensor {
      return this.conv.forward(F.relu(this.conv.forward(image)));
    }
  }
  const nodes = loadAddon().precisionNodes(graphOf(new Twice(), [2, 3, 8, 8]));
  assert.deepEqual(nodes, [
    { name: 'conv', path: 'conv', op: 'aten::conv2d' },
    { name: 'conv#1', path: 'conv', op: 'aten::conv2d' },
  ]);
  assert.deepEqual(plan(new Twice(), [2, 3, 8, 8], ['conv', 'conv#1']), [
    'cast BFloat16 conv',
    'cast BFloat16 conv',
    'aten::conv2d conv',
    'aten::relu',
    'aten::conv2d conv',
    'cast Float',
  ]);
  assert.deepEqual(plan(new Twice(), [2, 3, 8, 8], ['conv#1']).slice(2), [
    'cast BFloat16 conv',
    'cast BFloat16 conv',
    'aten::conv2d conv',
    'cast Float',
  ]);
});

test('what needs float32 gets it: layer norm, softmax; a mixture becomes float32', () => {
  class Attention extends Module {
    readonly norm = new LayerNorm(8);
    readonly query = new Linear(8, 8);
    readonly key = new Linear(8, 8);
    forward(x: Tensor): Tensor {
      const scores = this.query.forward(x).matmul(this.key.forward(x).transpose(1, 2));
      return this.norm.forward(scores.softmax(-1).matmul(x).add(this.query.forward(x)));
    }
  }
  const lines = plan(new Attention(), [2, 5, 8], ['query', 'key', '', 'query#1']);
  const named = (op: string): string[] => [lines[lines.indexOf(op) - 1]!, op];
  assert.deepEqual(named('aten::softmax.int'), ['cast Float', 'aten::softmax.int']);
  assert.deepEqual(named('aten::layer_norm norm'), ['cast Float norm', 'aten::layer_norm norm']);
  assert.equal(lines.at(-1), 'aten::layer_norm norm');
});

test('names and settings that make no sense are refused', () => {
  const model = graphOf(new InvertedResidual(), [2, 3, 16, 16]);
  const open = (options: Partial<TrainOptions>) => () => openSession(model, options).dispose();
  assert.throws(
    open({ precision: { bf16: ['stem', 'steam'] } }),
    (error) => error instanceof ArgumentError && /matrix product named `steam`/.test(error.message),
  );
  assert.throws(
    open({ precision: { bf16: ['stem'] }, amp: 'bf16' }),
    (error) => error instanceof ArgumentError && error.message.includes('needs amp `off`'),
  );
  open({ precision: { bf16: ['stem'] } })();
});

async function train(
  options: Partial<TrainOptions>,
  steps = 16,
): Promise<{ losses: number[]; model: NativeGraph }> {
  const model = graphOf(new InvertedResidual(), [2, 3, 16, 16]);
  const session = openSession(model, { schedule: { name: 'constant', lr: 0.1 }, ...options });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    losses.push((await session.step(goldenBatch((step * 16) % 64, 16))).loss);
  }
  session.dispose();
  return { losses, model };
}

for (const fuse of [false, true]) {
  const name = fuse ? 'fused' : 'plain';
  test(`a mixed plan follows training in float32, which it is not (${name} operators)`, async () => {
    const bf16 = ['stem', 'expand', 'project', 'fc'];
    const full = await train({ channels_last: true, fuse });
    const mixed = await train({ channels_last: true, fuse, precision: { bf16 } });
    assert.notDeepEqual(mixed.losses, full.losses);
    for (const [step, loss] of full.losses.entries()) {
      // bf16 has 8 bits: 0.4 % of each value, less of a mean over many.
      const allowed = 2e-3;
      assert.ok(
        Math.abs(mixed.losses[step]! - loss) <= allowed,
        `step ${step}: ${mixed.losses[step]}, ${loss}`,
      );
    }
    assert.ok(mixed.losses.at(-1)! < mixed.losses[0]! - 0.1);
    // Weights and statistics stay float32.
    for (const { name, tensor } of mixed.model.state()) {
      assert.ok(['float32', 'int64'].includes(tensor.dtype), `${name} is ${tensor.dtype}`);
    }
    const again = await train({ channels_last: true, fuse, precision: { bf16 } });
    assert.deepEqual(stateValues(again.model), stateValues(mixed.model));
  });
}

test('every operator that lets bf16 through has kernels for it, forward and backward', async () => {
  class All extends Module {
    readonly conv = new Conv2d(3, 8, 3, { padding: 1 });
    readonly norm = new BatchNorm2d(8, { affine: false });
    readonly last = new Linear(8, 10);
    forward(image: Tensor): Tensor {
      const x = this.norm.forward(this.conv.forward(image));
      const activations = [
        F.relu(x), F.relu6(x), F.leakyRelu(x), F.silu(x), F.gelu(x), F.hardswish(x), F.hardsigmoid(x),
        F.sigmoid(x), F.tanh(x), call('aten::elu', [x]), call('aten::mish', [x]),
      ]; // prettier-ignore
      let sum = activations.reduce((total, y) => total.add(y));
      sum = sum.add(F.interpolate(F.maxPool2d(x, 2), { scaleFactor: 2 }));
      sum = sum.add(F.interpolate(F.avgPool2d(x, 2), { scaleFactor: 2, mode: 'bilinear' }));
      const parts = cat([sum, x.mul(0.5), x.sub(1)], 1).chunk(3, 1);
      return this.last.forward(F.adaptiveAvgPool2d(parts[0]!.mul(parts[1]!).sub(parts[2]!), 1).flatten(1));
    }
  }
  const model = graphOf(new All(), [2, 3, 16, 16]);
  const session = openSession(model, { channels_last: true, precision: { bf16: ['conv', 'last'] } });
  const { loss } = await session.step(goldenBatch(0, 8));
  assert.ok(Number.isFinite(loss));
  assert.equal(session.gradients()['conv.weight']!.dtype, 'float32');
  session.dispose();
});

const measure = (model: NativeGraph, request: Partial<MeasureRequest> = {}): PrecisionMeasurement =>
  loadAddon().measurePrecision(model, trainOptions(model, { channels_last: true }), {
    inputs: [{ shape: [16, 3, 32, 32], dtype: 'float32' }],
    ...request,
  });
const measured = (...given: Parameters<typeof measure>): Promise<PrecisionVerdict> =>
  measure(...given).verdict;

test('what could not gain more than measuring takes is not measured', async () => {
  const model = graphOf(new InvertedResidual(32, 96), [2, 3, 32, 32]);
  const verdict = await measured(model, { steps: 10 });
  assert.equal(verdict.reason, noBf16 ? 'unsupported' : 'too_small');
  assert.deepEqual([verdict.bf16, verdict.nodes, verdict.batch], [[], 5, 0]);
});

test('measuring changes neither weights nor statistics nor generators', { skip: noBf16 }, async () => {
  const model = graphOf(new InvertedResidual(32, 96), [2, 3, 32, 32]);
  const before = stateValues(model);
  const session = openSession(model, { seed: 5 });
  const generator = (): unknown => session.snapshot()['generator']!.toTypedArray();
  const drawn = generator();
  const verdict = await measured(model);
  assert.deepEqual(stateValues(model), before);
  assert.deepEqual(generator(), drawn);
  session.dispose();
  assert.ok(['measured', 'no_gain'].includes(verdict.reason), verdict.reason);
  assert.equal(verdict.bf16.length > 0, verdict.reason === 'measured');
  assert.equal(verdict.nodes, 5);
  assert.ok(verdict.seconds > 0 && verdict.seconds < 60);
  const names = new Set(
    loadAddon()
      .precisionNodes(model)
      .map(({ name }) => name),
  );
  assert.ok(verdict.bf16.every((name) => names.has(name)));
  // A session takes it as it is.
  openSession(model, { precision: verdict }).dispose();
});

test('shapes that do not fit the model are an error', async () => {
  const model = graphOf(new InvertedResidual(), [2, 3, 16, 16]);
  await assert.rejects(
    measured(model, { inputs: [] }),
    (error) => error instanceof ArgumentError && error.message.includes('1 inputs, but 0 shapes'),
  );
});
