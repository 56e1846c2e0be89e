/**
 * MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al. 2018 (arXiv:1801.04381), table 2. Names and
 * order of the state dict are torchvision's.
 */
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  functional as F,
  init,
  Linear,
  Module,
  ReLU6,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, widthOption, type ModelOptions } from './architecture.js';
import { Conv2dNormActivation, initConvolutions, makeDivisible } from './blocks.js';

/** Table 2: expansion t, channels c, blocks n, stride s of the first block. */
const table = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

/** Wide inside, narrow and linear at the ends; the shortcut joins the narrow ends: figure 4d. */
export class InvertedResidual extends Module {
  readonly conv: Sequential;
  private readonly shortcut: boolean;

  constructor(inChannels: number, outChannels: number, stride: number, expansion: number) {
    super();
    const hidden = inChannels * expansion;
    const activation = ReLU6;
    const layers: Module[] = [];
    if (expansion !== 1) {
      layers.push(new Conv2dNormActivation(inChannels, hidden, { kernelSize: 1, activation }));
    }
    layers.push(
      new Conv2dNormActivation(hidden, hidden, { stride, groups: hidden, activation }),
      new Conv2d(hidden, outChannels, 1, { bias: false }),
      new BatchNorm2d(outChannels),
    );
    this.conv = new Sequential(...layers);
    this.shortcut = stride === 1 && inChannels === outChannels;
  }

  forward(x: Tensor): Tensor {
    const out = this.conv.forward(x);
    return this.shortcut ? x.add(out) : out;
  }
}

export interface MobileNetV2Options extends ModelOptions {
  /** Factor of all numbers of channels, rounded to multiples of 8. Default 1. */
  width?: number;
  /** Before the classifier. Default 0.2. */
  dropout?: number;
}

export class MobileNetV2 extends Module {
  readonly features: Sequential;
  readonly classifier: Sequential;

  constructor({ numClasses = 1000, inChannels = 3, width = 1, dropout = 0.2 }: MobileNetV2Options = {}) {
    super();
    const activation = ReLU6;
    let channels = makeDivisible(32 * width, 8);
    const features: Module[] = [new Conv2dNormActivation(inChannels, channels, { stride: 2, activation })];
    for (const [t, c, n, s] of table) {
      const outChannels = makeDivisible(c * width, 8);
      for (let i = 0; i < n; i++) {
        features.push(new InvertedResidual(channels, outChannels, i === 0 ? s : 1, t));
        channels = outChannels;
      }
    }
    // The last layer is not made narrower: section 4, "Trade-off hyper parameters".
    const last = makeDivisible(1280 * Math.max(1, width), 8);
    features.push(new Conv2dNormActivation(channels, last, { kernelSize: 1, activation }));
    this.features = new Sequential(...features);
    const linear = new Linear(last, numClasses);
    this.classifier = new Sequential(new Dropout(dropout), linear);
    initConvolutions(this);
    init.normal(linear.weight, 0, 0.01);
    init.zeros(linear.bias!);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    const x = this.features.forward(image);
    return this.classifier.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

export const mobilenet_v2 = (options?: MobileNetV2Options): MobileNetV2 => new MobileNetV2(options);

export const mobilenetV2s = imagenet(
  { paper: 'Sandler et al. 2018, arXiv:1801.04381', options: { ...widthOption, ...dropoutOption(0.2) } },
  { mobilenet_v2 },
);
