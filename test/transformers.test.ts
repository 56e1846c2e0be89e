/** Attention, and what transformers do with images of another size than they were made for. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ArgumentError, GuardError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { writeSafetensors } from '#fornax/io/safetensors.js';
import { Model } from '#fornax/model.js';
import { createModule } from '#fornax/models/registry.js';
import { SwinTransformer } from '#fornax/models/swin.js';
import { VisionTransformer, type VisionTransformerOptions } from '#fornax/models/vit.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { Module, MultiheadAttention, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';
import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

function wave(shape: readonly number[]): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return Tensor.from(
    Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i)),
    [...shape],
  );
}

const values = (tensor: Tensor): Float32Array => tensor.toTypedArray() as Float32Array;

/** Largest difference, relative to the largest expected value. */
function difference(actual: Tensor, expected: ArrayLike<number>): number {
  const found = values(actual);
  assert.equal(found.length, expected.length);
  const scale = Math.max(...Array.from(expected, Math.abs));
  assert.ok(scale > 0, 'zeros would agree with anything');
  return Math.max(...Array.from(expected, (x, i) => Math.abs(found[i]! - x))) / scale;
}

describe('MultiheadAttention', () => {
  class Attend extends Module {
    readonly attention: MultiheadAttention;
    constructor(dropout: number) {
      super();
      this.attention = new MultiheadAttention(6, 2, { dropout });
    }
    forward(x: Symbolic): Symbolic {
      return this.attention.forward(x);
    }
  }
  const make = (dropout = 0): Model =>
    Model.create(new Attend(dropout), { seed: 3, inputs: [{ name: 'x', shape: [2, 5, 6] }] });

  /** Equation 1 of the paper in plain loops. */
  function byHand(model: Model, x: Float32Array): number[] {
    const state = new Map(model.state().map(({ name, tensor }) => [name, values(tensor)]));
    const project = (row: ArrayLike<number>, weight: string, bias: string, out: number, from = 0): number[] =>
      Array.from({ length: out }, (_, o) => {
        const w = state.get(`attention.${weight}`)!;
        let sum = state.get(`attention.${bias}`)![from + o]!;
        for (let i = 0; i < 6; i++) sum += w[(from + o) * 6 + i]! * row[i]!;
        return sum;
      });
    const result: number[] = [];
    for (let n = 0; n < 2; n++) {
      const rows = Array.from({ length: 5 }, (_, l) => x.subarray((n * 5 + l) * 6, (n * 5 + l + 1) * 6));
      const [q, k, v] = [0, 6, 12].map((from) =>
        rows.map((row) => project(row, 'in_proj_weight', 'in_proj_bias', 6, from)),
      ) as [number[][], number[][], number[][]];
      for (let l = 0; l < 5; l++) {
        const mixed: number[] = [];
        for (const head of [0, 3]) {
          const scores = k.map((key) => {
            const dot = [0, 1, 2].reduce((sum, i) => sum + q[l]![head + i]! * key[head + i]!, 0);
            return Math.exp(dot / Math.sqrt(3));
          });
          const total = scores.reduce((a, b) => a + b, 0);
          for (const i of [0, 1, 2]) {
            mixed.push(scores.reduce((sum, score, s) => sum + (score / total) * v[s]![head + i]!, 0));
          }
        }
        result.push(...project(mixed, 'out_proj.weight', 'out_proj.bias', 6));
      }
    }
    return result;
  }

  it('computes what the paper says', async () => {
    using model = make();
    using x = wave([2, 5, 6]);
    const { output } = await model.forward({ x });
    assert.ok(difference(output!, byHand(model, values(x))) < 1e-5);
  });

  it('drops weights in train mode alone, by the seed of the run', async () => {
    using plain = make();
    using model = make(0.5);
    using x = wave([2, 5, 6]);
    const expected = values((await plain.forward({ x }))['output']!);
    assert.ok(difference((await model.forward({ x }))['output']!, expected) < 1e-6);
    const train = async (seed: number): Promise<Float32Array> =>
      values((await model.forward({ x }, { mode: 'train', seed }))['output']!);
    assert.deepEqual(await train(1), await train(1));
    assert.notDeepEqual(await train(1), await train(2));
    assert.notDeepEqual(await train(1), expected);
  });

  it('needs heads that divide the channels', () => {
    assert.throws(() => new MultiheadAttention(6, 4), ArgumentError);
  });
});

/** Bicubic resizing of [rows, columns, C] with aligned corners (Keys 1981, a = −0.75), as torch does it. */
function resized(grid: ArrayLike<number>, side: number, to: number, channels: number): number[] {
  const a = -0.75;
  const weight = (d: number): number =>
    d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const taps = (i: number): [number, number][] => {
    const at = to === 1 ? 0 : (i * (side - 1)) / (to - 1);
    const first = Math.floor(at);
    return [-1, 0, 1, 2].map((offset) => [
      Math.min(side - 1, Math.max(0, first + offset)),
      weight(Math.abs(at - first - offset)),
    ]);
  };
  const result: number[] = [];
  for (let y = 0; y < to; y++) {
    for (let x = 0; x < to; x++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const [v, wy] of taps(y)) {
          for (const [u, wx] of taps(x)) sum += wy * wx * grid[(v * side + u) * channels + c]!;
        }
        result.push(sum);
      }
    }
  }
  return result;
}

describe('ViT', () => {
  const size = { patch: 4, layers: 2, heads: 2, channels: 8, mlp: 16 };
  const make = (side: number, options: VisionTransformerOptions = {}): Model => {
    const model = Model.create(new VisionTransformer(size, { numClasses: 3, ...options }), {
      inputs: [[1, 3, side, side]],
    });
    // The published start of the head is zero, which would hide everything.
    using head = wave([3, size.channels]);
    model.loadState({ 'heads.head.weight': head }, { strict: false });
    return model;
  };
  const position = 'encoder.pos_embedding';

  it('interpolates its positions as torchvision does, at any size', async () => {
    using model = make(16, { imageSize: 16 });
    for (const side of [20, 32, 12, 4]) {
      using image = wave([2, 3, side, side]);
      using native = make(side, { imageSize: side });
      const state = Object.fromEntries(model.state().map(({ name, tensor }) => [name, tensor]));
      const embedding = values(state[position]!);
      const grid = resized(embedding.subarray(size.channels), 4, side / 4, size.channels);
      const rows = [...embedding.subarray(0, size.channels), ...grid];
      using own = Tensor.from(Float32Array.from(rows), [1, (side / 4) ** 2 + 1, size.channels]);
      native.loadState({ ...state, [position]: own });
      const expected = values((await native.forward(image))['output']!);
      assert.ok(difference((await model.forward(image))['output']!, expected) < 1e-5, `at ${side}`);
    }
  });

  it('has no interpolation in the graph for its own size, and no guard in that for any other', async () => {
    const operators = (model: Model): string[] => model.graph.nodes.map(({ op }) => op);
    using own = make(16, { imageSize: 16 });
    using other = make(24, { imageSize: 16 });
    assert.ok(!operators(own).some((op) => op.includes('upsample')));
    assert.equal(own.graph.guards.length, 2);
    assert.ok(operators(other).some((op) => op.includes('upsample_bicubic')));
    assert.deepEqual(other.graph.guards, []);

    const file = path.join(root.path, 'vit.safetensors');
    await other.save(file);
    using loaded = await Model.load(file);
    for (const [height, width] of [
      [16, 16],
      [16, 28],
      [30, 17],
    ]) {
      using image = wave([1, 3, height!, width!]);
      const expected = values((await own.forward(image))['output']!);
      assert.ok(difference((await loaded.forward(image))['output']!, expected) < 1e-6);
    }
  });

  it('passes gradients through the interpolation to its positions', async () => {
    using model = make(24, { imageSize: 16 });
    using image = wave([2, 3, 24, 24]);
    using label = Tensor.from(BigInt64Array.of(0n, 2n), [2]);
    const { gradients } = await model.lossAndGradients({ image, label });
    assert.ok(values(gradients[position]!).every((x) => Number.isFinite(x)));
    assert.ok(Math.hypot(...values(gradients[position]!)) > 0);
  });

  it("reads torchvision's published files, which have older names", async () => {
    using model = make(16, { imageSize: 16 });
    const older = (name: string): string =>
      name.replace(/mlp\.0\./, 'mlp.linear_1.').replace(/mlp\.3\./, 'mlp.linear_2.');
    const entries = model
      .state()
      .map(({ name, tensor }): [string, NativeTensor] => [older(name), tensor.native]);
    assert.ok(entries.some(([name]) => name === 'encoder.layers.encoder_layer_1.mlp.linear_2.bias'));
    const file = path.join(root.path, 'older.safetensors');
    await writeSafetensors(file, entries);
    using other = Model.create(new VisionTransformer(size, { numClasses: 3, imageSize: 16 }), {
      seed: 5,
      inputs: [[1, 3, 16, 16]],
    });
    await other.loadWeights(file);
    using image = wave([1, 3, 16, 16]);
    assert.deepEqual(
      values((await other.forward(image))['output']!),
      values((await model.forward(image))['output']!),
    );
  });

  it('is made for sizes of whole patches', () => {
    assert.throws(() => createModule('vit_b_16', { imageSize: 230 }), ArgumentError);
    const { parameters } = trace(createModule('vit_b_16', { imageSize: 384 }), {
      inputs: [[1, 3, 384, 384]],
    });
    assert.deepEqual(parameters.find(({ name }) => name === position)!.shape, [1, 577, 768]);
  });
});

describe('Swin', () => {
  const table = { channels: 32, blocks: [2, 2, 2, 2], stochasticDepth: 0 } as const;
  const sizes = [
    [224, 224],
    [64, 64],
    [200, 200],
    [96, 232],
    [28, 28],
    [230, 230],
  ] as const;
  const make = (height: number, width: number): Model =>
    Model.create(new SwinTransformer(table, { numClasses: 5 }), { inputs: [[1, 3, height, width]] });

  it('gives at every size what a fresh trace for that size gives', async () => {
    using model = make(224, 224);
    for (const [height, width] of sizes) {
      using image = wave([2, 3, height, width]);
      using fresh = make(height, width);
      const expected = values((await fresh.forward(image))['output']!);
      assert.ok(difference((await model.forward(image))['output']!, expected) < 1e-6, `${height}×${width}`);
    }
  });

  it('traced at a size that fits nowhere needs no guard: its file serves every size', async () => {
    using model = make(230, 230);
    assert.deepEqual(model.graph.guards, []);
    const file = path.join(root.path, 'swin.safetensors');
    await model.save(file);
    using loaded = await Model.load(file);
    for (const [height, width] of sizes) {
      using image = wave([1, 3, height, width]);
      using fresh = make(height, width);
      const expected = values((await fresh.forward(image))['output']!);
      assert.ok(difference((await loaded.forward(image))['output']!, expected) < 1e-5, `${height}×${width}`);
    }
  });

  it('loaded from a file that was traced at 224 refuses a size for which it would be wrong', async () => {
    using model = make(224, 224);
    const file = path.join(root.path, 'swin224.safetensors');
    await model.save(file);
    using loaded = await Model.load(file);
    using image = wave([1, 3, 64, 64]);
    await assert.rejects(
      loaded.forward(image),
      (error) => error instanceof GuardError && /features\.\d/.test(error.message),
    );
  });
});
