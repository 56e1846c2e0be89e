/**
 * MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, Howard et al. 2017
 * (arXiv:1704.04861), table 1. Names and order of the state dict are those of biubug6/Pytorch_Retinaface, whose
 * width 0.25 (with leaky ReLU) is the body of the face detectors; initial values are torch's defaults, as there.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  LeakyReLU,
  Linear,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { imagenet, widthOption, type ModelOptions, type OptionSpec } from './architecture.js';
import { makeDivisible } from './blocks.js';

export interface MobileNetV1Options extends ModelOptions {
  /** Factor on all numbers of channels, rounded to multiples of 8. Default 1. */
  width?: number;
  /** Slope of the activations below zero; 0 is ReLU. Default 0; 0.1 for mobilenetv1_025. */
  negativeSlope?: number;
}

const activation = (slope: number): Module => (slope === 0 ? new ReLU() : new LeakyReLU(slope));

/** A full convolution. */
function convBn(inChannels: number, outChannels: number, stride: number, slope: number): Sequential {
  return new Sequential(
    new Conv2d(inChannels, outChannels, 3, { stride, padding: 1, bias: false }),
    new BatchNorm2d(outChannels),
    activation(slope),
  );
}

/** Depthwise, then pointwise: figure 3, right. */
function convDw(inChannels: number, outChannels: number, stride: number, slope: number): Sequential {
  return new Sequential(
    new Conv2d(inChannels, inChannels, 3, { stride, padding: 1, groups: inChannels, bias: false }),
    new BatchNorm2d(inChannels),
    activation(slope),
    new Conv2d(inChannels, outChannels, 1, { bias: false }),
    new BatchNorm2d(outChannels),
    activation(slope),
  );
}

/** Channels and strides of the separable convolutions, by stage: table 1. */
// prettier-ignore
const table = [
  [[64, 1], [128, 2], [128, 1], [256, 2], [256, 1]],
  [[512, 2], [512, 1], [512, 1], [512, 1], [512, 1], [512, 1]],
  [[1024, 2], [1024, 1]],
] as const;

/** The stages up to strides 8, 16 and 32, and the channels of each result. */
function stages(options: MobileNetV1Options): { stages: Sequential[]; channels: number[] } {
  const { inChannels = 3, width = 1, negativeSlope = 0 } = options;
  const scaled = (channels: number): number => makeDivisible(channels * width, 8);
  let previous = scaled(32);
  const result: { stages: Sequential[]; channels: number[] } = { stages: [], channels: [] };
  for (const [i, rows] of table.entries()) {
    const layers = i === 0 ? [convBn(inChannels, previous, 2, negativeSlope)] : [];
    for (const [channels, stride] of rows) {
      layers.push(convDw(previous, scaled(channels), stride, negativeSlope));
      previous = scaled(channels);
    }
    result.stages.push(new Sequential(...layers));
    result.channels.push(previous);
  }
  return result;
}

/** Without the classifier, for detectors: [N, 3, H, W] → the results of the three stages, at strides 8, 16, 32. */
export class MobileNetV1Body extends Module {
  readonly stage1: Sequential;
  readonly stage2: Sequential;
  readonly stage3: Sequential;
  /** Channels of the three results. */
  readonly channels: readonly number[];

  constructor(options: MobileNetV1Options = {}) {
    super();
    const made = stages(options);
    [this.stage1, this.stage2, this.stage3] = made.stages as [Sequential, Sequential, Sequential];
    this.channels = made.channels;
  }

  forward(image: Tensor): [Tensor, Tensor, Tensor] {
    const first = this.stage1.forward(image);
    const second = this.stage2.forward(first);
    return [first, second, this.stage3.forward(second)];
  }
}

export class MobileNetV1 extends Module {
  readonly stage1: Sequential;
  readonly stage2: Sequential;
  readonly stage3: Sequential;
  readonly avg: AdaptiveAvgPool2d;
  readonly fc: Linear;

  constructor(options: MobileNetV1Options = {}) {
    super();
    const made = stages(options);
    [this.stage1, this.stage2, this.stage3] = made.stages as [Sequential, Sequential, Sequential];
    this.avg = new AdaptiveAvgPool2d(1);
    this.fc = new Linear(made.channels[2]!, options.numClasses ?? 1000);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    const x = this.stage3.forward(this.stage2.forward(this.stage1.forward(image)));
    return this.fc.forward(this.avg.forward(x).flatten(1));
  }
}

/** The options of the face detectors' body: width 0.25 and leaky ReLU. */
export const faceBody = { width: 0.25, negativeSlope: 0.1 } as const;

export const mobilenetv1 = (options?: MobileNetV1Options): MobileNetV1 => new MobileNetV1(options);
export const mobilenetv1_025 = (options?: MobileNetV1Options): MobileNetV1 =>
  new MobileNetV1({ ...faceBody, ...options });

const negativeSlope = (value: number): { negativeSlope: OptionSpec } => ({
  negativeSlope: {
    type: 'number',
    default: value,
    min: 0,
    description: 'Slope of the activations below zero; 0 is ReLU.',
  },
});
const paper = 'Howard et al. 2017, arXiv:1704.04861';

export const mobilenetV1s = [
  ...imagenet({ paper, options: { ...widthOption, ...negativeSlope(0) } }, { mobilenetv1 }),
  ...imagenet(
    {
      paper: `${paper}; as in Deng et al. 2019, arXiv:1905.00641 (RetinaFace)`,
      options: {
        width: { ...widthOption.width, default: 0.25 } as OptionSpec,
        ...negativeSlope(faceBody.negativeSlope),
      },
    },
    { mobilenetv1_025 },
  ),
];
