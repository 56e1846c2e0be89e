import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { ArgumentError, ConfigError, GraphError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { createModule } from '#fornax/models/registry.js';
import {
  BatchNorm2d,
  Buffer,
  Conv2d,
  ConvTranspose2d,
  functional as F,
  GroupNorm,
  Identity,
  init,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  ModuleDict,
  ModuleList,
  Parameter,
  ReLU,
  Sequential,
  Upsample,
  type Tensor,
} from '#fornax/nn/index.js';

interface GoldenModel {
  state: [name: string, shape: number[], dtype: string][];
  parameters: number;
}

const golden = JSON.parse(
  readFileSync(new URL('../../../test/golden/torchvision.json', import.meta.url), 'utf8'),
) as { models: Record<string, GoldenModel> };

function stateOf(module: Module): string[] {
  return [...module.namedState()].map(({ name }) => name);
}

function parameter(graph: Graph, name: string): Graph['parameters'][number] {
  const found = graph.parameters.find((p) => p.name === name);
  assert.ok(found, `no parameter ${name}`);
  return found;
}

describe('architectures', () => {
  for (const name of ['resnet18', 'resnet34', 'resnet50', 'resnext50_32x4d', 'wide_resnet50_2']) {
    it(`${name} has torchvision's state dict: names, order, shapes and types`, () => {
      const expected = golden.models[name];
      assert.ok(expected, `the golden file has no ${name}`);
      const { parameters } = trace(createModule(name), { inputs: [[1, 3, 224, 224]] });
      assert.deepEqual(
        parameters.map((p) => [p.name, p.shape, p.dtype]),
        expected.state,
      );
      const trained = parameters.filter((p) => p.kind === 'parameter');
      assert.equal(
        trained.reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0),
        expected.parameters,
      );
    });
  }

  // He et al. 2015, table 6.
  for (const [name, layers, millions] of [
    ['resnet20', 20, 0.27],
    ['resnet32', 32, 0.46],
    ['resnet44', 44, 0.66],
    ['resnet56', 56, 0.85],
  ] as const) {
    it(`${name} has the paper's number of layers and parameters`, () => {
      const { parameters } = trace(createModule(name), { inputs: [[1, 3, 32, 32]] });
      const weights = parameters.filter((p) => /(conv\d|linear)\.weight$/.test(p.name));
      assert.equal(weights.length, layers);
      const count = parameters
        .filter((p) => p.kind === 'parameter')
        .reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0);
      assert.equal(Math.round(count / 1e4) / 100, millions);
    });
  }

  it('names the nearest model for one that does not exist', () => {
    assert.throws(
      () => createModule('resnet81'),
      (e) => e instanceof ConfigError && e.fix === "did you mean 'resnet18'?",
    );
    assert.throws(
      () => createModule('zzzzzz'),
      (e) => e instanceof ConfigError && e.fix!.includes('fornax models'),
    );
  });

  it('refuses an option that the architecture does not have', () => {
    assert.throws(
      // @ts-expect-error -- the compiler knows it too
      () => createModule('tiny_cnn', { dropuot: 0.5 }),
      (e) => e instanceof ArgumentError && e.fix === "did you mean 'dropout'?",
    );
  });

  it('starts ResNet as torchvision does', () => {
    const graph = trace(createModule('resnet18', { zeroInitResidual: true }), { inputs: [[1, 3, 64, 64]] });
    assert.deepEqual(parameter(graph, 'layer1.0.conv1.weight').init, {
      kind: 'kaiming_normal',
      mode: 'fan_out',
      gain: Math.SQRT2,
    });
    assert.deepEqual(parameter(graph, 'layer1.0.bn1.weight').init, { kind: 'constant', value: 1 });
    assert.deepEqual(parameter(graph, 'layer1.0.bn2.weight').init, { kind: 'constant', value: 0 });
    const { init: bias } = parameter(graph, 'fc.bias');
    assert.ok(bias.kind === 'uniform');
    assert.equal(bias.high, 1 / Math.sqrt(512));
    assert.equal(bias.low, -bias.high);
  });
});

describe('Module', () => {
  it('registers attributes in the order of assignment, not of declaration', () => {
    class Net extends Module {
      second: Linear;
      first: Linear;
      scale: Parameter;
      constructor() {
        super();
        this.first = new Linear(1, 1, { bias: false });
        this.second = new Linear(1, 1, { bias: false });
        this.scale = new Parameter([1]);
      }
      forward(x: Tensor): Tensor {
        return this.second.forward(this.first.forward(x)).mul(this.scale);
      }
    }
    assert.deepEqual(stateOf(new Net()), ['scale', 'first.weight', 'second.weight']);
  });

  it('lists own parameters, then own buffers, then children', () => {
    class Net extends Module {
      child = new BatchNorm2d(2);
      mean = new Buffer([2]);
      weight = new Parameter([2]);
      forward(x: Tensor): Tensor {
        return x;
      }
    }
    assert.deepEqual(stateOf(new Net()), [
      'weight',
      'mean',
      'child.weight',
      'child.bias',
      'child.running_mean',
      'child.running_var',
      'child.num_batches_tracked',
    ]);
  });

  it('keeps the place of an attribute that is assigned again, and forgets one that is deleted', () => {
    const net = new ModuleDict({
      a: new Linear(1, 1, { bias: false }),
      b: new Linear(1, 1, { bias: false }),
    });
    const attributes = net as unknown as Record<string, unknown>;
    attributes['a'] = new Linear(3, 1);
    assert.deepEqual(stateOf(net), ['a.weight', 'a.bias', 'b.weight']);
    attributes['a'] = null;
    assert.deepEqual(stateOf(net), ['b.weight']);
    attributes['a'] = new Identity();
    assert.deepEqual(
      [...net.namedChildren()].map(([name]) => name),
      ['a', 'b'],
    );
    delete attributes['a'];
    attributes['a'] = new Identity();
    assert.deepEqual(
      [...net.namedChildren()].map(([name]) => name),
      ['b', 'a'],
    );
  });

  it('works with private fields, accessors and inheritance', () => {
    class Base extends Module {
      #calls = 0;
      protected inner = new Linear(2, 2);
      get calls(): number {
        return this.#calls;
      }
      forward(x: Tensor): Tensor {
        this.#calls++;
        return this.inner.forward(x);
      }
    }
    class Derived extends Base {
      override forward(x: Tensor): Tensor {
        return F.relu(super.forward(x));
      }
    }
    const net = new Sequential(new Derived());
    const graph = trace(net, { inputs: [[1, 2]] });
    assert.equal((net.at(0) as Derived).calls, 1);
    assert.deepEqual(
      graph.nodes.map((n) => [n.op, n.path]),
      [
        ['aten::linear', '0.inner'],
        ['aten::relu', '0'],
      ],
    );
  });

  it('puts the path on the nodes of a forward that is a field', () => {
    class Arrow extends Module {
      forward = (x: Tensor): Tensor => F.relu(x);
    }
    const graph = trace(new Sequential(new Identity(), new Arrow()), { inputs: [[1, 2]] });
    assert.deepEqual(
      graph.nodes.map((n) => n.path),
      ['1'],
    );
  });

  it('finds modules by path', () => {
    const net = createModule('resnet18');
    assert.ok(net.getSubmodule('layer2.0.downsample.0') instanceof Conv2d);
    assert.equal(net.getSubmodule(''), net);
    assert.throws(() => net.getSubmodule('layer2.7'), GraphError);
  });

  it('refuses names that would break the paths of the state dict', () => {
    assert.throws(() => new ModuleDict({ 'a.b': new ReLU() }), GraphError);
    assert.throws(() => new ModuleDict({ forward: new ReLU() }), GraphError);
  });

  it('initialises from the leaves up with apply()', () => {
    const net = new Sequential(new Linear(2, 2), new Sequential(new Linear(2, 2)));
    const seen: string[] = [];
    net.apply((m) => {
      seen.push(m.constructor.name);
      if (m instanceof Linear) init.truncNormal(m.weight, { std: 0.02 });
    });
    assert.deepEqual(seen, ['Linear', 'Linear', 'Sequential', 'Sequential']);
    for (const [name, p] of net.namedParameters()) {
      if (name.endsWith('weight')) {
        assert.deepEqual(p.init, { kind: 'trunc_normal', mean: 0, std: 0.02, a: -2, b: 2 });
      }
    }
  });
});

describe('containers', () => {
  it('name their modules by position or key', () => {
    const linear = (): Linear => new Linear(1, 1, { bias: false });
    assert.deepEqual(stateOf(new Sequential(linear(), linear())), ['0.weight', '1.weight']);
    assert.deepEqual(stateOf(new Sequential({ fc: linear() })), ['fc.weight']);
    assert.deepEqual(stateOf(new ModuleList([linear(), linear()])), ['0.weight', '1.weight']);
    assert.deepEqual(stateOf(new ModuleDict({ x: linear() })), ['x.weight']);
  });

  it('keep eleven modules in order (10 after 9, not after 1)', () => {
    const list = new ModuleList(Array.from({ length: 11 }, () => new Linear(1, 1, { bias: false })));
    assert.deepEqual(
      stateOf(list),
      Array.from({ length: 11 }, (_, i) => `${i}.weight`),
    );
    assert.equal(list.length, 11);
    assert.equal(list.at(-1), list.at(10));
  });
});

describe('layers', () => {
  it('start as in torch: convolutions and linear layers', () => {
    const conv = new Conv2d(8, 6, [3, 5], { groups: 2 });
    assert.deepEqual(conv.weight.dims, [6, 4, 3, 5]);
    assert.deepEqual(conv.weight.init, { kind: 'kaiming_uniform', mode: 'fan_in', gain: Math.sqrt(1 / 3) });
    assert.deepEqual(conv.bias!.init, { kind: 'uniform', low: -1 / Math.sqrt(60), high: 1 / Math.sqrt(60) });
    // fan_in of a transposed convolution counts its second dimension, out / groups, as torch does.
    const up = new ConvTranspose2d(8, 6, 2, { groups: 2 });
    assert.deepEqual(up.weight.dims, [8, 3, 2, 2]);
    assert.deepEqual(up.bias!.init, { kind: 'uniform', low: -1 / Math.sqrt(12), high: 1 / Math.sqrt(12) });
  });

  it('leave out what is switched off', () => {
    assert.deepEqual(stateOf(new Conv2d(1, 1, 1, { bias: false })), ['weight']);
    assert.deepEqual(stateOf(new BatchNorm2d(2, { affine: false })), [
      'running_mean',
      'running_var',
      'num_batches_tracked',
    ]);
    assert.deepEqual(stateOf(new BatchNorm2d(2, { trackRunningStats: false })), ['weight', 'bias']);
    assert.deepEqual(stateOf(new LayerNorm(4, { bias: false })), ['weight']);
    assert.deepEqual(stateOf(new GroupNorm(2, 4, { affine: false })), []);
  });

  it('refuse arguments that cannot be meant', () => {
    const misspelt = { strides: 2 } as unknown as { stride: number };
    assert.throws(
      () => new Conv2d(1, 1, 3, misspelt),
      (e) => e instanceof ArgumentError && e.fix === "did you mean 'stride'?",
    );
    assert.throws(() => new Conv2d(3, 4, 3, { groups: 2 }), ArgumentError);
    assert.throws(() => new Conv2d(3, 4, 3, { padding: 'same', stride: 2 }), ArgumentError);
    assert.throws(() => new Conv2d(0, 4, 3), ArgumentError);
    assert.throws(() => new GroupNorm(3, 4), ArgumentError);
    assert.throws(() => F.dropout(null as unknown as Tensor, 1.5), ArgumentError);
    assert.throws(() => new Parameter([2, -1]), ArgumentError);
    assert.throws(() => init.kaimingNormal(new Parameter([3])), ArgumentError);
  });

  it('hand their settings to the operator in the order of its schema', () => {
    const nodesOf = (module: Module): unknown => {
      const [node] = trace(module, { inputs: [[2, 4, 8, 8]] }).nodes;
      return [node!.op, ...node!.args.map((a) => (typeof a === 'object' && a && 'slot' in a ? '%' : a))];
    };
    assert.deepEqual(nodesOf(new Conv2d(4, 6, 3, { stride: 2, padding: [1, 0], dilation: 3, groups: 2 })), [
      'aten::conv2d',
      '%',
      '%',
      '%',
      [2, 2],
      [1, 0],
      [3, 3],
      2,
    ]);
    assert.deepEqual(nodesOf(new Conv2d(4, 6, 3, { padding: 'same', bias: false })), [
      'aten::conv2d.padding',
      '%',
      '%',
      null,
      [1, 1],
      'same',
      [1, 1],
      1,
    ]);
    assert.deepEqual(nodesOf(new ConvTranspose2d(4, 6, 3, { stride: 2, outputPadding: 1, groups: 2 })), [
      'aten::conv_transpose2d.input',
      '%',
      '%',
      '%',
      [2, 2],
      [0, 0],
      [1, 1],
      2,
      [1, 1],
    ]);
    assert.deepEqual(nodesOf(new MaxPool2d(3)), [
      'aten::max_pool2d',
      '%',
      [3, 3],
      [3, 3],
      [0, 0],
      [1, 1],
      false,
    ]);
    assert.deepEqual(nodesOf(new Upsample({ scaleFactor: 2, mode: 'bilinear' })), [
      'aten::upsample_bilinear2d.vec',
      '%',
      null,
      false,
      [2, 2],
    ]);
    assert.deepEqual(nodesOf(new BatchNorm2d(4, { momentum: null })), [
      'fornax::batch_norm',
      '%',
      '%',
      '%',
      '%',
      '%',
      '%',
      { mode: 'batch_norm' },
      null,
      1e-5,
    ]);
  });
});
