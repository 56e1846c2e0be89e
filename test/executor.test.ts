/** The native executor: what a graph computes, in which mode, on how many threads, and how it fails. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AbortedError,
  ArgumentError,
  DisposedError,
  ExecutionError,
  GraphError,
  GuardError,
  WeightsError,
} from '#fornax/errors.js';
import type { Graph, GraphNode } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import * as nn from '#fornax/nn/index.js';

const addon = loadAddon();

function tensor(values: number[], shape: number[]): NativeTensor {
  return addon.Tensor.fromTypedArray(Float32Array.from(values), shape);
}

function values(result: NativeTensor | undefined): number[] {
  assert.ok(result);
  return Array.from(result.toTypedArray() as Float32Array);
}

function ramp(shape: number[]): NativeTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Array.from({ length: count }, (_, i) => Math.sin(i)),
    shape,
  );
}

function nativeGraph(module: nn.Module, shape: number[], trusted = true) {
  const graph = trace(module, { inputs: [{ name: 'x', shape }] });
  const native = new addon.Graph(graph, { trusted });
  native.initialize(3);
  return { graph, native };
}

/** A graph of hand-written nodes over one input in slot 0; the last node's first slot is the output. */
function graphOf(nodes: GraphNode[], slots: number, extra: Partial<Graph> = {}): Graph {
  const last = nodes.at(-1)?.outs[0] ?? 0;
  return {
    format_version: 1,
    slots,
    inputs: [{ name: 'x', slot: 0 }],
    outputs: [{ name: 'output', slot: last }],
    parameters: [],
    nodes,
    guards: [],
    ...extra,
  };
}

const relu = (from: number, to: number): GraphNode => ({
  op: 'aten::relu',
  path: `relu${to}`,
  args: [{ slot: from }],
  outs: [to],
});

class Regularised extends nn.Module {
  block = new nn.Sequential(new nn.BatchNorm2d(2), new nn.Dropout(0.5));
  head = new nn.Dropout(0.5);
  override forward(x: nn.Tensor): nn.Tensor {
    return this.head.forward(this.block.forward(x));
  }
}

describe('running a graph', () => {
  it('computes what the operators say', async () => {
    class Net extends nn.Module {
      override forward(x: nn.Tensor): nn.Tensor {
        const [a, b] = x.chunk(2, 1);
        return nn.cat([a!.mul(2), b!.add(a!)], 1);
      }
    }
    const { native } = nativeGraph(new Net(), [1, 4]);
    const session = new addon.InferenceSession(native, {});
    const { output } = await session.forward({ x: tensor([1, 2, 10, 20], [1, 4]) });
    assert.deepEqual(values(output), [2, 4, 11, 22]);
  });

  it('serves every batch size and resolution with one graph', async () => {
    class Net extends nn.Module {
      conv = new nn.Conv2d(3, 4, 3, { stride: 2, padding: 1 });
      override forward(x: nn.Tensor): nn.Tensor {
        const y = this.conv.forward(x);
        return y.reshape(y.size(0), y.size(1), y.size(2).mul(y.size(3))).mean(2);
      }
    }
    const { native } = nativeGraph(new Net(), [2, 3, 8, 8]);
    const session = new addon.InferenceSession(native, {});
    for (const [n, h, w] of [
      [1, 8, 8],
      [5, 9, 17],
      [2, 32, 30],
    ] as const) {
      const { output } = await session.forward({ x: ramp([n, 3, h, w]) });
      assert.deepEqual(output?.shape, [n, 4]);
    }
  });

  it('gives each kind of node its own mode, overridden by path prefix', async () => {
    const { native } = nativeGraph(new Regularised(), [4, 2, 3, 3]);
    const session = new addon.InferenceSession(native, {});
    const x = ramp([4, 2, 3, 3]);
    const run = async (modes: object): Promise<number[]> =>
      values((await session.forward({ x }, { modes })).output);
    const zeros = (data: number[]): number => data.filter((v) => v === 0).length;

    const evaluated = await run({});
    assert.equal(zeros(evaluated.slice(1)), 0, 'sin(0) alone is zero');
    const dropped = await run({ dropout: 'train' });
    assert.ok(zeros(dropped) > 72 / 2, 'two dropouts of one half');
    const headOnly = await run({ dropout: 'train', overrides: [{ prefix: 'block', mode: 'eval' }] });
    assert.ok(zeros(headOnly) > 20 && zeros(headOnly) < 54, `about half, got ${zeros(headOnly)}`);

    const mean = () => values(native.state().find((e) => e.name === 'block.0.running_mean')?.tensor);
    assert.deepEqual(mean(), [0, 0], 'neither evaluation nor dropout moved the statistics');
    await run({ batch_norm: 'recompute', dropout: 'recompute' });
    assert.notDeepEqual(mean(), [0, 0]);
    const recomputed = await run({ batch_norm: 'recompute', dropout: 'recompute' });
    assert.equal(zeros(recomputed), 0, 'recompute never drops anything');
  });

  it('draws dropout from the seed of the run, whatever other threads draw', async () => {
    const { native } = nativeGraph(new Regularised(), [8, 2, 3, 3]);
    const session = new addon.InferenceSession(native, { workers: 3 });
    const x = ramp([8, 2, 3, 3]);
    const options = (seed: number) => ({ modes: { dropout: 'train' as const }, seed });
    const runs = await Promise.all([1, 1, 2, 1, 2].map((seed) => session.forward({ x }, options(seed))));
    const [a, b, c, d, e] = runs.map((r) => values(r.output));
    assert.deepEqual(a, b);
    assert.deepEqual(a, d);
    assert.deepEqual(c, e);
    assert.notDeepEqual(a, c);
  });

  it('taps the output of any module by its path', async () => {
    const { native } = nativeGraph(new Regularised(), [1, 2, 2, 2]);
    const session = new addon.InferenceSession(native, {});
    const x = ramp([1, 2, 2, 2]);
    const result = await session.forward({ x }, { taps: ['block.0', 'block'] });
    assert.deepEqual(Object.keys(result), ['output', 'block.0', 'block']);
    assert.deepEqual(values(result['block.0']), values(result['output']));
    await assert.rejects(session.forward({ x }, { taps: ['nowhere'] }), ArgumentError);
  });

  it('taps what a module returns, not the last operator of its own', async () => {
    class Block extends nn.Module {
      conv = new nn.Conv2d(2, 2, 1);
      relu = new nn.ReLU();
      override forward(x: nn.Tensor): nn.Tensor {
        return this.relu.forward(this.conv.forward(x).add(x));
      }
    }
    const { native } = nativeGraph(new nn.Sequential(new Block(), new nn.Flatten()), [1, 2, 3, 3]);
    const session = new addon.InferenceSession(native, {});
    const result = await session.forward({ x: ramp([1, 2, 3, 3]) }, { taps: ['0'] });
    assert.deepEqual(values(result['0']), values(result['output']));
    assert.ok(values(result['0']).every((v) => v >= 0));
  });

  it('runs on several threads at once with equal results', async () => {
    class Net extends nn.Module {
      conv = new nn.Conv2d(3, 16, 3);
      bn = new nn.BatchNorm2d(16);
      override forward(x: nn.Tensor): nn.Tensor {
        return nn.functional.relu(this.bn.forward(this.conv.forward(x)));
      }
    }
    const { native } = nativeGraph(new Net(), [1, 3, 16, 16]);
    const session = new addon.InferenceSession(native, { workers: 4, threads: 1 });
    const x = ramp([1, 3, 16, 16]);
    const expected = values((await session.forward({ x })).output);
    const results = await Promise.all(Array.from({ length: 40 }, () => session.forward({ x })));
    for (const { output } of results) assert.deepEqual(values(output), expected);
  });

  it('serves a disposed model no more, and finishes what runs', async () => {
    const { native } = nativeGraph(new Regularised(), [1, 2, 2, 2]);
    const session = new addon.InferenceSession(native, {});
    native.dispose();
    native.dispose();
    assert.throws(() => native.state(), DisposedError);
    await session.forward({ x: ramp([1, 2, 2, 2]) });
    const pending = Array.from({ length: 20 }, () => session.forward({ x: ramp([64, 2, 64, 64]) }));
    const settled = Promise.allSettled(pending);
    session.dispose();
    assert.throws(() => session.forward({ x: ramp([1, 2, 2, 2]) }), DisposedError);
    for (const result of await settled) {
      if (result.status === 'rejected')
        assert.ok(result.reason instanceof AbortedError, String(result.reason));
    }
  });
});

describe('size expressions and guards', () => {
  it('evaluates with the rounding of Python', async () => {
    // reshape to [((0 - size) // 4) * -1, -1]: for size 6, (-6) // 4 = -2.
    const graph = graphOf(
      [
        {
          op: 'aten::reshape',
          path: '',
          args: [
            { slot: 0 },
            [{ expr: ['*', ['//', ['-', 0, ['size', 0, -1]], 4], -1] }, { expr: ['%', ['-', 0, 7], 5] }],
          ],
          outs: [1],
        },
      ],
      2,
    );
    const session = new addon.InferenceSession(new addon.Graph(graph, { trusted: true }), {});
    const { output } = await session.forward({ x: ramp([1, 6]) });
    assert.deepEqual(output?.shape, [2, 3], '(-6 // 4) * -1 = 2 and -7 % 5 = 3');
  });

  it('refuses an input that violates a guard, and names the module', async () => {
    const graph = graphOf([relu(0, 1)], 2, {
      guards: [{ left: ['%', ['size', 0, 3], 7], compare: '==', right: 0, path: 'features.3' }],
    });
    const session = new addon.InferenceSession(new addon.Graph(graph, { trusted: false }), {});
    await session.forward({ x: ramp([1, 1, 7, 14]) });
    await assert.rejects(session.forward({ x: ramp([1, 1, 7, 15]) }), (error: unknown) => {
      assert.ok(error instanceof GuardError);
      assert.match(error.message, /features\.3/);
      assert.match(error.message, /here 1 and 0/);
      return true;
    });
  });

  it('checks a guard on a value that is computed on the way', async () => {
    const graph = graphOf(
      [
        { op: 'aten::narrow', path: 'cut', args: [{ slot: 0 }, 0, 0, 2], outs: [1] },
        { op: 'aten::flatten.using_ints', path: 'flat', args: [{ slot: 1 }], outs: [2] },
        relu(2, 3),
      ],
      4,
      { guards: [{ left: ['size', 2, 0], compare: '<', right: 7, path: 'flat' }] },
    );
    const session = new addon.InferenceSession(new addon.Graph(graph, { trusted: false }), {});
    assert.deepEqual((await session.forward({ x: ramp([4, 3]) })).output?.shape, [6]);
    await assert.rejects(session.forward({ x: ramp([4, 4]) }), GuardError);
  });

  it('names the node when sizes do not work out', async () => {
    const graph = graphOf(
      [
        {
          op: 'aten::reshape',
          path: 'r',
          args: [{ slot: 0 }, [{ expr: ['//', 4, ['size', 0, 0]] }]],
          outs: [1],
        },
      ],
      2,
    );
    const session = new addon.InferenceSession(new addon.Graph(graph, { trusted: true }), {});
    await assert.rejects(
      session.forward({ x: ramp([0, 4]) }),
      (error: unknown) =>
        error instanceof ExecutionError &&
        /division by zero/.test(error.message) &&
        /at r /.test(error.message),
    );
  });
});

describe('refusing graphs', () => {
  const refuse = (graph: Graph, pattern: RegExp, trusted = true): void => {
    assert.throws(
      () => new addon.Graph(graph, { trusted }),
      (error: unknown) => {
        assert.ok(error instanceof GraphError, String(error));
        assert.match(error.message, pattern);
        return true;
      },
    );
  };

  it('unknown operators, wrong arity, wrong types, missing arguments', () => {
    refuse(
      graphOf([{ op: 'aten::nothing', path: 'a.b', args: [], outs: [1] }], 2),
      /unknown operator.*\n.*a\.b \(node 0\)/,
    );
    refuse(graphOf([{ op: 'relu', path: '', args: [], outs: [1] }], 2), /not an operator name/);
    refuse(
      graphOf([{ op: 'aten::relu', path: '', args: [{ slot: 0 }, 1], outs: [1] }], 2),
      /takes 1 arguments/,
    );
    refuse(graphOf([{ op: 'aten::relu', path: '', args: [3], outs: [1] }], 2), /'self' must be a slot/);
    refuse(graphOf([{ op: 'aten::relu', path: '', args: [], outs: [1] }], 2), /'self' is missing/);
    refuse(
      graphOf([{ op: 'aten::flatten.using_ints', path: '', args: [{ slot: 0 }, 0.5], outs: [1] }], 2),
      /'start_dim' must be an integer/,
    );
    refuse(
      graphOf([{ op: 'aten::relu', path: '', args: [{ slot: 0 }], outs: [1, 2] }], 3),
      /1 results, the node names 2/,
    );
  });

  it('dangling slots, slots used too early or written twice, other versions', () => {
    refuse(graphOf([relu(0, 5)], 2), /slot 5 does not exist/);
    refuse(graphOf([relu(2, 1), relu(1, 2)], 3), /used before it is written/);
    refuse(graphOf([relu(0, 1), relu(0, 1)], 2), /written twice/);
    refuse(graphOf([relu(0, 1)], 2, { outputs: [{ name: 'y', slot: 9 }] }), /output y/);
    refuse(graphOf([relu(0, 1)], 2, { outputs: [] }), /no output/);
    refuse({ ...graphOf([relu(0, 1)], 2), format_version: 2 }, /version 2 is not supported[^]*update fornax/);
  });

  it('operators that files must not use; a script may', () => {
    for (const op of ['aten::as_strided', 'aten::set_.source_Tensor', 'aten::from_file', 'aten::relu_']) {
      refuse(
        graphOf([{ op, path: 'p', args: [{ slot: 0 }], outs: [1] }], 2),
        /not allowed in a model file|missing/,
        false,
      );
    }
    refuse(
      graphOf([{ op: 'aten::relu_', path: 'p', args: [{ slot: 0 }], outs: [1] }], 2),
      /not allowed in a model file[^]*p \(node 0\)/,
      false,
    );
    refuse(
      graphOf(
        [
          {
            op: 'aten::max.dim_max',
            path: 'p',
            args: [{ slot: 0 }, 0, false, { slot: 0 }, { slot: 0 }],
            outs: [1, 2],
          },
        ],
        3,
      ),
      /not allowed in a model file/,
      false,
    );
    assert.ok(
      new addon.Graph(graphOf([{ op: 'aten::relu_', path: 'p', args: [{ slot: 0 }], outs: [1] }], 2), {
        trusted: true,
      }),
    );
  });
});

describe('a graph from a file', () => {
  const buffer = (name: string, slot: number) => ({
    name,
    shape: [2],
    dtype: 'float32' as const,
    kind: 'buffer' as const,
    slot,
    init: { kind: 'constant' as const, value: 1 },
  });
  const batchNorm = (mean: number, mode: GraphNode['args'][number]): Graph =>
    graphOf(
      [
        {
          op: 'fornax::batch_norm',
          path: 'bn',
          args: [{ slot: 0 }, null, null, { slot: mean }, { slot: 2 }, null, mode, 0.1, 1e-5],
          outs: [3],
        },
      ],
      4,
      { parameters: [buffer('mean', 1), buffer('var', 2)] },
    );

  it('cannot write to the caller’s tensors or force a mode', () => {
    assert.ok(new addon.Graph(batchNorm(1, { mode: 'batch_norm' }), { trusted: false }));
    assert.throws(
      () => new addon.Graph(batchNorm(0, { mode: 'batch_norm' }), { trusted: false }),
      /must be buffers/,
    );
    assert.throws(() => new addon.Graph(batchNorm(1, 1), { trusted: false }), /must be a mode flag/);
    const dropout = graphOf([{ op: 'fornax::dropout', path: '', args: [{ slot: 0 }, 0.5, 1], outs: [1] }], 2);
    assert.throws(() => new addon.Graph(dropout, { trusted: false }), /must be a mode flag/);
    assert.ok(new addon.Graph(dropout, { trusted: true }));
  });

  it('cannot bring the process down with degenerate arguments', async () => {
    // Zero channels: a division by zero in normalisation once.
    const empty = graphOf(
      [
        { op: 'aten::zeros', path: '', args: [[1, 1, 1, 0], { dtype: 'uint8' }], outs: [1] },
        { op: 'fornax::normalize', path: 'n', args: [{ slot: 1 }, [], []], outs: [2] },
      ],
      3,
    );
    const session = new addon.InferenceSession(new addon.Graph(empty, { trusted: false }), {});
    await assert.rejects(session.forward({ x: ramp([1]) }), ExecutionError);
    // Scales that contradict the size made libtorch read out of bounds.
    const resample = graphOf(
      [
        {
          op: 'aten::_upsample_bilinear2d_aa',
          path: 'up',
          args: [{ slot: 0 }, [64, 64], false, 1e-3, 1e-3],
          outs: [1],
        },
      ],
      2,
    );
    assert.throws(() => new addon.Graph(resample, { trusted: false }), /not allowed in a model file/);
    // Attention with grouped queries divides by the number of the key's heads.
    const attention = (gqa: boolean): Graph =>
      graphOf(
        [
          {
            op: 'aten::scaled_dot_product_attention',
            path: 'a',
            args: [{ slot: 0 }, { slot: 0 }, { slot: 0 }, null, 0, false, null, gqa],
            outs: [1],
          },
        ],
        2,
      );
    assert.ok(new addon.Graph(attention(false), { trusted: false }));
    assert.throws(() => new addon.Graph(attention(true), { trusted: false }), /enable_gqa is not allowed/);
    // A sparse layout has no typed array.
    const sparse = graphOf([{ op: 'aten::zeros', path: '', args: [[4], null, 1], outs: [1] }], 2);
    assert.throws(() => new addon.Graph(sparse, { trusted: false }), GraphError);
  });
});

describe('errors of a run', () => {
  it('name the node and the shapes', async () => {
    const { native } = nativeGraph(new nn.Linear(4, 2), [1, 4]);
    const session = new addon.InferenceSession(native, {});
    await assert.rejects(session.forward({ x: ramp([1, 5]) }), (error: unknown) => {
      assert.ok(error instanceof ExecutionError);
      assert.match(error.message, /aten::linear/);
      assert.match(error.message, /\[1, 5\]/);
      assert.doesNotMatch(error.message, /Exception raised from/);
      return true;
    });
  });

  it('say which weights do not fit, and change nothing', () => {
    const { native } = nativeGraph(new nn.Linear(2, 1), [1, 2]);
    const before = native.state().map((e) => values(e.tensor));
    assert.throws(
      () => native.loadState({ weight: ramp([1, 2]), extra: ramp([1]) }),
      (error: unknown) =>
        error instanceof WeightsError &&
        /missing \(1\):\n {4}bias/.test(error.message) &&
        /extra/.test(error.message),
    );
    assert.deepEqual(
      native.state().map((e) => values(e.tensor)),
      before,
    );
    const report = native.loadState({ weight: ramp([1, 2]), bias: ramp([3]) }, { strict: false });
    assert.deepEqual(report.missing, []);
    assert.match(report.mismatched[0] ?? '', /^bias: model \[1\], given \[3\]$/);
    assert.deepEqual(values(native.state()[0]?.tensor), values(ramp([1, 2])));
  });
});

describe('tensors', () => {
  it('copy a typed array, whatever happens to it later', () => {
    const data = new Float32Array([1, 2]);
    const made = addon.Tensor.fromTypedArray(data, [2]);
    data[0] = 7;
    assert.deepEqual(values(made), [1, 2]);
    structuredClone(data.buffer, { transfer: [data.buffer] });
    assert.equal(data.length, 0);
    assert.deepEqual(values(made), [1, 2]);

    // ES2024, which Node has and our type library does not.
    const Resizable = ArrayBuffer as unknown as new (
      size: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(size: number): void };
    const resizable = new Resizable(1 << 20, { maxByteLength: 1 << 20 });
    const view = new Float32Array(resizable).fill(3);
    const many = addon.Tensor.fromTypedArray(view, [view.length]);
    resizable.resize(0);
    assert.ok(values(many).every((value) => value === 3));
    const part = addon.Tensor.fromTypedArray(new Float32Array([0, 1, 2, 3]).subarray(1, 3), [2]);
    assert.deepEqual(values(part), [1, 2]);
  });

  it('keep every dtype', () => {
    const long = addon.Tensor.fromTypedArray(new BigInt64Array([1n, -(2n ** 60n)]), [2]);
    assert.deepEqual(Array.from(long.toTypedArray() as BigInt64Array), [1n, -(2n ** 60n)]);
    const half = addon.Tensor.fromTypedArray(new Uint16Array([0x3c00, 0xc000]), [2], { dtype: 'float16' });
    assert.equal(half.dtype, 'float16');
    assert.deepEqual(values(half), [1, -2]);
    const bytes = addon.Tensor.fromTypedArray(new Uint8Array([0, 255]), [2]);
    assert.equal(bytes.dtype, 'uint8');
    assert.deepEqual(values(bytes.to({ dtype: 'float32' })), [0, 255]);
    assert.equal(tensor([3], []).item(), 3);
  });

  it('refuse wrong shapes, detached buffers and use after dispose', () => {
    assert.throws(() => addon.Tensor.fromTypedArray(new Float32Array(3), [2, 2]), ArgumentError);
    assert.throws(() => addon.Tensor.fromTypedArray(new Float32Array(3), [-3]), ArgumentError);
    const data = new Float32Array(4);
    structuredClone(data.buffer, { transfer: [data.buffer] });
    assert.throws(() => addon.Tensor.fromTypedArray(data, [0]), /detached/);
    const gone = tensor([1], [1]);
    gone.dispose();
    gone.dispose();
    assert.equal(gone.disposed, true);
    assert.throws(() => gone.shape, DisposedError);
    assert.throws(() => new (addon.Tensor as unknown as new () => unknown)(), ArgumentError);
  });

  it('call any operator eagerly, lists included', () => {
    const [sum] = addon.Tensor.call('aten::add.Tensor', [tensor([1, 2], [2]), tensor([10, 20], [2])]);
    assert.deepEqual(values(sum), [11, 22]);
    const parts = addon.Tensor.call('aten::chunk', [tensor([1, 2, 3], [3]), 2]);
    assert.deepEqual(parts.map(values), [[1, 2], [3]]);
    const [top, index] = addon.Tensor.call('aten::topk', [tensor([5, 9, 7], [3]), 2]);
    assert.deepEqual(values(top), [9, 7]);
    assert.deepEqual(Array.from(index!.toTypedArray() as BigInt64Array), [1n, 2n]);
    assert.throws(() => addon.Tensor.call('aten::nothing', []), ArgumentError);
  });
});

describe('initialisers', () => {
  const moments = (data: number[]): { mean: number; std: number } => {
    const mean = data.reduce((a, b) => a + b, 0) / data.length;
    return { mean, std: Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length) };
  };
  const draw = (init: Parameters<typeof addon.drawInit>[0], shape: number[], seed = 1) =>
    values(addon.drawInit(init, shape, 'float32', seed));

  it('have the spread of their formula', () => {
    const shape = [64, 32, 3, 3]; // fan_in 288, fan_out 576
    const near = (got: number, expected: number) => {
      assert.ok(Math.abs(got / expected - 1) < 0.02, `${got} is not near ${expected}`);
    };
    near(
      moments(draw({ kind: 'kaiming_normal', mode: 'fan_out', gain: Math.SQRT2 }, shape)).std,
      Math.sqrt(2 / 576),
    );
    near(moments(draw({ kind: 'kaiming_uniform', mode: 'fan_in', gain: 1 }, shape)).std, Math.sqrt(1 / 288));
    near(moments(draw({ kind: 'xavier_normal', gain: 1 }, shape)).std, Math.sqrt(2 / (288 + 576)));
    near(Math.max(...draw({ kind: 'xavier_uniform', gain: 1 }, shape)), Math.sqrt(6 / (288 + 576)));
    const cut = draw({ kind: 'trunc_normal', mean: 0, std: 1, a: -1, b: 1 }, shape);
    assert.ok(cut.every((v) => v >= -1 && v <= 1));
    near(moments(cut).std, 0.5396); // of a standard normal cut at ±1
    assert.ok(draw({ kind: 'constant', value: 0.5 }, [3]).every((v) => v === 0.5));
  });

  it('depend on the seed alone', () => {
    const init = { kind: 'normal', mean: 0, std: 1 } as const;
    assert.deepEqual(draw(init, [100], 5), draw(init, [100], 5));
    assert.notDeepEqual(draw(init, [100], 5), draw(init, [100], 6));
  });
});
