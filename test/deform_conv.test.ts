/** Deformable convolution against torchvision.ops.deform_conv2d (test/fixtures/make_deform_conv.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ArgumentError, ExecutionError, GuardError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import {
  DeformConv2d,
  functional as F,
  Module,
  Parameter,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';
import { fillInput } from './conformance/fill.js';

interface Case {
  stride?: [number, number];
  padding?: [number, number];
  dilation?: [number, number];
  scale: number;
  shapes: Record<'x' | 'offset' | 'weight', number[]> & Partial<Record<'bias' | 'mask', number[]>>;
  output: { shape: number[]; values: number[] };
  gradients: Record<string, number[]>;
}

const file = fileURLToPath(new URL('../../../test/fixtures/deform_conv.json', import.meta.url));
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: Record<string, Case> };

/** The ordinals of the fill. */
const ordinals: Record<string, number> = { x: 1, offset: 2, weight: 3, bias: 4, mask: 5 };

function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** All tensors are parameters, so that all have gradients; the input multiplies by one. */
class AllTrained extends Module {
  readonly x: Parameter;
  readonly offset: Parameter;
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly mask: Parameter | null;

  constructor(readonly given: Case) {
    super();
    const { shapes } = given;
    this.x = new Parameter(shapes.x);
    this.offset = new Parameter(shapes.offset);
    this.weight = new Parameter(shapes.weight);
    this.bias = shapes.bias ? new Parameter(shapes.bias) : null;
    this.mask = shapes.mask ? new Parameter(shapes.mask) : null;
  }

  forward(one: Symbolic): Symbolic {
    const { stride = 1, padding = 0, dilation = 1 } = this.given;
    const { mask } = this;
    return F.deformConv2d(this.x.mul(one), this.offset, this.weight, this.bias, {
      stride,
      padding,
      dilation,
      mask,
    });
  }
}

class WeightedSum extends Module {
  forward(output: Symbolic, target: Symbolic): Symbolic {
    return output.mul(target).sum();
  }
}

function assertClose(actual: ArrayLike<number>, expected: readonly number[], what: string): void {
  assert.equal(actual.length, expected.length, what);
  const largest = Math.max(...expected.map(Math.abs), 1);
  for (const [i, value] of expected.entries()) {
    const error = Math.abs(actual[i]! - value);
    assert.ok(error <= 2e-5 * largest, `${what}[${i}]: ${actual[i]}, expected ${value}`);
  }
}

for (const [name, given] of Object.entries(cases)) {
  test(`deformable convolution is torchvision's, with gradients: ${name}`, async () => {
    using model = Model.create(new AllTrained(given), { inputs: [[1]] });
    for (const { name: key, tensor } of model.state()) {
      const scale = key === 'offset' ? given.scale : 1;
      const values = fillInput(elements(tensor.shape), ordinals[key]!).map(
        (v) => v * scale + (key === 'mask' ? 1 : 0),
      );
      model.loadState({ [key]: Tensor.from(values, tensor.shape) }, { strict: false });
    }
    const { shape, values } = given.output;
    const { outputs, gradients } = await model.lossAndGradients(
      { image: Tensor.ones([1]), target: Tensor.from(fillInput(elements(shape), 6), shape) },
      { loss: traceLoss(new WeightedSum(), ['output', 'target']) },
    );
    assert.deepEqual(outputs.output!.shape, shape);
    assertClose(outputs.output!.toTypedArray() as Float32Array, values, 'output');
    assert.deepEqual(Object.keys(gradients), Object.keys(given.gradients).sort(byState(model)));
    for (const [key, expected] of Object.entries(given.gradients)) {
      assertClose(gradients[key]!.toTypedArray() as Float32Array, expected, `gradient of ${key}`);
    }
  });
}

function byState(model: Model): (a: string, b: string) => number {
  const order = model.graph.parameters.map(({ name }) => name);
  return (a, b) => order.indexOf(a) - order.indexOf(b);
}

/** A layer whose offsets are an input. */
class Layer extends Module {
  readonly conv: DeformConv2d;

  constructor(options?: ConstructorParameters<typeof DeformConv2d>[3]) {
    super();
    this.conv = new DeformConv2d(4, 6, 3, options);
  }

  forward(x: Symbolic, offset: Symbolic): Symbolic {
    return this.conv.forward(x, offset);
  }
}

test('a traced deformable convolution serves any resolution and batch size', async () => {
  const inputs = [
    [1, 4, 8, 8],
    [1, 18, 8, 8],
  ] as const;
  using model = Model.create(new Layer({ padding: 1 }), { inputs, seed: 3 });
  const plain = model.state().map(({ tensor }) => tensor);
  for (const [n, h, w] of [
    [2, 5, 13],
    [1, 70, 3],
    [3, 16, 17],
  ] as const) {
    const x = Tensor.from(fillInput(n * 4 * h * w, 9), [n, 4, h, w]);
    const { output } = await model.forward([x, Tensor.zeros([n, 18, h, w])]);
    const expected = x.call('aten::conv2d', plain[0]!, plain[1]!, [1, 1], [1, 1]);
    assertClose(
      output!.toTypedArray() as Float32Array,
      Array.from(expected.toTypedArray() as Float32Array),
      `${h}×${w}`,
    );
  }
});

test('tensors that do not fit together are refused when the model is traced', () => {
  const make = (offsets: number, options?: object): void => {
    trace(new Layer(options), {
      inputs: [
        [1, 4, 8, 8],
        [1, offsets, 6, 6],
      ],
    });
  };
  assert.throws(() => make(17), ArgumentError);
  assert.throws(() => make(9), ArgumentError);
  assert.throws(() => make(18 * 3), ArgumentError); // 3 groups of offsets, 4 channels
  assert.doesNotThrow(() => make(18 * 2));
  assert.throws(() => new DeformConv2d(4, 6, 3, { groups: 3 }), ArgumentError);
  assert.throws(() => new DeformConv2d(4, 6, 3, { modulated: true } as object), ArgumentError);
});

test('another number of offsets or channels than the traced one is refused, not computed wrongly', async () => {
  using model = Model.create(new Layer(), {
    inputs: [
      [1, 4, 8, 8],
      [1, 18, 6, 6],
    ],
  });
  const offsets = model.forward([Tensor.zeros([1, 4, 8, 8]), Tensor.zeros([1, 27, 6, 6])]);
  await assert.rejects(offsets, (error) => error instanceof ArgumentError || error instanceof GuardError);
  // As many numbers as three images of four channels.
  const channels = model.forward([Tensor.zeros([4, 3, 8, 8]), Tensor.zeros([4, 18, 6, 6])]);
  await assert.rejects(channels, ExecutionError);
});
