/** The blocks of resnet.ts: He et al. 2015 (arXiv:1512.03385), figure 5. Names are torchvision's. */
import { BatchNorm2d, Conv2d, Module, ReLU, type Sequential, type Tensor } from '../nn/index.js';

function conv3x3(
  inPlanes: number,
  outPlanes: number,
  options: { stride?: number; groups?: number; dilation: number },
): Conv2d {
  return new Conv2d(inPlanes, outPlanes, 3, { ...options, padding: options.dilation, bias: false });
}

export function conv1x1(inPlanes: number, outPlanes: number, stride = 1): Conv2d {
  return new Conv2d(inPlanes, outPlanes, 1, { stride, bias: false });
}

export interface BlockOptions {
  inPlanes: number;
  planes: number;
  stride: number;
  downsample: Sequential | null;
  groups: number;
  baseWidth: number;
  /** Of the first 3×3 convolution, and of the second where there is one. */
  dilation: readonly [number, number];
}

/** Two 3×3 convolutions: figure 5, left. */
export class BasicBlock extends Module {
  static readonly expansion = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly downsample: Sequential | null;

  constructor({ inPlanes, planes, stride, downsample, dilation }: BlockOptions) {
    super();
    this.conv1 = conv3x3(inPlanes, planes, { stride, dilation: dilation[0] });
    this.bn1 = new BatchNorm2d(planes);
    this.relu = new ReLU();
    this.conv2 = conv3x3(planes, planes, { dilation: dilation[1] });
    this.bn2 = new BatchNorm2d(planes);
    this.downsample = downsample;
  }

  forward(x: Tensor): Tensor {
    let out = this.relu.forward(this.bn1.forward(this.conv1.forward(x)));
    out = this.bn2.forward(this.conv2.forward(out));
    return this.relu.forward(out.add(this.downsample?.forward(x) ?? x));
  }
}

/** 1×1, 3×3, 1×1: figure 5, right. */
export class Bottleneck extends Module {
  static readonly expansion = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly relu: ReLU;
  readonly downsample: Sequential | null;

  constructor({ inPlanes, planes, stride, downsample, groups, baseWidth, dilation }: BlockOptions) {
    super();
    const width = Math.max(1, Math.floor(planes * (baseWidth / 64))) * groups;
    this.conv1 = conv1x1(inPlanes, width);
    this.bn1 = new BatchNorm2d(width);
    this.conv2 = conv3x3(width, width, { stride, groups, dilation: dilation[0] });
    this.bn2 = new BatchNorm2d(width);
    this.conv3 = conv1x1(width, planes * Bottleneck.expansion);
    this.bn3 = new BatchNorm2d(planes * Bottleneck.expansion);
    this.relu = new ReLU();
    this.downsample = downsample;
  }

  forward(x: Tensor): Tensor {
    let out = this.relu.forward(this.bn1.forward(this.conv1.forward(x)));
    out = this.relu.forward(this.bn2.forward(this.conv2.forward(out)));
    out = this.bn3.forward(this.conv3.forward(out));
    return this.relu.forward(out.add(this.downsample?.forward(x) ?? x));
  }
}
