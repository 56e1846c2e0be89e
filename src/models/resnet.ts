/**
 * Deep Residual Learning for Image Recognition, He et al. 2015 (arXiv:1512.03385), table 1, in torchvision's
 * variant: the stride of a bottleneck is in its 3×3 convolution ("v1.5"). Names and order of the state dict are
 * torchvision's. Also ResNeXt (Xie et al. 2016) and Wide ResNet (Zagoruyko & Komodakis 2016).
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  init,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions, type OptionSpec } from './architecture.js';

function conv3x3(inPlanes: number, outPlanes: number, stride = 1, groups = 1): Conv2d {
  return new Conv2d(inPlanes, outPlanes, 3, { stride, padding: 1, groups, bias: false });
}

function conv1x1(inPlanes: number, outPlanes: number, stride = 1): Conv2d {
  return new Conv2d(inPlanes, outPlanes, 1, { stride, bias: false });
}

interface BlockOptions {
  inPlanes: number;
  planes: number;
  stride: number;
  downsample: Sequential | null;
  groups: number;
  baseWidth: number;
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

  constructor({ inPlanes, planes, stride, downsample }: BlockOptions) {
    super();
    this.conv1 = conv3x3(inPlanes, planes, stride);
    this.bn1 = new BatchNorm2d(planes);
    this.relu = new ReLU();
    this.conv2 = conv3x3(planes, planes);
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

  constructor({ inPlanes, planes, stride, downsample, groups, baseWidth }: BlockOptions) {
    super();
    const width = Math.floor(planes * (baseWidth / 64)) * groups;
    this.conv1 = conv1x1(inPlanes, width);
    this.bn1 = new BatchNorm2d(width);
    this.conv2 = conv3x3(width, width, stride, groups);
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

export interface ResNetOptions extends ModelOptions {
  /** Groups of the 3×3 convolutions of bottlenecks (ResNeXt). Default 1. */
  groups?: number;
  /** Width of a bottleneck with 64 planes, per group. Default 64. */
  widthPerGroup?: number;
  /** Start the last batch norm of each block at zero (Goyal et al. 2017). Default false. */
  zeroInitResidual?: boolean;
}

export class ResNet extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly maxpool: MaxPool2d;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly layer4: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly fc: Linear;

  /** `blocks`: how many in each of the four stages. */
  constructor(
    block: typeof BasicBlock | typeof Bottleneck,
    blocks: readonly [number, number, number, number],
    options: ResNetOptions = {},
  ) {
    super();
    const { numClasses = 1000, inChannels = 3, groups = 1, widthPerGroup = 64 } = options;
    let inPlanes = 64;
    const stage = (planes: number, count: number, firstStride: number): Sequential => {
      const layers: Module[] = [];
      for (let i = 0; i < count; i++) {
        const stride = i === 0 ? firstStride : 1;
        const outPlanes = planes * block.expansion;
        const downsample =
          stride !== 1 || inPlanes !== outPlanes
            ? new Sequential(conv1x1(inPlanes, outPlanes, stride), new BatchNorm2d(outPlanes))
            : null;
        layers.push(new block({ inPlanes, planes, stride, downsample, groups, baseWidth: widthPerGroup }));
        inPlanes = outPlanes;
      }
      return new Sequential(...layers);
    };
    this.conv1 = new Conv2d(inChannels, 64, 7, { stride: 2, padding: 3, bias: false });
    this.bn1 = new BatchNorm2d(64);
    this.relu = new ReLU();
    this.maxpool = new MaxPool2d(3, { stride: 2, padding: 1 });
    this.layer1 = stage(64, blocks[0], 1);
    this.layer2 = stage(128, blocks[1], 2);
    this.layer3 = stage(256, blocks[2], 2);
    this.layer4 = stage(512, blocks[3], 2);
    this.avgpool = new AdaptiveAvgPool2d([1, 1]);
    this.fc = new Linear(512 * block.expansion, numClasses);
    for (const module of this.modules()) {
      if (module instanceof Conv2d) {
        init.kaimingNormal(module.weight, { mode: 'fan_out', nonlinearity: 'relu' });
      } else if (options.zeroInitResidual && (module instanceof BasicBlock || module instanceof Bottleneck)) {
        init.zeros((module instanceof Bottleneck ? module.bn3 : module.bn2).weight!);
      }
    }
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    let x = this.maxpool.forward(this.relu.forward(this.bn1.forward(this.conv1.forward(image))));
    x = this.layer1.forward(x);
    x = this.layer2.forward(x);
    x = this.layer3.forward(x);
    x = this.layer4.forward(x);
    return this.fc.forward(this.avgpool.forward(x).flatten(1));
  }
}

export const resnet18 = (options?: ResNetOptions): ResNet => new ResNet(BasicBlock, [2, 2, 2, 2], options);
export const resnet34 = (options?: ResNetOptions): ResNet => new ResNet(BasicBlock, [3, 4, 6, 3], options);
export const resnet50 = (options?: ResNetOptions): ResNet => new ResNet(Bottleneck, [3, 4, 6, 3], options);
export const resnet101 = (options?: ResNetOptions): ResNet => new ResNet(Bottleneck, [3, 4, 23, 3], options);
export const resnet152 = (options?: ResNetOptions): ResNet => new ResNet(Bottleneck, [3, 8, 36, 3], options);
export const resnext50_32x4d = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 6, 3], { ...options, groups: 32, widthPerGroup: 4 });
export const wide_resnet50_2 = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 6, 3], { ...options, widthPerGroup: 128 });

const zeroInitResidual: OptionSpec = {
  type: 'boolean',
  default: false,
  description: 'Start the last batch norm of each block at zero (Goyal et al. 2017).',
};

export const resnets = [
  ...imagenet(
    { paper: 'He et al. 2015, arXiv:1512.03385', options: { zeroInitResidual } },
    { resnet18, resnet34, resnet50, resnet101, resnet152 },
  ),
  ...imagenet(
    { paper: 'Xie et al. 2016, arXiv:1611.05431', options: { zeroInitResidual } },
    { resnext50_32x4d },
  ),
  ...imagenet(
    { paper: 'Zagoruyko & Komodakis 2016, arXiv:1605.07146', options: { zeroInitResidual } },
    { wide_resnet50_2 },
  ),
];
