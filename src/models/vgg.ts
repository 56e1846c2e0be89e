/**
 * Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan & Zisserman 2014 (arXiv:1409.1556),
 * table 1: configurations A, B, D and E, also with batch norm. Names and order of the state dict are torchvision's.
 * The CIFAR variants, with a classifier of width 512 and no pooling before it, are those of
 * chenyaofo/pytorch-cifar-models.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  functional as F,
  init,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { cifar, dropoutOption, imagenet, type ModelOptions } from './architecture.js';

export interface VGGOptions extends ModelOptions {
  /** After each of the two hidden layers of the classifier. Default 0.5. */
  dropout?: number;
}

/** Convolutions with 64, 128, 256, 512 and 512 channels in the five stages: table 1. */
const configurations = {
  A: [1, 1, 2, 2, 2],
  B: [2, 2, 2, 2, 2],
  D: [2, 2, 3, 3, 3],
  E: [2, 2, 4, 4, 4],
} as const;
type Configuration = keyof typeof configurations;

function makeFeatures(configuration: Configuration, batchNorm: boolean, inChannels: number): Sequential {
  const layers: Module[] = [];
  let previous = inChannels;
  for (const [stage, convolutions] of configurations[configuration].entries()) {
    const channels = Math.min(64 * 2 ** stage, 512);
    for (let i = 0; i < convolutions; i++) {
      layers.push(new Conv2d(previous, channels, 3, { padding: 1 }));
      if (batchNorm) layers.push(new BatchNorm2d(channels));
      layers.push(new ReLU());
      previous = channels;
    }
    layers.push(new MaxPool2d(2, { stride: 2 }));
  }
  return new Sequential(...layers);
}

function makeClassifier(inFeatures: number, width: number, numClasses: number, dropout: number): Sequential {
  return new Sequential(
    new Linear(inFeatures, width),
    new ReLU(),
    new Dropout(dropout),
    new Linear(width, width),
    new ReLU(),
    new Dropout(dropout),
    new Linear(width, numClasses),
  );
}

function initialize(model: Module): void {
  for (const module of model.modules()) {
    if (module instanceof Conv2d) {
      init.kaimingNormal(module.weight, { mode: 'fan_out', nonlinearity: 'relu' });
      init.zeros(module.bias!);
    } else if (module instanceof Linear) {
      init.normal(module.weight, 0, 0.01);
      init.zeros(module.bias!);
    }
  }
}

export class VGG extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor(configuration: Configuration, batchNorm: boolean, options: VGGOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0.5 } = options;
    this.features = makeFeatures(configuration, batchNorm, inChannels);
    this.avgpool = new AdaptiveAvgPool2d(7);
    this.classifier = makeClassifier(512 * 7 * 7, 4096, numClasses, dropout);
    initialize(this);
  }

  /** [N, 3, H, W], from 32 pixels on → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(image)).flatten(1));
  }
}

export class CifarVGG extends Module {
  readonly features: Sequential;
  readonly classifier: Sequential;

  constructor(configuration: Configuration, options: VGGOptions = {}) {
    super();
    const { numClasses = 10, inChannels = 3, dropout = 0.5 } = options;
    this.features = makeFeatures(configuration, true, inChannels);
    this.classifier = makeClassifier(512, 512, numClasses, dropout);
    initialize(this);
  }

  /** [N, 3, H, W] → logits [N, classes]. At 32² the average is over one pixel; the origin has none. */
  forward(image: Tensor): Tensor {
    const x = this.features.forward(image);
    return this.classifier.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

type Constructor = (options?: VGGOptions) => VGG;
const plain =
  (configuration: Configuration): Constructor =>
  (options) =>
    new VGG(configuration, false, options);
const normalized =
  (configuration: Configuration): Constructor =>
  (options) =>
    new VGG(configuration, true, options);
const small =
  (configuration: Configuration) =>
  (options?: VGGOptions): CifarVGG =>
    new CifarVGG(configuration, options);

export const vgg11 = plain('A');
export const vgg13 = plain('B');
export const vgg16 = plain('D');
export const vgg19 = plain('E');
export const vgg11_bn = normalized('A');
export const vgg13_bn = normalized('B');
export const vgg16_bn = normalized('D');
export const vgg19_bn = normalized('E');
export const vgg11_bn_cifar = small('A');
export const vgg13_bn_cifar = small('B');
export const vgg16_bn_cifar = small('D');
export const vgg19_bn_cifar = small('E');

const paper = 'Simonyan & Zisserman 2014, arXiv:1409.1556';

export const vggs = [
  ...imagenet(
    { paper, options: dropoutOption(0.5) },
    { vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn },
  ),
  ...cifar(
    { paper: `${paper}; small classifier for small images`, options: dropoutOption(0.5) },
    { vgg11_bn_cifar, vgg13_bn_cifar, vgg16_bn_cifar, vgg19_bn_cifar },
  ),
];
