/**
 * Densely Connected Convolutional Networks, Huang et al. 2016 (arXiv:1608.06993), table 1 (DenseNet-BC). Names and
 * order of the state dict are torchvision's (`norm1`; files of the original release say `norm.1`).
 */
import {
  AvgPool2d,
  BatchNorm2d,
  cat,
  Conv2d,
  functional as F,
  init,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';

/** The 1×1 convolution before each 3×3 has this many times its channels: section 3, "Bottleneck layers". */
const bottleneck = 4;

class DenseLayer extends Module {
  readonly norm1: BatchNorm2d;
  readonly relu1: ReLU;
  readonly conv1: Conv2d;
  readonly norm2: BatchNorm2d;
  readonly relu2: ReLU;
  readonly conv2: Conv2d;
  private readonly dropout: number;

  constructor(inChannels: number, growthRate: number, dropout: number) {
    super();
    this.norm1 = new BatchNorm2d(inChannels);
    this.relu1 = new ReLU();
    this.conv1 = new Conv2d(inChannels, bottleneck * growthRate, 1, { bias: false });
    this.norm2 = new BatchNorm2d(bottleneck * growthRate);
    this.relu2 = new ReLU();
    this.conv2 = new Conv2d(bottleneck * growthRate, growthRate, 3, { padding: 1, bias: false });
    this.dropout = dropout;
  }

  /** `features`: the results of all layers before. */
  forward(features: readonly Tensor[]): Tensor {
    const x = this.conv1.forward(this.relu1.forward(this.norm1.forward(cat(features, 1))));
    return F.dropout(this.conv2.forward(this.relu2.forward(this.norm2.forward(x))), this.dropout);
  }
}

/** Each layer takes the results of all layers before it: equation 2. */
class DenseBlock extends Module {
  constructor(layers: number, inChannels: number, growthRate: number, dropout: number) {
    super();
    for (let i = 0; i < layers; i++) {
      this.register(`denselayer${i + 1}`, new DenseLayer(inChannels + i * growthRate, growthRate, dropout));
    }
  }

  forward(input: Tensor): Tensor {
    const features = [input];
    for (const [, layer] of this.namedChildren()) features.push((layer as DenseLayer).forward(features));
    return cat(features, 1);
  }
}

/** Halves channels and resolution between blocks. */
function transition(inChannels: number): Sequential {
  return new Sequential({
    norm: new BatchNorm2d(inChannels),
    relu: new ReLU(),
    conv: new Conv2d(inChannels, Math.floor(inChannels / 2), 1, { bias: false }),
    pool: new AvgPool2d(2, { stride: 2 }),
  });
}

export interface DenseNetOptions extends ModelOptions {
  /** Of every layer's result. Default 0. */
  dropout?: number;
}

export class DenseNet extends Module {
  readonly features: Sequential;
  readonly classifier: Linear;

  /** `growthRate` k: channels that each layer adds; `blocks`: layers in each; `stem`: channels before the first. */
  constructor(growthRate: number, blocks: readonly number[], stem: number, options: DenseNetOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0 } = options;
    this.features = new Sequential({
      conv0: new Conv2d(inChannels, stem, 7, { stride: 2, padding: 3, bias: false }),
      norm0: new BatchNorm2d(stem),
      relu0: new ReLU(),
      pool0: new MaxPool2d(3, { stride: 2, padding: 1 }),
    });
    let channels = stem;
    for (const [i, layers] of blocks.entries()) {
      this.features.register(`denseblock${i + 1}`, new DenseBlock(layers, channels, growthRate, dropout));
      channels += layers * growthRate;
      if (i === blocks.length - 1) break;
      this.features.register(`transition${i + 1}`, transition(channels));
      channels = Math.floor(channels / 2);
    }
    this.features.register('norm5', new BatchNorm2d(channels));
    this.classifier = new Linear(channels, numClasses);
    for (const module of this.modules()) if (module instanceof Conv2d) init.kaimingNormal(module.weight);
    init.zeros(this.classifier.bias!);
  }

  /** [N, 3, H, W], from 29 pixels on → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    const x = F.relu(this.features.forward(image));
    return this.classifier.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

const variant =
  (growthRate: number, blocks: readonly number[], stem: number) =>
  (options?: DenseNetOptions): DenseNet =>
    new DenseNet(growthRate, blocks, stem, options);
export const densenet121 = variant(32, [6, 12, 24, 16], 64);
export const densenet161 = variant(48, [6, 12, 36, 24], 96);
export const densenet169 = variant(32, [6, 12, 32, 32], 64);
export const densenet201 = variant(32, [6, 12, 48, 32], 64);

export const densenets = imagenet(
  {
    paper: 'Huang et al. 2016, arXiv:1608.06993',
    options: {
      dropout: {
        ...dropoutOption(0).dropout,
        description: "Probability of dropout of every layer's result.",
      },
    },
  },
  { densenet121, densenet161, densenet169, densenet201 },
);
