/** The graph of inference that the exporters walk, and what is free in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConfigError, GraphError } from '#fornax/errors.js';
import { freeDimensions } from '#fornax/export/dimensions.js';
import { lower } from '#fornax/export/lower.js';
import { withPreprocessing } from '#fornax/export/preprocess.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import {
  BatchNorm2d,
  call,
  Conv2d,
  Dropout,
  functional as F,
  Linear,
  Module,
  type Tensor as Symbolic,
  cat,
  MaxPool2d,
  Upsample,
} from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';

/** One of everything that only training needs. */
class Modal extends Module {
  readonly conv = new Conv2d(3, 8, 3, { padding: 1 });
  readonly bn = new BatchNorm2d(8);
  readonly drop = new Dropout(0.5);
  readonly fc = new Linear(8, 4);
  readonly aux = new Linear(8, 4);

  forward(x: Symbolic): Record<string, Symbolic> {
    let y = F.relu(this.bn.forward(this.conv.forward(x)));
    y = y.add(F.stochasticDepth(F.dropout2d(y, 0.2), 0.3, 'row'));
    const features = y.mean([2, 3]).detach();
    return { out: this.fc.forward(this.drop.forward(features)), aux: this.aux.forward(features) };
  }
}

function modal(): Graph {
  const graph = trace(new Modal(), { inputs: [{ name: 'image', shape: [1, 3, 16, 16] }] });
  graph.outputs = graph.outputs.map((port) => (port.name === 'aux' ? { ...port, auxiliary: true } : port));
  return graph;
}

test('modes, auxiliary outputs and what only they need are gone; the state stays whole', () => {
  const graph = modal();
  const lowered = lower(graph);
  assert.deepEqual(
    lowered.nodes.map(({ op }) => op),
    ['aten::conv2d', 'aten::batch_norm', 'aten::relu', 'aten::add.Tensor', 'aten::mean.dim', 'aten::linear'],
  );
  assert.deepEqual(
    lowered.outputs.map(({ name }) => name),
    ['out'],
  );
  const names = (g: Graph): string[] => g.parameters.map(({ name }) => name);
  assert.deepEqual(names(lowered), names(graph));
  const text = JSON.stringify(lowered.nodes);
  assert.doesNotMatch(text, /"mode"|"generator"|fornax::/);
  const slots = [
    ...lowered.inputs.map(({ slot }) => slot),
    ...lowered.parameters.map(({ slot }) => slot),
    ...lowered.nodes.flatMap(({ outs }) => outs),
  ];
  assert.deepEqual(
    slots,
    slots.map((_, i) => i),
  );
  assert.equal(lowered.slots, slots.length);
});

test('the lowered graph computes what the model computes in eval mode', async () => {
  using model = Model.create(new Modal(), { inputs: [[1, 3, 16, 16]], seed: 3 });
  const { Graph: NativeGraph, InferenceSession } = loadAddon();
  const native = new NativeGraph(lower(model.graph), { trusted: true });
  native.loadState(Object.fromEntries(model.native.state().map(({ name, tensor }) => [name, tensor])));
  const session = new InferenceSession(native, {});
  const x = Tensor.call('aten::randn', [2, 3, 16, 16])[0]!;
  const expected = await model.forward(x);
  // The lowered graph has no modes: what a run asks for makes no difference.
  const got = await session.forward(
    { image: x.native },
    { modes: { dropout: 'train', batch_norm: 'train' } },
  );
  for (const name of ['out', 'aux']) {
    assert.deepEqual(new Tensor(got[name]!).toArray(), expected[name]!.toArray());
  }
  session.dispose();
  native.dispose();
});

test('what always trains is refused, and said where', () => {
  class Always extends Module {
    forward(x: Symbolic): Symbolic {
      return call('fornax::dropout', [x, 0.5, 1]);
    }
  }
  const graph = trace(new Always(), { inputs: [[2, 3]] });
  assert.throws(
    () => lower(graph),
    (error: unknown) =>
      error instanceof GraphError &&
      /always runs in train mode/.test(error.what) &&
      /node 0/.test(error.where!),
  );
});

test('batch norm without running statistics normalises by the batch in every mode', () => {
  class Instance extends Module {
    readonly bn = new BatchNorm2d(3, { trackRunningStats: false });
    forward(x: Symbolic): Symbolic {
      return this.bn.forward(x);
    }
  }
  const [node] = lower(trace(new Instance(), { inputs: [[2, 3, 4, 4]] })).nodes;
  assert.equal(node!.op, 'aten::batch_norm');
  assert.equal(node!.args[5], true);
});

test('an operator of ours without a counterpart is refused', () => {
  class Pixels extends Module {
    forward(x: Symbolic): Symbolic {
      return call('fornax::normalize', [x, [0.5], [0.5]]);
    }
  }
  const graph = trace(new Pixels(), { inputs: [{ name: 'image', shape: [1, 4, 4, 1], dtype: 'uint8' }] });
  assert.throws(() => lower(graph), /fornax::normalize' has no counterpart/);
});

function dimsOf(module: Module, shape: number[]): (number | string)[] {
  const graph = lower(trace(module, { inputs: [{ name: 'image', shape }] }));
  return freeDimensions(graph, [{ name: 'image', shape, dtype: 'float32' }])[0]!;
}

test('lengths are free where the graph runs at others and no guard notices', () => {
  const conv = new Conv2d(3, 4, 3, { padding: 1 });
  assert.deepEqual(dimsOf(conv, [1, 3, 16, 24]), ['batch', 3, 'height', 'width']);
  assert.deepEqual(dimsOf(conv, [4, 3, 16, 24]), ['batch', 3, 'height', 'width']);

  class Padded extends Module {
    readonly conv = new Conv2d(3, 4, 4, { stride: 4 });
    forward(x: Symbolic): Symbolic {
      const rest = x.size(2).mod(4);
      return this.conv.forward(rest.eq(0) ? x : F.pad(x, [0, 0, 0, rest.neg().add(4)]));
    }
  }
  assert.deepEqual(dimsOf(new Padded(), [1, 3, 16, 16]), ['batch', 3, 16, 'width']);

  // Where the guard does not hold the graph does not even run, for lack of the padding.
  class Skipping extends Module {
    readonly pool = new MaxPool2d(2);
    readonly up = new Upsample({ scaleFactor: 2 });
    forward(x: Symbolic): Symbolic {
      const rest = x.size(2).mod(2);
      const even = rest.eq(0) ? x : F.pad(x, [0, 0, 0, rest]);
      return cat([even, this.up.forward(this.pool.forward(even))], 1);
    }
  }
  assert.equal(dimsOf(new Skipping(), [1, 3, 16, 16])[2], 16);

  class Flat extends Module {
    readonly fc = new Linear(3 * 8 * 8, 2);
    forward(x: Symbolic): Symbolic {
      return this.fc.forward(x.flatten(1));
    }
  }
  assert.deepEqual(dimsOf(new Flat(), [1, 3, 8, 8]), ['batch', 3, 8, 8]);

  class OneByOne extends Module {
    forward(x: Symbolic): Symbolic {
      return x.unbind(0)[0]!;
    }
  }
  assert.equal(dimsOf(new OneByOne(), [2, 3, 8, 8])[0], 2);
});

test('preprocessing needs one image as input, and a normalisation that fits it', () => {
  const graph = lower(modal());
  const input = {
    name: 'image',
    dtype: 'float32' as const,
    shape: [1, 3, 16, 16],
    dims: ['batch', 3, 16, 16],
  };
  const normalize = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
  const made = withPreprocessing(graph, [input], normalize);
  assert.deepEqual(made.inputs[0], {
    name: 'image',
    dtype: 'uint8',
    shape: [1, 16, 16, 3],
    dims: ['batch', 16, 16, 3],
  });
  assert.deepEqual(
    made.graph.parameters.slice(-2).map(({ name }) => name),
    [...made.constants],
  );
  assert.throws(() => withPreprocessing(graph, [input], null), ConfigError);
  assert.throws(() => withPreprocessing(graph, [input], { mean: [0.5], std: [0.5] }), ConfigError);
  assert.throws(
    () => withPreprocessing(graph, [{ ...input, dtype: 'int64' }], normalize),
    /float32 image \[N, C, H, W\]/,
  );
});
