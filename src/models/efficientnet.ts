/**
 * EfficientNet: Rethinking Model Scaling, Tan & Le 2019 (arXiv:1905.11946), table 1, and EfficientNetV2, Tan & Le 2021
 * (arXiv:2104.00298), table 4. Names and order of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  type BatchNormOptions,
  Dropout,
  init,
  Linear,
  Module,
  Sequential,
  SiLU,
  StochasticDepth,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, stochasticDepthOption, type ModelOptions } from './architecture.js';
import {
  Conv2dNormActivation,
  initConvolutions,
  makeDivisible,
  type NormLayer,
  SqueezeExcitation,
} from './blocks.js';

/** Block, expansion, kernel, stride of the first block, input channels, output channels, blocks. */
type Stage = readonly ['MB' | 'Fused', number, number, 1 | 2, number, number, number];

/** EfficientNet, table 1. */
const b0: readonly Stage[] = [
  ['MB', 1, 3, 1, 32, 16, 1],
  ['MB', 6, 3, 2, 16, 24, 2],
  ['MB', 6, 5, 2, 24, 40, 2],
  ['MB', 6, 3, 2, 40, 80, 3],
  ['MB', 6, 5, 1, 80, 112, 3],
  ['MB', 6, 5, 2, 112, 192, 4],
  ['MB', 6, 3, 1, 192, 320, 1],
];

/** EfficientNetV2, table 4. */
const s: readonly Stage[] = [
  ['Fused', 1, 3, 1, 24, 24, 2],
  ['Fused', 4, 3, 2, 24, 48, 4],
  ['Fused', 4, 3, 2, 48, 64, 4],
  ['MB', 4, 3, 2, 64, 128, 6],
  ['MB', 6, 3, 1, 128, 160, 9],
  ['MB', 6, 3, 2, 160, 256, 15],
];

const m: readonly Stage[] = [
  ['Fused', 1, 3, 1, 24, 24, 3],
  ['Fused', 4, 3, 2, 24, 48, 5],
  ['Fused', 4, 3, 2, 48, 80, 5],
  ['MB', 4, 3, 2, 80, 160, 7],
  ['MB', 6, 3, 1, 160, 176, 14],
  ['MB', 6, 3, 2, 176, 304, 18],
  ['MB', 6, 3, 1, 304, 512, 5],
];

const l: readonly Stage[] = [
  ['Fused', 1, 3, 1, 32, 32, 4],
  ['Fused', 4, 3, 2, 32, 64, 7],
  ['Fused', 4, 3, 2, 64, 96, 7],
  ['MB', 4, 3, 2, 96, 192, 10],
  ['MB', 6, 3, 1, 192, 224, 19],
  ['MB', 6, 3, 2, 224, 384, 25],
  ['MB', 6, 3, 1, 384, 640, 7],
];

/** Compound scaling: more channels, rounded to multiples of 8, and more blocks, rounded up. */
function scaled(width: number, depth: number): Stage[] {
  return b0.map(([block, expansion, kernel, stride, input, output, blocks]) => [
    block,
    expansion,
    kernel,
    stride,
    makeDivisible(input * width, 8),
    makeDivisible(output * width, 8),
    Math.ceil(blocks * depth),
  ]);
}

interface BlockOptions {
  inChannels: number;
  outChannels: number;
  expansion: number;
  kernelSize: number;
  stride: number;
  stochasticDepth: number;
  norm: NormLayer;
}

/** Mobile inverted bottleneck with squeeze-and-excite on the wide part. */
function mbConv({ inChannels, outChannels, expansion, kernelSize, stride, norm }: BlockOptions): Sequential {
  const activation = SiLU;
  const expanded = makeDivisible(inChannels * expansion, 8);
  const layers: Module[] = [];
  if (expanded !== inChannels) {
    layers.push(new Conv2dNormActivation(inChannels, expanded, { kernelSize: 1, norm, activation }));
  }
  const depthwise = { kernelSize, stride, groups: expanded, norm, activation };
  // The squeeze is relative to the narrow end.
  const squeezed = Math.max(1, Math.floor(inChannels / 4));
  layers.push(
    new Conv2dNormActivation(expanded, expanded, depthwise),
    new SqueezeExcitation(expanded, squeezed, { activation }),
    new Conv2dNormActivation(expanded, outChannels, { kernelSize: 1, norm, activation: null }),
  );
  return new Sequential(...layers);
}

/** One full convolution in place of expansion and depthwise, no squeeze-and-excite: EfficientNetV2, figure 2. */
function fusedMbConv(options: BlockOptions): Sequential {
  const { inChannels, outChannels, expansion, kernelSize, stride, norm } = options;
  const activation = SiLU;
  const expanded = makeDivisible(inChannels * expansion, 8);
  const fused = { kernelSize, stride, norm, activation };
  if (expanded === inChannels) {
    return new Sequential(new Conv2dNormActivation(inChannels, outChannels, fused));
  }
  return new Sequential(
    new Conv2dNormActivation(inChannels, expanded, fused),
    new Conv2dNormActivation(expanded, outChannels, { kernelSize: 1, norm, activation: null }),
  );
}

/** A block, and the shortcut around it where the shape stays. */
class Residual extends Module {
  readonly block: Sequential;
  readonly stochastic_depth: StochasticDepth;
  private readonly shortcut: boolean;

  constructor(block: Sequential, options: BlockOptions) {
    super();
    this.block = block;
    this.stochastic_depth = new StochasticDepth(options.stochasticDepth, 'row');
    this.shortcut = options.stride === 1 && options.inChannels === options.outChannels;
  }

  forward(x: Tensor): Tensor {
    const out = this.block.forward(x);
    return this.shortcut ? this.stochastic_depth.forward(out).add(x) : out;
  }
}

export interface EfficientNetOptions extends ModelOptions {
  /** Before the classifier. Default: as published, between 0.2 (b0) and 0.5 (b7). */
  dropout?: number;
  /** Probability that the last block's branch is dropped; grows linearly from 0 over the blocks. Default 0.2. */
  stochasticDepth?: number;
}

interface Variant {
  stages: readonly Stage[];
  /** Default: four times those of the last stage. */
  lastChannels?: number;
  dropout: number;
  resolution: number;
  batchNorm?: BatchNormOptions;
}

export class EfficientNet extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor({ stages, lastChannels, batchNorm, ...published }: Variant, options: EfficientNetOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3 } = options;
    const { dropout = published.dropout, stochasticDepth = 0.2 } = options;
    const norm = (channels: number): Module => new BatchNorm2d(channels, batchNorm);
    const activation = SiLU;
    const stem = stages[0]![4];
    const features: Module[] = [new Conv2dNormActivation(inChannels, stem, { stride: 2, norm, activation })];
    const total = stages.reduce((sum, stage) => sum + stage[6], 0);
    let index = 0;
    for (const [kind, expansion, kernelSize, stride, input, outChannels, blocks] of stages) {
      const stage = Array.from({ length: blocks }, (_, i) => {
        const block: BlockOptions = {
          inChannels: i === 0 ? input : outChannels,
          outChannels,
          expansion,
          kernelSize,
          stride: i === 0 ? stride : 1,
          stochasticDepth: (stochasticDepth * index++) / total,
          norm,
        };
        return new Residual(kind === 'MB' ? mbConv(block) : fusedMbConv(block), block);
      });
      features.push(new Sequential(...stage));
    }
    const channels = stages.at(-1)![5];
    const last = lastChannels ?? 4 * channels;
    features.push(new Conv2dNormActivation(channels, last, { kernelSize: 1, norm, activation }));
    this.features = new Sequential(...features);
    this.avgpool = new AdaptiveAvgPool2d(1);
    const linear = new Linear(last, numClasses);
    this.classifier = new Sequential(new Dropout(dropout), linear);
    initConvolutions(this);
    const range = 1 / Math.sqrt(numClasses);
    init.uniform(linear.weight, -range, range);
    init.zeros(linear.bias!);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(image)).flatten(1));
  }
}

// As published: the larger ones were ported from TensorFlow with its batch norm.
const tensorflow = { eps: 0.001, momentum: 0.01 };
const v2 = { lastChannels: 1280, batchNorm: { eps: 0.001 } };
const variants = {
  efficientnet_b0: { stages: scaled(1.0, 1.0), dropout: 0.2, resolution: 224 },
  efficientnet_b1: { stages: scaled(1.0, 1.1), dropout: 0.2, resolution: 240 },
  efficientnet_b2: { stages: scaled(1.1, 1.2), dropout: 0.3, resolution: 288 },
  efficientnet_b3: { stages: scaled(1.2, 1.4), dropout: 0.3, resolution: 300 },
  efficientnet_b4: { stages: scaled(1.4, 1.8), dropout: 0.4, resolution: 380 },
  efficientnet_b5: { stages: scaled(1.6, 2.2), dropout: 0.4, resolution: 456, batchNorm: tensorflow },
  efficientnet_b6: { stages: scaled(1.8, 2.6), dropout: 0.5, resolution: 528, batchNorm: tensorflow },
  efficientnet_b7: { stages: scaled(2.0, 3.1), dropout: 0.5, resolution: 600, batchNorm: tensorflow },
  efficientnet_v2_s: { stages: s, dropout: 0.2, resolution: 384, ...v2 },
  efficientnet_v2_m: { stages: m, dropout: 0.3, resolution: 480, ...v2 },
  efficientnet_v2_l: { stages: l, dropout: 0.4, resolution: 480, ...v2 },
} satisfies Record<string, Variant>;

const constructorOf =
  (name: keyof typeof variants) =>
  (options?: EfficientNetOptions): EfficientNet =>
    new EfficientNet(variants[name], options);

export const efficientnet_b0 = constructorOf('efficientnet_b0');
export const efficientnet_b1 = constructorOf('efficientnet_b1');
export const efficientnet_b2 = constructorOf('efficientnet_b2');
export const efficientnet_b3 = constructorOf('efficientnet_b3');
export const efficientnet_b4 = constructorOf('efficientnet_b4');
export const efficientnet_b5 = constructorOf('efficientnet_b5');
export const efficientnet_b6 = constructorOf('efficientnet_b6');
export const efficientnet_b7 = constructorOf('efficientnet_b7');
export const efficientnet_v2_s = constructorOf('efficientnet_v2_s');
export const efficientnet_v2_m = constructorOf('efficientnet_v2_m');
export const efficientnet_v2_l = constructorOf('efficientnet_v2_l');

export const efficientnets = (Object.keys(variants) as (keyof typeof variants)[]).flatMap((name) => {
  const { dropout, resolution: defaultResolution } = variants[name];
  const paper = name.includes('v2') ? 'Tan & Le 2021, arXiv:2104.00298' : 'Tan & Le 2019, arXiv:1905.11946';
  const options = { ...dropoutOption(dropout), ...stochasticDepthOption(0.2) };
  return imagenet({ paper, defaultResolution, options }, { [name]: constructorOf(name) });
});
