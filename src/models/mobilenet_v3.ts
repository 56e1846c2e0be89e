/**
 * Searching for MobileNetV3, Howard et al. 2019 (arXiv:1905.02244), tables 1 and 2. Names and order of the state dict
 * are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Dropout,
  Hardsigmoid,
  Hardswish,
  init,
  Linear,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import {
  dropoutOption,
  imagenet,
  outputStrideOption,
  widthOption,
  type ModelOptions,
  type OptionSpec,
} from './architecture.js';
import { Conv2dNormActivation, initConvolutions, makeDivisible, SqueezeExcitation } from './blocks.js';

/** Input channels, kernel, expanded channels, output channels, squeeze-and-excite, nonlinearity, stride. */
type Row = readonly [number, number, number, number, boolean, 'RE' | 'HS', number];

interface Table {
  rows: readonly Row[];
  /** Rows from here on are halved by `reducedTail` and dilated at output stride 16. */
  tail: number;
  lastChannels: number;
}

/** Table 1. */
const large: Table = {
  rows: [
    [16, 3, 16, 16, false, 'RE', 1],
    [16, 3, 64, 24, false, 'RE', 2],
    [24, 3, 72, 24, false, 'RE', 1],
    [24, 5, 72, 40, true, 'RE', 2],
    [40, 5, 120, 40, true, 'RE', 1],
    [40, 5, 120, 40, true, 'RE', 1],
    [40, 3, 240, 80, false, 'HS', 2],
    [80, 3, 200, 80, false, 'HS', 1],
    [80, 3, 184, 80, false, 'HS', 1],
    [80, 3, 184, 80, false, 'HS', 1],
    [80, 3, 480, 112, true, 'HS', 1],
    [112, 3, 672, 112, true, 'HS', 1],
    [112, 5, 672, 160, true, 'HS', 2],
    [160, 5, 960, 160, true, 'HS', 1],
    [160, 5, 960, 160, true, 'HS', 1],
  ],
  tail: 12,
  lastChannels: 1280,
};

/** Table 2. */
const small: Table = {
  rows: [
    [16, 3, 16, 16, true, 'RE', 2],
    [16, 3, 72, 24, false, 'RE', 2],
    [24, 3, 88, 24, false, 'RE', 1],
    [24, 5, 96, 40, true, 'HS', 2],
    [40, 5, 240, 40, true, 'HS', 1],
    [40, 5, 240, 40, true, 'HS', 1],
    [40, 5, 120, 48, true, 'HS', 1],
    [48, 5, 144, 48, true, 'HS', 1],
    [48, 5, 288, 96, true, 'HS', 2],
    [96, 5, 576, 96, true, 'HS', 1],
    [96, 5, 576, 96, true, 'HS', 1],
  ],
  tail: 8,
  lastChannels: 1024,
};

const norm = (channels: number): BatchNorm2d => new BatchNorm2d(channels, { eps: 0.001, momentum: 0.01 });

interface BlockOptions {
  inChannels: number;
  kernelSize: number;
  expanded: number;
  outChannels: number;
  squeeze: boolean;
  activation: typeof ReLU | typeof Hardswish;
  stride: number;
  dilation: number;
}

/** MobileNetV2's block with squeeze-and-excite on the wide part: figure 4. */
export class InvertedResidual extends Module {
  readonly block: Sequential;
  readonly outChannels: number;
  /** The table gives it a stride; where it is dilated instead, it still begins a stage. */
  readonly beginsStage: boolean;
  private readonly shortcut: boolean;

  constructor(options: BlockOptions) {
    super();
    const { inChannels, kernelSize, expanded, outChannels, squeeze, activation, dilation } = options;
    const stride = dilation > 1 ? 1 : options.stride;
    const layers: Module[] = [];
    if (expanded !== inChannels) {
      layers.push(new Conv2dNormActivation(inChannels, expanded, { kernelSize: 1, norm, activation }));
    }
    layers.push(
      new Conv2dNormActivation(expanded, expanded, {
        kernelSize,
        stride,
        dilation,
        groups: expanded,
        norm,
        activation,
      }),
    );
    if (squeeze) {
      const squeezed = makeDivisible(Math.floor(expanded / 4), 8);
      layers.push(new SqueezeExcitation(expanded, squeezed, { scaleActivation: Hardsigmoid }));
    }
    layers.push(new Conv2dNormActivation(expanded, outChannels, { kernelSize: 1, norm, activation: null }));
    this.block = new Sequential(...layers);
    this.outChannels = outChannels;
    this.beginsStage = options.stride > 1;
    this.shortcut = options.stride === 1 && inChannels === outChannels;
  }

  forward(x: Tensor): Tensor {
    const out = this.block.forward(x);
    return this.shortcut ? out.add(x) : out;
  }
}

export interface MobileNetV3Options extends ModelOptions {
  /** Factor of all numbers of channels, rounded to multiples of 8. Default 1. */
  width?: number;
  /** Before the classifier. Default 0.2. */
  dropout?: number;
  /** Factor between the sizes of image and features: at 16 the last stage is dilated instead of strided. Default 32. */
  outputStride?: 16 | 32;
  /** Halve the channels of the last stage, as for segmentation in section 6.4. Default false. */
  reducedTail?: boolean;
}

export class MobileNetV3 extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor({ rows, tail, lastChannels }: Table, options: MobileNetV3Options = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, width = 1, dropout = 0.2 } = options;
    const { outputStride = 32, reducedTail = false } = options;
    const divider = reducedTail ? 2 : 1;
    const scale = (channels: number, halved = false): number =>
      makeDivisible(Math.floor(channels / (halved ? divider : 1)) * width, 8);
    const stem = { stride: 2, norm, activation: Hardswish };
    const features: Module[] = [new Conv2dNormActivation(inChannels, scale(rows[0]![0]), stem)];
    for (const [i, [input, kernelSize, expanded, output, squeeze, nonlinearity, stride]] of rows.entries()) {
      const block = new InvertedResidual({
        inChannels: scale(input, i > tail),
        kernelSize,
        expanded: scale(expanded, i > tail),
        outChannels: scale(output, i >= tail),
        squeeze,
        activation: nonlinearity === 'HS' ? Hardswish : ReLU,
        stride,
        dilation: i >= tail && outputStride === 16 ? 2 : 1,
      });
      features.push(block);
    }
    const tailChannels = scale(rows.at(-1)![3], true);
    const head = { kernelSize: 1, norm, activation: Hardswish };
    features.push(new Conv2dNormActivation(tailChannels, 6 * tailChannels, head));
    this.features = new Sequential(...features);
    this.avgpool = new AdaptiveAvgPool2d(1);
    const hidden = new Linear(6 * tailChannels, scale(lastChannels, true));
    const linear = new Linear(hidden.outFeatures, numClasses);
    this.classifier = new Sequential(hidden, new Hardswish(), new Dropout(dropout), linear);
    initConvolutions(this);
    for (const { weight, bias } of [hidden, linear]) {
      init.normal(weight, 0, 0.01);
      init.zeros(bias!);
    }
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(image)).flatten(1));
  }
}

export const mobilenet_v3_large = (options?: MobileNetV3Options): MobileNetV3 =>
  new MobileNetV3(large, options);
export const mobilenet_v3_small = (options?: MobileNetV3Options): MobileNetV3 =>
  new MobileNetV3(small, options);

const reducedTail: OptionSpec = {
  type: 'boolean',
  default: false,
  description: 'Halve the channels of the last stage.',
};

export const mobilenetV3s = imagenet(
  {
    paper: 'Howard et al. 2019, arXiv:1905.02244',
    options: { ...widthOption, ...dropoutOption(0.2), ...outputStrideOption(32, 16), reducedTail },
  },
  { mobilenet_v3_small, mobilenet_v3_large },
);
