/** Depthwise convolution of training on the CPU, against libtorch's in double precision. */
import { describe, it } from 'node:test';
import { functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import type { DType } from '#fornax/graph/format.js';
import { fillInput } from './conformance/fill.js';
import { assertNear, runModule } from './support/graph_probe.js';

interface Case {
  images: number;
  channels: number;
  size: readonly [number, number];
  kernel: number;
  stride: number;
  padding: number;
  bias?: boolean;
  dilation?: number;
}

class Depthwise extends Module {
  readonly x: Parameter;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    private readonly options: Case,
    type: DType,
  ) {
    super();
    const { images, channels, size, kernel, bias = false } = options;
    const zero = { kind: 'constant', value: 0 } as const;
    this.x = new Parameter([images, channels, ...size], zero, type);
    this.weight = new Parameter([channels, 1, kernel, kernel], zero, type);
    this.bias = bias ? new Parameter([channels], zero, type) : null;
  }

  forward(_image: Tensor): Tensor {
    const { channels, stride, padding, dilation = 1 } = this.options;
    return F.conv2d(this.x, this.weight, this.bias, { stride, padding, dilation, groups: channels });
  }
}

async function assertExact(options: Case, channelsLast = true): Promise<void> {
  const { images, channels, size, kernel, stride, padding, dilation = 1 } = options;
  const [height, width] = size.map(
    (length) => Math.floor((length + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1,
  ) as [number, number];
  const build = (type: DType): Module => new Depthwise(options, type);
  const run = {
    shape: [images, channels, height, width],
    values: (name: string, count: number) => fillInput(count, name.length * 1000 + count),
    channelsLast,
  };
  const expected = await runModule(build, { ...run, type: 'float64' });
  assertNear(await runModule(build, run), expected, 1e-5, JSON.stringify(options));
}

describe('depthwise convolution', () => {
  for (const kernel of [3, 5, 7]) {
    for (const stride of [1, 2]) {
      it(`has the values and gradients of ${kernel}×${kernel} windows, stride ${stride}`, async () => {
        for (const padding of [0, (kernel - 1) / 2, kernel - 1]) {
          await assertExact({ images: 2, channels: 24, size: [13, 9], kernel, stride, padding });
          await assertExact({ images: 3, channels: 17, size: [8, 7], kernel, stride, padding, bias: true });
        }
      });
    }
  }

  it('holds for every width from one window on, and for images smaller than a window', async () => {
    for (let width = 1; width <= 14; width++) {
      for (const stride of [1, 2]) {
        await assertExact({ images: 2, channels: 16, size: [3, width], kernel: 5, stride, padding: 2 });
      }
    }
  });

  it('holds for every number of channels', async () => {
    for (const channels of [2, 8, 15, 16, 17, 24, 31, 33, 40, 48, 63, 70]) {
      await assertExact({ images: 1, channels, size: [5, 6], kernel: 3, stride: 1, padding: 1 });
    }
  });

  it('leaves other memory and dilated windows to libtorch', async () => {
    const common = { images: 2, channels: 16, size: [9, 9], kernel: 3, stride: 1, padding: 1 } as const;
    await assertExact(common, false);
    await assertExact({ ...common, dilation: 2 });
  });
});
