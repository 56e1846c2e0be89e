/** Depthwise convolution of training on the CPU, against libtorch's in double precision. */
import { describe, it } from 'node:test';
import { assertNear } from './support/graph_probe.js';
import { runDepthwise, type DepthwiseCase } from './support/depthwise_probe.js';

async function assertExact(options: DepthwiseCase, channelsLast = true): Promise<void> {
  const expected = await runDepthwise(options, 'float64');
  assertNear(await runDepthwise(options, 'float32', channelsLast), expected, 1e-5, JSON.stringify(options));
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

  it('adds up the weights of 3×3 windows in images of every height', async () => {
    for (let height = 1; height <= 8; height++) {
      for (const [stride, padding] of [
        [1, 1],
        [2, 1],
        [1, 2],
      ] as const) {
        await assertExact({ images: 2, channels: 40, size: [height, 9], kernel: 3, stride, padding });
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
