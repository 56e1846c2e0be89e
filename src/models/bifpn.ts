/**
 * The bidirectional feature pyramid of EfficientDet (Tan et al. 2020, arXiv:1911.09070, section 3) over three
 * levels, as FeatherFace uses it: fusion by normalised weights, names of zylo117/Yet-Another-EfficientDet-Pytorch.
 */
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  Module,
  Parameter,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import type { Levels } from './face_parts.js';

/** TensorFlow's momentum 0.99 and epsilon. */
const bnOptions = { eps: 1e-3, momentum: 0.01 } as const;

/** A convolution whose name is `conv`, with TensorFlow's 'same' padding (stride 1: half the kernel). */
class SameConv2d extends Module {
  readonly conv: Conv2d;

  constructor(from: number, to: number, kernel: 1 | 3, options: { groups?: number; bias?: boolean } = {}) {
    super();
    this.conv = new Conv2d(from, to, kernel, { padding: (kernel - 1) / 2, ...options });
  }

  forward(x: Tensor): Tensor {
    return this.conv.forward(x);
  }
}

/** Depthwise without bias, pointwise with; nothing after the batch norm. */
class SeparableConv extends Module {
  readonly depthwise_conv: SameConv2d;
  readonly pointwise_conv: SameConv2d;
  readonly bn: BatchNorm2d;

  constructor(channels: number) {
    super();
    this.depthwise_conv = new SameConv2d(channels, channels, 3, { groups: channels, bias: false });
    this.pointwise_conv = new SameConv2d(channels, channels, 1);
    this.bn = new BatchNorm2d(channels, bnOptions);
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.pointwise_conv.forward(this.depthwise_conv.forward(x)));
  }
}

/** Σ wᵢ·xᵢ with w = relu(weights) / (Σ relu(weights) + 1e-4), then swish: "fast normalised fusion". */
function fuse(weights: Parameter, inputs: readonly Tensor[]): Tensor {
  const positive = F.relu(weights);
  // All weights are normalised, even where fewer tensors are fused (the last of p5_w2).
  const shares = positive.div(positive.sum(0).add(1e-4));
  const terms = inputs.map((x, i) => x.mul(shares.select(0, i)));
  return F.silu(terms.slice(1).reduce((sum, term) => sum.add(term), terms[0]!));
}

/** TensorFlow's 'same' 3×3/2 max pooling: zeros, right and bottom only where the side is even. */
function downsample(x: Tensor): Tensor {
  const [odd, oddWidth] = [x.size(2).mod(2), x.size(3).mod(2)];
  return F.maxPool2d(F.pad(x, [oddWidth, 1, odd, 1]), 3, { stride: 2 });
}

function upsample(x: Tensor, like: Tensor): Tensor {
  return F.interpolate(x, { size: [like.size(2), like.size(3)] });
}

export class BiFPN extends Module {
  readonly p4_w1: Parameter;
  readonly p3_w1: Parameter;
  readonly p4_w2: Parameter;
  readonly p5_w2: Parameter;
  readonly conv4_up: SeparableConv;
  readonly conv3_up: SeparableConv;
  readonly conv4_down: SeparableConv;
  readonly conv5_down: SeparableConv;
  readonly p5_down_channel: Sequential | null;
  readonly p4_down_channel: Sequential | null;
  readonly p3_down_channel: Sequential | null;
  readonly p4_down_channel_2: Sequential | null;
  readonly p5_down_channel_2: Sequential | null;

  /** `inChannels`: of the levels below the first layer, which reduces them; null for the layers above it. */
  constructor(channels: number, inChannels: readonly number[] | null) {
    super();
    const ones = (length: number): Parameter => new Parameter([length], { kind: 'constant', value: 1 });
    const reduce = (level: number): Sequential | null =>
      inChannels === null
        ? null
        : new Sequential(
            new SameConv2d(inChannels[level]!, channels, 1),
            new BatchNorm2d(channels, bnOptions),
          );
    this.p4_w1 = ones(2);
    this.p3_w1 = ones(2);
    this.p4_w2 = ones(3);
    this.p5_w2 = ones(3);
    this.conv4_up = new SeparableConv(channels);
    this.conv3_up = new SeparableConv(channels);
    this.conv4_down = new SeparableConv(channels);
    this.conv5_down = new SeparableConv(channels);
    this.p5_down_channel = reduce(2);
    this.p4_down_channel = reduce(1);
    this.p3_down_channel = reduce(0);
    this.p4_down_channel_2 = reduce(1);
    this.p5_down_channel_2 = reduce(2);
  }

  /** Of three levels; the ways up and down of the first layer start from reductions of their own. */
  forward([p3, p4, p5]: Levels): Levels {
    const p3In = this.p3_down_channel?.forward(p3) ?? p3;
    const p4In = this.p4_down_channel?.forward(p4) ?? p4;
    const p5In = this.p5_down_channel?.forward(p5) ?? p5;
    const p4Up = this.conv4_up.forward(fuse(this.p4_w1, [p4In, upsample(p5In, p4In)]));
    const p3Out = this.conv3_up.forward(fuse(this.p3_w1, [p3In, upsample(p4Up, p3In)]));
    const p4Second = this.p4_down_channel_2?.forward(p4) ?? p4;
    const p5Second = this.p5_down_channel_2?.forward(p5) ?? p5;
    const p4Out = this.conv4_down.forward(fuse(this.p4_w2, [p4Second, p4Up, downsample(p3Out)]));
    const p5Out = this.conv5_down.forward(fuse(this.p5_w2, [p5Second, downsample(p4Out)]));
    return [p3Out, p4Out, p5Out];
  }
}
