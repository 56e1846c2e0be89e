/** What modules and operators compute, against PyTorch (fixtures/nn_torch.json, made by make_nn_torch.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { ExecutionError, GuardError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import * as nn from '#fornax/nn/index.js';

type Tensor = nn.Tensor;
const F = nn.functional;
const addon = loadAddon();

interface Case {
  state: [string, number[]][];
  input: number[];
  shape: number[];
  output: number[];
}

const golden = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/nn_torch.json', import.meta.url), 'utf8'),
) as {
  cases: Record<string, Case>;
  labels: number[];
  losses: Record<
    string,
    { options: { weight?: number[]; ignore_index?: number; label_smoothing?: number }; loss: number }
  >;
};

function fn(forward: (x: Tensor) => unknown): nn.Module {
  return new (class extends nn.Module {
    forward(x: Tensor): unknown {
      return forward(x);
    }
  })();
}

/** The same modules as in make_nn_torch.py, under the same names. */
const modules: Record<string, () => nn.Module> = {
  conv2d: () => new nn.Conv2d(4, 6, 3, { stride: 2, padding: 1, groups: 2 }),
  conv2d_dilated: () => new nn.Conv2d(4, 2, [3, 1], { padding: [2, 0], dilation: [2, 1], bias: false }),
  conv2d_same: () => new nn.Conv2d(4, 2, [2, 3], { padding: 'same' }),
  conv2d_reflect: () => new nn.Conv2d(4, 2, 3, { padding: [2, 1], paddingMode: 'reflect' }),
  conv2d_circular_same: () => new nn.Conv2d(4, 2, [2, 4], { padding: 'same', paddingMode: 'circular' }),
  conv_transpose2d: () =>
    new nn.ConvTranspose2d(4, 6, 3, { stride: 2, padding: 1, outputPadding: 1, groups: 2 }),
  linear: () => new nn.Linear(8, 3),
  batch_norm: () => new nn.BatchNorm2d(4, { eps: 1e-3 }),
  layer_norm: () => new nn.LayerNorm(8),
  group_norm: () => new nn.GroupNorm(2, 4),
  relu6: () => new nn.Sequential(new nn.Conv2d(4, 2, 1), new nn.ReLU6()),
  leaky_relu: () => new nn.LeakyReLU(0.2),
  silu: () => new nn.SiLU(),
  gelu: () => new nn.GELU(),
  gelu_tanh: () => new nn.GELU({ approximate: 'tanh' }),
  hardswish: () => new nn.Hardswish(),
  hardsigmoid: () => new nn.Hardsigmoid(),
  softmax: () => new nn.Softmax(1),
  max_pool: () => new nn.MaxPool2d(3, { stride: 2, padding: 1, ceilMode: true }),
  avg_pool: () => new nn.AvgPool2d(3, { stride: 2, padding: 1, ceilMode: true, countIncludePad: false }),
  adaptive_avg_pool: () => new nn.AdaptiveAvgPool2d([2, null]),
  upsample_nearest: () => new nn.Upsample({ scaleFactor: 2 }),
  upsample_bilinear: () => new nn.Upsample({ scaleFactor: [1.5, 2], mode: 'bilinear' }),
  upsample_bicubic: () => new nn.Upsample({ size: [7, 4], mode: 'bicubic', alignCorners: true }),
  flatten: () => new nn.Flatten(),
  arithmetic: () =>
    fn((x) => {
      const left = x.mul(2).rsub(3).add(x.div(4)).sub(1).abs().add(1).log().pow(2).neg().exp();
      return left.sub(nn.call('aten::nan_to_num', [x.rsqrt(), 0]));
    }),
  statistics: () =>
    fn((x) =>
      nn.cat([x.mean(1), x.var(1), x.std(1, { correction: 0 }), x.amax(1), x.sum(1).mul(x.amin(1))], 1),
    ),
  slices: () =>
    fn((x) =>
      nn.cat(
        [
          x.slice(2, null, null, 2).slice(3, null, null, 2),
          F.pad(x.narrow(1, 1, 2).slice(2, -3).slice(3, 1, 4), [0, 0, 0, 0, 1, 1]),
        ],
        1,
      ),
    ),
  shuffle: () =>
    fn((x) =>
      x.view(x.size(0), 2, x.size(1).floordiv(2), x.size(2), x.size(3)).transpose(1, 2).flatten(1, 2),
    ),
  attention: () =>
    fn((x) => {
      const [q, k, v] = x.split([3, 3, 2], -1);
      return F.scaledDotProductAttention(q!, k!, v!.repeat(1, 1, 2));
    }),
  windows: () =>
    fn((x) => {
      const missing = (dim: number): nn.SymInt => x.size(dim).mod(4).neg().mod(4);
      return F.pad(x, [0, missing(3), 0, missing(2)]).roll([-1, -2], [2, 3]);
    }),
  interpolate_antialias: () =>
    fn((x) => F.interpolate(x, { size: [3, 2], mode: 'bilinear', antialias: true })),
  normalize: () => fn((x) => F.normalize(x, { dim: -1 })),
};

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function fill(shape: readonly number[], phase: number, offset = 0): NativeTensor {
  const data = Float32Array.from({ length: elements(shape) }, (_, i) => Math.sin(0.37 * i + phase) + offset);
  return addon.Tensor.fromTypedArray(data, [...shape]);
}

/** Runs a graph in eval mode, with its state filled as in make_nn_torch.py. */
async function run(graph: Graph, input: NativeTensor): Promise<Record<string, NativeTensor>> {
  const native = new addon.Graph(graph, { trusted: false });
  const state = native.state();
  const filled = state
    .map(({ name, tensor }, k): [string, NativeTensor] => [
      name,
      tensor.dtype === 'float32' ? fill(tensor.shape, k + 1, name.endsWith('running_var') ? 1.5 : 0) : tensor,
    ])
    .filter(([, tensor]) => tensor.dtype === 'float32');
  native.loadState(Object.fromEntries(filled), { strict: false });
  const session = new addon.InferenceSession(native, { threads: 1 });
  try {
    return await session.forward({ [graph.inputs[0]!.name]: input });
  } finally {
    session.dispose();
    native.dispose();
  }
}

function traced(module: nn.Module, shape: readonly number[]): Graph {
  // Through JSON and validation, as a graph from a file.
  return validateGraph(JSON.parse(JSON.stringify(trace(module, { inputs: [shape] }))));
}

describe('modules compute what PyTorch computes', () => {
  it('every case of the fixture has its module here', () => {
    assert.deepEqual(Object.keys(modules).sort(), Object.keys(golden.cases).sort());
  });

  for (const [name, expected] of Object.entries(golden.cases)) {
    it(name, async () => {
      const graph = traced(modules[name]!(), expected.input);
      assert.deepEqual(
        graph.parameters.map((p) => [p.name, p.shape]),
        expected.state,
      );
      const { output } = await run(graph, fill(expected.input, 0));
      assert.deepEqual(output!.shape, expected.shape);
      const actual = output!.toTypedArray() as Float32Array;
      for (const [i, value] of expected.output.entries()) {
        const error = Math.abs(actual[i]! - value);
        assert.ok(error <= 2e-5 * Math.max(1, Math.abs(value)), `element ${i}: ${actual[i]}, not ${value}`);
      }
    });

    it(`${name}: shapes inferred on the meta device are the real ones`, () => {
      const graph = traced(modules[name]!(), expected.input);
      const native = new addon.Graph(graph, { trusted: false });
      const infos = native.inferShapes([{ shape: expected.input, dtype: 'float32' }]);
      native.dispose();
      assert.deepEqual(infos.at(-1)!.outputs.at(-1), expected.shape);
    });
  }
});

describe('a graph traced at one size', () => {
  it('is right at another where sizes stayed symbolic', async () => {
    const graph = traced(modules['windows']!(), [1, 4, 8, 8]);
    const { input, output: expected, shape } = golden.cases['windows']!;
    const { output } = await run(graph, fill(input, 0));
    assert.deepEqual(output!.shape, shape);
    assert.ok(Math.abs((output!.toTypedArray() as Float32Array)[7]! - expected[7]!) < 1e-5);
  });

  it('refuses another where forward branched on it, naming the module', async () => {
    class PadToEven extends nn.Module {
      conv = new nn.Conv2d(4, 2, 1);
      forward(x: Tensor): Tensor {
        const y = this.conv.forward(x);
        return y.size(3).mod(2).eq(0) ? y : F.pad(y, [0, 1]);
      }
    }
    const net = new nn.Sequential({ pad: new PadToEven() });
    const even = traced(net, [1, 4, 8, 8]);
    assert.deepEqual((await run(even, fill([1, 4, 8, 6], 0)))['output']!.shape, [1, 2, 8, 6]);
    await assert.rejects(
      run(even, fill([1, 4, 8, 7], 0)),
      (e) => e instanceof GuardError && e.message.includes('pad'),
    );
    const odd = traced(net, [1, 4, 8, 7]);
    assert.deepEqual((await run(odd, fill([1, 4, 8, 9], 0)))['output']!.shape, [1, 2, 8, 10]);
    await assert.rejects(run(odd, fill([1, 4, 8, 8], 0)), GuardError);
  });

  it('knows sizes of intermediate tensors, through several rounds of inference', () => {
    const seen: number[] = [];
    class Net extends nn.Module {
      conv = new nn.Conv2d(3, 4, 3, { stride: 2, bias: false });
      bn = new nn.BatchNorm2d(4);
      pool = new nn.MaxPool2d(2);
      forward(x: Tensor): Tensor {
        const a = this.bn.forward(this.conv.forward(x));
        seen.push(a.size(2).value, a.dim());
        const b = this.pool
          .forward(a)
          .flatten(2)
          .add(a.flatten(2).amax(2, { keepdim: true }));
        seen.push(b.size(-1).value);
        return nn.cat(b.chunk(2, 1), 2).to('float64');
      }
    }
    const graph = traced(new Net(), [1, 3, 33, 33]);
    assert.deepEqual(seen, [16, 4, 64]);
    assert.equal(graph.guards.length, 3);
  });

  it('refuses an input with another number of dimensions, naming the input', async () => {
    const graph = traced(new nn.Conv2d(3, 4, 1), [1, 3, 8, 8]);
    await assert.rejects(
      run(graph, fill([3, 8, 8], 0)),
      (e) => e instanceof GuardError && /'image' must have 4 dimensions, got .*\[3, 8, 8\]/.test(e.message),
    );
  });

  it('refuses a number of pieces that differs from the traced one', async () => {
    const graph = traced(
      fn((x) => x.chunk(4, 1)[0]!),
      [1, 8],
    );
    assert.deepEqual((await run(graph, fill([1, 7], 0)))['output']!.shape, [1, 2]);
    await assert.rejects(
      run(graph, fill([1, 6], 0)),
      (e) => e instanceof GuardError || e instanceof ExecutionError,
    );
  });
});

describe('methods and functions reach operators that model files may use, with arguments that fit', () => {
  const groups: Record<string, (x: Tensor) => Tensor[]> = {
    arithmetic: (x) => [
      x.add(x).sub(x).rsub(x).mul(x).div(x).pow(x),
      x.mul(x.size(2)).add(x.numel()).reciprocal().square().sqrt().sigmoid().tanh().relu(),
      x.clamp({ min: 0 }).clamp({ max: 3 }).clamp({ min: -1, max: 1 }),
    ],
    comparison: (x) => [
      nn.where(x.eq(0), x, 2),
      nn.where(x.ne(x), x, x).maskedFill(x.gt(1), -5),
      x.lt(x).to('float32').add(x.le(2)).add(x.ge(1)),
    ],
    products: (x) => [
      x.matmul(x.transpose(2, 3)),
      x
        .flatten(0, 1)
        .bmm(x.flatten(0, 1).permute(0, 2, 1))
        .unflatten(0, [2, -1]),
    ],
    reductions: (x) => [
      x.mean(),
      x.mean([2, 3], { keepdim: true }),
      x.sum(),
      x.var(),
      x.std([2], { correction: 0 }),
      x.amax(),
      x.amin([1, 2]),
      x.argmax(),
      x.argmax(1),
      x.argmin(-1, { keepdim: true }),
      x.logSoftmax(1),
    ],
    shapes: (x) => [
      x.squeeze(),
      x.squeeze(0).unsqueeze(1),
      x.unsqueeze(0).expand(3, -1, -1, -1, -1),
      x.repeat(1, 2, 1, 1).flip(2, 3).contiguous().detach(),
      x.select(1, -1),
      ...x.unbind(1),
      ...x.split([1, 3], 1),
      nn.stack([x, x], -1),
      x.gather(1, x.argmax(1, { keepdim: true })),
      x.indexSelect(1, x.argmax(1).flatten().slice(0, 0, 2)),
    ],
    functions: (x) => [
      F.interpolate(x, { scaleFactor: 2, mode: 'nearest-exact' }),
      F.interpolate(x, { size: 3, mode: 'area' }),
      F.interpolate(x, { size: 3, mode: 'bicubic', antialias: true }),
      F.pixelShuffle(x, 2),
      F.hardtanh(x, -2, 2),
      F.dropout(F.dropout2d(F.stochasticDepth(F.stochasticDepth(x, 0.5, 'row'), 0.5, 'batch'), 0.5), 0.5),
    ],
    losses: (x) => [
      F.mseLoss(x, x),
      F.l1Loss(x, x),
      F.smoothL1Loss(x, x, 0.5, 'sum'),
      F.binaryCrossEntropyWithLogits(x, x.sigmoid()),
      F.crossEntropy(x, x.softmax(1), { labelSmoothing: 0.1, reduction: 'none' }),
      F.nllLoss(x.logSoftmax(1), x.argmax(1)),
    ],
  };
  for (const [name, group] of Object.entries(groups)) {
    it(name, async () => {
      const shape = [2, 4, 6, 6];
      const graph = traced(fn(group), shape);
      const native = new addon.Graph(graph, { trusted: false });
      const infos = native.inferShapes([{ shape, dtype: 'float32' }]);
      native.dispose();
      // What the meta device says is what running gives.
      const inferred = new Map(
        graph.nodes.flatMap((n, i) => n.outs.map((slot, j) => [slot, infos[i]!.outputs[j]])),
      );
      const outputs = await run(graph, fill(shape, 0));
      for (const { name: output, slot } of graph.outputs) {
        assert.deepEqual(outputs[output]!.shape, inferred.get(slot), output);
      }
    });
  }
});

describe('cross entropy is that of PyTorch', () => {
  for (const [name, { options, loss: expected }] of Object.entries(golden.losses)) {
    it(name, async () => {
      const graph = crossEntropy({
        classWeights: options.weight,
        ignoreIndex: options.ignore_index,
        labelSmoothing: options.label_smoothing,
      });
      const native = new addon.Graph(graph, { trusted: false });
      const session = new addon.InferenceSession(native, { threads: 1 });
      const label = addon.Tensor.fromTypedArray(BigInt64Array.from(golden.labels, BigInt), [6]);
      const { loss } = await session.forward({ output: fill([6, 4], 0), label });
      session.dispose();
      native.dispose();
      assert.deepEqual(loss!.shape, []);
      assert.ok(
        Math.abs(loss!.item() - expected) <= 1e-6 * Math.abs(expected),
        `${loss!.item()}, not ${expected}`,
      );
    });
  }
});
