/** Which operators of a training graph are exchanged and fused, and which must be left alone. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ExecutionError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy, traceLoss } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTrain, TrainOptions } from '#fornax/native/contract.js';
import { BatchNorm2d, call, cat, Conv2d, functional as F, Module, type Tensor } from '#fornax/nn/index.js';
import { fillInput } from './conformance/fill.js';

class Net extends Module {
  readonly conv = new Conv2d(3, 4, 1);
  readonly bn = new BatchNorm2d(4);
  readonly bn2 = new BatchNorm2d(4);

  constructor(private readonly body: (net: Net, x: Tensor) => Tensor | Record<string, Tensor>) {
    super();
  }

  forward(image: Tensor): Record<string, Tensor> {
    const result = this.body(this, this.conv.forward(image));
    return 'output' in result ? (result as Record<string, Tensor>) : { output: logits(result as Tensor) };
  }
}

const logits = (x: Tensor): Tensor => x.mean([2, 3]);

/** The loss of a model with an output of another name. */
class Mean extends Module {
  forward(output: Tensor): Tensor {
    return call('aten::mean', [output]);
  }
}

const anyLoss = (model: string): Graph => traceLoss(new Mean(), [model === 'unet' ? 'out' : 'output']);

function open(module: Module, options: Partial<TrainOptions> = {}, shape = [2, 3, 4, 4]): NativeTrain {
  const addon = loadAddon();
  const model = new addon.Graph(trace(module, { inputs: [shape] }), { trusted: true });
  model.initialize(0);
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  return new addon.TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd' },
    groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0.1 },
    channels_last: true,
    ...options,
  });
}

/** Operators after the convolution and before the mean. */
function operators(body: (net: Net, x: Tensor) => Tensor | Record<string, Tensor>, fuse = true): string[] {
  const session = open(new Net(body), { fuse });
  const names = session.operators().map(({ op }) => op);
  session.dispose();
  return names.filter((name) => !/conv2d|mean/.test(name));
}

const fused = 'fornax::batch_norm_act';

describe('batch norm is fused with what follows it', () => {
  it('an activation', () => {
    for (const activation of [F.relu, F.relu6, F.silu, F.hardswish, F.leakyRelu, F.hardtanh]) {
      assert.deepEqual(
        operators((net, x) => activation(net.bn.forward(x))),
        [fused],
      );
    }
  });

  it('an addition and an activation, whichever operand it is', () => {
    assert.deepEqual(
      operators((net, x) => F.relu(net.bn.forward(x).add(x))),
      [fused],
    );
    assert.deepEqual(
      operators((net, x) => F.relu(x.add(net.bn.forward(x)))),
      [fused],
    );
  });

  it('one of two batch norms that are added', () => {
    assert.deepEqual(
      operators((net, x) => F.relu(net.bn.forward(x).add(net.bn2.forward(x)))),
      [fused, fused],
    );
  });

  it('a conversion at the end', () => {
    assert.deepEqual(
      operators((net, x) => F.relu(net.bn.forward(x)).to('bfloat16')),
      [fused],
    );
  });

  it('nothing, where there is nothing that fits', () => {
    assert.deepEqual(
      operators((net, x) => F.sigmoid(net.bn.forward(x))),
      [fused, 'aten::sigmoid'],
    );
    assert.deepEqual(
      operators((net, x) => F.leakyRelu(net.bn.forward(x), -0.1)),
      [fused, 'aten::leaky_relu'],
    );
  });
});

describe('what somebody else reads is left alone', () => {
  it('a value that is used twice', () => {
    const names = operators((net, x) => {
      const normalized = net.bn.forward(x);
      return cat([F.relu(normalized), normalized], 1);
    });
    assert.deepEqual(names, [fused, 'aten::relu', 'aten::cat']);
  });

  it('a value that is added to itself', () => {
    const names = operators((net, x) => {
      const normalized = net.bn.forward(x);
      return normalized.add(normalized);
    });
    assert.deepEqual(names, [fused, 'aten::add.Tensor']);
  });

  it('an output of the model', () => {
    const names = operators((net, x) => {
      const normalized = net.bn.forward(x);
      return { output: logits(F.relu(normalized)), features: normalized };
    });
    assert.deepEqual(names, [fused, 'aten::relu']);
  });

  it('an addition with a factor', () => {
    const names = operators((net, x) => F.relu(call('aten::add.Tensor', [net.bn.forward(x), x, 2])));
    assert.deepEqual(names, [fused, 'aten::add.Tensor', 'aten::relu']);
  });

  it('everything, without `fuse`', () => {
    assert.deepEqual(
      operators((net, x) => F.relu(net.bn.forward(x)), false),
      ['fornax::batch_norm', 'aten::relu'],
    );
  });
});

describe('squeeze-and-excitation', () => {
  const gate = (x: Tensor): Tensor => F.sigmoid(F.adaptiveAvgPool2d(x, 1));

  it('becomes a gate, behind a pool that passes its value on', () => {
    const names = ['fornax::pool_through', 'aten::sigmoid', 'fornax::gate'];
    assert.deepEqual(
      operators((_net, x) => gate(x).mul(x)),
      names,
    );
    assert.deepEqual(
      operators((_net, x) => x.mul(gate(x))),
      names,
    );
  });

  it('in every block of the zoo', () => {
    for (const [name, blocks] of [
      ['efficientnet_b0', 16],
      ['mobilenet_v3_small', 9],
    ] as const) {
      const session = open(createModule(name), {}, [1, 3, 32, 32]);
      const names = session.operators().map(({ op }) => op);
      for (const op of ['fornax::gate', 'fornax::pool_through']) {
        assert.equal(names.filter((each) => each === op).length, blocks, `${op} of ${name}`);
      }
      session.dispose();
    }
  });

  it('is a product like others where there is no sigmoid, or two, and without `fuse`', () => {
    const kept = (body: (x: Tensor) => Tensor, fuse = true): boolean =>
      operators((_net, x) => body(x), fuse).includes('aten::mul.Tensor');
    assert.ok(kept((x) => F.relu(F.adaptiveAvgPool2d(x, 1)).mul(x)));
    assert.ok(kept((x) => gate(x).mul(F.sigmoid(x))));
    assert.ok(kept((x) => gate(x).mul(x), false));
  });
});

it('a fused node has the path of its batch norm, so that modes reach it', async () => {
  const module = new Net((net, x) => F.relu(net.bn.forward(x)));
  const { Tensor } = loadAddon();
  const single = {
    image: Tensor.fromTypedArray(fillInput(3, 1), [1, 3, 1, 1]),
    label: Tensor.fromTypedArray(new BigInt64Array(1), [1]),
  };
  const session = open(module);
  assert.deepEqual(session.operators()[1], { op: fused, path: 'bn' });
  // One value per channel has no variance.
  await assert.rejects(session.step(single), (error) => {
    return error instanceof ExecutionError && /batch_norm_act at bn/.test(error.message + error.where);
  });
  session.dispose();
  const other = open(new Net((net, x) => F.relu(net.bn.forward(x))), {
    modes: { overrides: [{ prefix: 'bn', kind: 'batch_norm', mode: 'eval' }] },
  });
  assert.ok(Number.isFinite((await other.step(single)).loss));
  other.dispose();
});

/** Whether there are kernels that gain: with vectors of 8 floats or more. */
const depthwiseExchanged =
  loadAddon().systemInfo().cpu_features.avx2 && process.env.ATEN_CPU_CAPABILITY !== 'default';

it('every batch norm and every depthwise convolution of the zoo is exchanged', () => {
  for (const [name, size] of [
    ['resnet18', 64],
    ['mobilenet_v2', 64],
    ['mobilenet_v3_small', 64],
    ['efficientnet_b0', 64],
    ['unet', 32],
    ['densenet121', 64],
  ] as const) {
    const shape = [1, 3, size, size];
    const plain = open(createModule(name), { fuse: false, loss: anyLoss(name) }, shape);
    const session = open(createModule(name), { loss: anyLoss(name) }, shape);
    const count = (of: NativeTrain, pattern: RegExp): number =>
      of.operators().filter(({ op }) => pattern.test(op)).length;
    assert.equal(count(session, /^fornax::batch_norm$/), 0, name);
    assert.equal(count(session, /batch_norm_act/), count(plain, /^fornax::batch_norm$/), name);
    // What remains follows no batch norm: the activations of squeeze-and-excitation.
    const activations = /aten::(relu6?|silu|hardswish)$/;
    assert.ok(count(session, activations) * 2 <= count(plain, activations), `activations of ${name}`);
    if (name === 'mobilenet_v2') {
      assert.equal(count(session, /depthwise_conv2d/), depthwiseExchanged ? 17 : 0);
      // Also where all others are computed in bfloat16.
      const exchanged = session.operators().filter(({ op }) => op === 'fornax::depthwise_conv2d');
      const depthwise = new Set(exchanged.map(({ path }) => path));
      const model = new (loadAddon().Graph)(trace(createModule(name), { inputs: [shape] }), {
        trusted: true,
      });
      const dense = loadAddon()
        .precisionNodes(model)
        .map((node) => node.name)
        .filter((path) => !depthwise.has(path));
      const mixed = open(createModule(name), { loss: anyLoss(name), precision: { bf16: dense } }, shape);
      assert.equal(count(mixed, /depthwise_conv2d/), depthwiseExchanged ? 17 : 0);
      mixed.dispose();
    }
    session.dispose();
    plain.dispose();
  }
});
