/**
 * One weird trick for parallelizing convolutional neural networks, Krizhevsky 2014 (arXiv:1404.5997): AlexNet without
 * its two halves. Names and order of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  Conv2d,
  Dropout,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';

export interface AlexNetOptions extends ModelOptions {
  /** Before each of the two hidden layers of the classifier. Default 0.5. */
  dropout?: number;
}

export class AlexNet extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor({ numClasses = 1000, inChannels = 3, dropout = 0.5 }: AlexNetOptions = {}) {
    super();
    this.features = new Sequential(
      new Conv2d(inChannels, 64, 11, { stride: 4, padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(64, 192, 5, { padding: 2 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
      new Conv2d(192, 384, 3, { padding: 1 }),
      new ReLU(),
      new Conv2d(384, 256, 3, { padding: 1 }),
      new ReLU(),
      new Conv2d(256, 256, 3, { padding: 1 }),
      new ReLU(),
      new MaxPool2d(3, { stride: 2 }),
    );
    this.avgpool = new AdaptiveAvgPool2d(6);
    this.classifier = new Sequential(
      new Dropout(dropout),
      new Linear(256 * 6 * 6, 4096),
      new ReLU(),
      new Dropout(dropout),
      new Linear(4096, 4096),
      new ReLU(),
      new Linear(4096, numClasses),
    );
  }

  /** [N, 3, H, W], from 63 pixels on → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(image)).flatten(1));
  }
}

export const alexnet = (options?: AlexNetOptions): AlexNet => new AlexNet(options);

export const alexnets = imagenet(
  { paper: 'Krizhevsky 2014, arXiv:1404.5997', options: dropoutOption(0.5) },
  { alexnet },
);
