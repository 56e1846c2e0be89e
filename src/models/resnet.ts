/**
 * Deep Residual Learning for Image Recognition, He et al. 2015 (arXiv:1512.03385), table 1, in torchvision's
 * variant: the stride of a bottleneck is in its 3×3 convolution ("v1.5"). Names and order of the state dict are
 * torchvision's. Also ResNeXt (Xie et al. 2016), Wide ResNet (Zagoruyko & Komodakis 2016) and, for 32×32 images,
 * the same networks behind one 3×3 convolution (the keys of timm's resnets with such a stem).
 */
import { ArgumentError } from '../errors.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Identity,
  init,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { cifar, imagenet, type ModelOptions, type OptionSpec } from './architecture.js';
import { BasicBlock, Bottleneck, conv1x1 } from './resnet_blocks.js';

export interface ResNetOptions extends ModelOptions {
  /** Groups of the 3×3 convolutions of bottlenecks (ResNeXt). Default 1. */
  groups?: number;
  /** Width of a bottleneck with 64 planes, per group. Default 64. */
  widthPerGroup?: number;
  /** Start the last batch norm of each block at zero (Goyal et al. 2017). Default false. */
  zeroInitResidual?: boolean;
  /** `imagenet`: 7×7/2 and a 3×3/2 max-pool; `cifar`: 3×3, no pooling, for small images. Default 'imagenet'. */
  stem?: 'imagenet' | 'cifar';
  /** Factor on the channels of every layer. Default 1. */
  width?: number;
  /**
   * Image pixels per pixel of `layer4`, for the stem `imagenet`: 16 and 8 replace the strides of the last one or
   * two stages by dilation (torchvision's replace_stride_with_dilation), as segmentation needs. Default 32.
   */
  outputStride?: 32 | 16 | 8;
}

export class ResNet extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly maxpool: MaxPool2d | Identity;
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
    const { stem = 'imagenet', width = 1, outputStride = 32 } = options;
    if (stem === 'cifar' && outputStride !== 32) {
      throw new ArgumentError({ what: "outputStride is for the stem 'imagenet', not for 'cifar'" });
    }
    const channels = (planes: number): number => Math.max(1, Math.round(planes * width));
    let inPlanes = channels(64);
    let stride = 4;
    let dilation = 1;
    const stage = (basePlanes: number, count: number, firstStride: number): Sequential => {
      const planes = channels(basePlanes);
      const outPlanes = planes * block.expansion;
      const dilate = stride * firstStride > outputStride;
      const blockStride = dilate ? 1 : firstStride;
      const previous = dilation;
      if (dilate) dilation *= firstStride;
      else stride *= firstStride;
      const shared = { planes, groups, baseWidth: widthPerGroup };
      const downsample =
        blockStride !== 1 || inPlanes !== outPlanes
          ? new Sequential(conv1x1(inPlanes, outPlanes, blockStride), new BatchNorm2d(outPlanes))
          : null;
      const first = { inPlanes, stride: blockStride, downsample, dilation: [previous, dilation] as const };
      const rest = {
        inPlanes: outPlanes,
        stride: 1,
        downsample: null,
        dilation: [dilation, dilation] as const,
      };
      inPlanes = outPlanes;
      return new Sequential(
        ...Array.from({ length: count }, (_, i) => new block({ ...shared, ...(i === 0 ? first : rest) })),
      );
    };
    this.conv1 =
      stem === 'cifar'
        ? new Conv2d(inChannels, inPlanes, 3, { padding: 1, bias: false })
        : new Conv2d(inChannels, inPlanes, 7, { stride: 2, padding: 3, bias: false });
    this.bn1 = new BatchNorm2d(inPlanes);
    this.relu = new ReLU();
    this.maxpool = stem === 'cifar' ? new Identity() : new MaxPool2d(3, { stride: 2, padding: 1 });
    this.layer1 = stage(64, blocks[0], 1);
    this.layer2 = stage(128, blocks[1], 2);
    this.layer3 = stage(256, blocks[2], 2);
    this.layer4 = stage(512, blocks[3], 2);
    this.avgpool = new AdaptiveAvgPool2d([1, 1]);
    this.fc = new Linear(inPlanes, numClasses);
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
export const resnext101_32x8d = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 23, 3], { ...options, groups: 32, widthPerGroup: 8 });
export const resnext101_64x4d = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 23, 3], { ...options, groups: 64, widthPerGroup: 4 });
export const wide_resnet50_2 = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 6, 3], { ...options, widthPerGroup: 128 });
export const wide_resnet101_2 = (options?: ResNetOptions): ResNet =>
  new ResNet(Bottleneck, [3, 4, 23, 3], { ...options, widthPerGroup: 128 });

type Constructor = (options?: ResNetOptions) => ResNet;
const forCifar =
  (create: Constructor): Constructor =>
  (options) =>
    create({ numClasses: 10, stem: 'cifar', ...options });
export const resnet18_cifar = forCifar(resnet18);
export const resnet34_cifar = forCifar(resnet34);
export const resnet50_cifar = forCifar(resnet50);
export const resnet101_cifar = forCifar(resnet101);
export const resnet152_cifar = forCifar(resnet152);

const forAll: Record<string, OptionSpec> = {
  zeroInitResidual: {
    type: 'boolean',
    default: false,
    description: 'Start the last batch norm of each block at zero (Goyal et al. 2017).',
  },
  width: { type: 'number', default: 1, min: 0.01, description: 'Factor on the channels of every layer.' },
};
const options: Record<string, OptionSpec> = {
  ...forAll,
  stem: {
    type: 'choice',
    default: 'imagenet',
    choices: ['imagenet', 'cifar'],
    description: 'imagenet: 7×7/2 and a max-pool; cifar: 3×3 without pooling, for small images.',
  },
  outputStride: {
    type: 'choice',
    default: 32,
    choices: [32, 16, 8],
    description: 'Image pixels per pixel of the last stage; below 32 dilation replaces strides.',
  },
};

export const resnets = [
  ...imagenet(
    { paper: 'He et al. 2015, arXiv:1512.03385', options },
    { resnet18, resnet34, resnet50, resnet101, resnet152 },
  ),
  ...imagenet(
    { paper: 'Xie et al. 2016, arXiv:1611.05431', options },
    { resnext50_32x4d, resnext101_32x8d, resnext101_64x4d },
  ),
  ...imagenet(
    { paper: 'Zagoruyko & Komodakis 2016, arXiv:1605.07146', options },
    { wide_resnet50_2, wide_resnet101_2 },
  ),
  ...cifar(
    { paper: 'He et al. 2015, arXiv:1512.03385; 3×3 stem for small images', options: forAll },
    { resnet18_cifar, resnet34_cifar, resnet50_cifar, resnet101_cifar, resnet152_cifar },
  ),
];
