/** The native executor: what a graph computes, in which mode, on how many threads, and how it fails. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AbortedError,
  ArgumentError,
  DisposedError,
  ExecutionError,
  GuardError,
  WeightsError,
} from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import * as nn from '#fornax/nn/index.js';
import { graphOf, nativeGraph, ramp, relu, tensor, values } from './support/native_graphs.js';

const addon = loadAddon();

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
    const native = nativeGraph(new Net(), [1, 4]);
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
    const native = nativeGraph(new Net(), [2, 3, 8, 8]);
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
    const native = nativeGraph(new Regularised(), [4, 2, 3, 3]);
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
    const native = nativeGraph(new Regularised(), [8, 2, 3, 3]);
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
    const native = nativeGraph(new Regularised(), [1, 2, 2, 2]);
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
    const native = nativeGraph(new nn.Sequential(new Block(), new nn.Flatten()), [1, 2, 3, 3]);
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
    const native = nativeGraph(new Net(), [1, 3, 16, 16]);
    const session = new addon.InferenceSession(native, { workers: 4, threads: 1 });
    const x = ramp([1, 3, 16, 16]);
    const expected = values((await session.forward({ x })).output);
    const results = await Promise.all(Array.from({ length: 40 }, () => session.forward({ x })));
    for (const { output } of results) assert.deepEqual(values(output), expected);
  });

  it('serves a disposed model no more, and finishes what runs', async () => {
    const native = nativeGraph(new Regularised(), [1, 2, 2, 2]);
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

describe('errors of a run', () => {
  it('name the node and the shapes', async () => {
    const native = nativeGraph(new nn.Linear(4, 2), [1, 4]);
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
    const native = nativeGraph(new nn.Linear(2, 1), [1, 2]);
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
