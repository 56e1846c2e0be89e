/** Squeeze-and-excitation of training on the CPU, against the separate operators in double precision. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import type { DType } from '#fornax/graph/format.js';
import { functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';

import { fillInput } from './conformance/fill.js';
import { assertNear, distance, runModule, type ProbeResult } from './support/graph_probe.js';

type Body = (module: Gated) => Tensor;

/** What the gate is made of, and the value that it scales, as parameters. */
class Gated extends Module {
  readonly x: Parameter;
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    shape: readonly number[],
    type: DType,
    private readonly body: Body,
  ) {
    super();
    const zero = { kind: 'constant', value: 0 } as const;
    const channels = shape[1]!;
    this.x = new Parameter([...shape], zero, type);
    this.weight = new Parameter([1, channels, 1, 1], zero, type);
    this.bias = new Parameter([1, channels, 1, 1], zero, type);
  }

  forward(_image: Tensor): Tensor {
    return this.body(this);
  }
}

/** The means of `x`, channel by channel, scaled and shifted. */
const squeezed = ({ x, weight, bias }: Gated): Tensor => F.adaptiveAvgPool2d(x, 1).mul(weight).add(bias);
const squeezeExcitation: Body = (module) => F.sigmoid(squeezed(module)).mul(module.x);

interface Settings {
  type?: DType;
  channelsLast?: boolean;
  threads?: number;
  fuse?: boolean;
}

function run(shape: readonly number[], body: Body, settings: Settings = {}): Promise<ProbeResult> {
  return runModule((type) => new Gated(shape, type, body), {
    ...settings,
    shape,
    values: (name, count) => fillInput(count, name.length * 1000 + count),
  });
}

async function assertExact(shape: readonly number[], body = squeezeExcitation, settings: Settings = {}) {
  const expected = await run(shape, body, { type: 'float64' });
  assertNear(await run(shape, body, settings), expected, 2e-6, `${shape.join('×')}`);
}

describe('squeeze-and-excitation', () => {
  it('has the values and gradients of the separate operators, for every number of channels', async () => {
    for (const channels of [1, 3, 8, 15, 16, 17, 24, 40, 72, 130]) await assertExact([2, channels, 5, 7]);
  });

  it('holds for images of any size', async () => {
    for (const size of [
      [1, 1],
      [1, 3],
      [2, 2],
      [16, 16],
      [17, 31],
      [40, 33],
    ]) {
      await assertExact([3, 24, ...size]);
    }
  });

  it('holds with a hard sigmoid, with the factors the other way round, and where others read the value', async () => {
    await assertExact([2, 24, 6, 5], (module) => F.hardsigmoid(squeezed(module)).mul(module.x));
    await assertExact([2, 24, 6, 5], (module) => module.x.mul(F.sigmoid(squeezed(module))));
    await assertExact([2, 24, 6, 5], (module) => squeezeExcitation(module).add(module.x));
    await assertExact([2, 24, 6, 5], (module) => {
      const gate = F.sigmoid(squeezed(module));
      return gate.mul(module.x).add(gate.mul(module.x.mul(2)));
    });
  });

  it('holds where one of both gradients is missing', async () => {
    await assertExact([2, 24, 6, 5], ({ x, weight }) =>
      F.sigmoid(weight.add(F.adaptiveAvgPool2d(x, 1))).mul(x),
    );
    await assertExact([2, 24, 6, 5], ({ x, weight, bias }) => {
      const gate = F.sigmoid(weight.add(bias).add(F.adaptiveAvgPool2d(x, 1).mul(0)));
      return gate.mul(x);
    });
  });

  it('leaves other memory and other factors to libtorch', async () => {
    await assertExact([2, 24, 6, 5], squeezeExcitation, { channelsLast: false });
    await assertExact([2, 24, 6, 5], ({ x, weight }) => F.sigmoid(x.mul(weight)).mul(x));
    await assertExact([2, 24, 6, 5], ({ x, weight, bias }) => F.sigmoid(weight.add(bias)).mul(x));
  });

  it('computes the same whatever the number of threads', async () => {
    const shape = [4, 48, 20, 20];
    const [one, two] = await Promise.all(
      // The loss is a sum of libtorch's, which does depend on them where there are no wide vectors.
      [1, 2].map(async (threads) => ({ ...(await run(shape, squeezeExcitation, { threads })), loss: 0 })),
    );
    assert.deepEqual(one, two);
  });

  it('is nearer to the exact sums in bfloat16 than the separate operators', async () => {
    const shape = [2, 48, 20, 20];
    const lower: Body = ({ x, weight, bias }) => {
      const low = x.to('bfloat16');
      const means = F.adaptiveAvgPool2d(low, 1).mul(weight.to('bfloat16')).add(bias.to('bfloat16'));
      return F.sigmoid(means).mul(low).to('float32');
    };
    const exact = await run(shape, squeezeExcitation, { type: 'float64' });
    const [fused, separate] = [await run(shape, lower), await run(shape, lower, { fuse: false })];
    assert.ok(distance(fused.output, separate.output) < 0.01);
    for (const name of ['x', 'weight', 'bias']) {
      const off = distance(fused.gradients[name]!, exact.gradients[name]!);
      assert.ok(off < 0.03, `${name} is off by ${off}`);
      assert.ok(off <= 1.5 * distance(separate.gradients[name]!, exact.gradients[name]!), name);
    }
  });
});
