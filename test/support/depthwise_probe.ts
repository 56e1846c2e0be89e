/** One depthwise convolution as a network of its own (graph_probe.ts). */
import type { DType } from '#fornax/graph/format.js';
import { call, functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import { fillInput } from '../conformance/fill.js';
import { runModule, type ProbeResult } from './graph_probe.js';

export interface DepthwiseCase {
  images: number;
  channels: number;
  size: readonly [number, number];
  kernel: number;
  stride: number;
  padding: number;
  bias?: boolean;
  dilation?: number;
  /** The operator by its name instead of what training puts in: for processors on which it puts in nothing. */
  direct?: boolean;
}

class Depthwise extends Module {
  readonly x: Parameter;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    private readonly options: DepthwiseCase,
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
    const { channels, stride, padding, dilation = 1, direct = false } = this.options;
    if (direct) {
      const both = (value: number): number[] => [value, value];
      const args = [this.x, this.weight, this.bias, both(stride), both(padding), both(dilation), channels];
      return call('fornax::depthwise_conv2d', args);
    }
    return F.conv2d(this.x, this.weight, this.bias, { stride, padding, dilation, groups: channels });
  }
}

/** Forward and backward, with the same numbers whatever they are computed with. */
export function runDepthwise(
  options: DepthwiseCase,
  type: DType = 'float32',
  channelsLast = true,
): Promise<ProbeResult> {
  const { images, channels, size, kernel, stride, padding, dilation = 1 } = options;
  const [height, width] = size.map(
    (length) => Math.floor((length + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1,
  ) as [number, number];
  return runModule((of) => new Depthwise(options, of), {
    type,
    shape: [images, channels, height, width],
    values: (name, count) => fillInput(count, name.length * 1000 + count),
    channelsLast,
  });
}
