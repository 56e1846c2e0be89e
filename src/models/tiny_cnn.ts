/** Two convolutions and a classifier: small enough to train in seconds, for tests and first steps. */
import { BatchNorm2d, Conv2d, Dropout, functional as F, Linear, Module, type Tensor } from '../nn/index.js';
import { cifar, dropoutOption, type ModelOptions } from './architecture.js';

export interface TinyCnnOptions extends ModelOptions {
  /** Between the two convolutions. Default 0. */
  dropout?: number;
}

export class TinyCnn extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly dropout: Dropout;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly fc: Linear;

  constructor({ numClasses = 10, inChannels = 3, dropout = 0 }: TinyCnnOptions = {}) {
    super();
    this.conv1 = new Conv2d(inChannels, 16, 3, { padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(16);
    this.dropout = new Dropout(dropout);
    this.conv2 = new Conv2d(16, 32, 3, { stride: 2, padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(32);
    this.fc = new Linear(32, numClasses);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    let x = this.dropout.forward(F.relu(this.bn1.forward(this.conv1.forward(image))));
    x = F.relu(this.bn2.forward(this.conv2.forward(x)));
    return this.fc.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

export const tiny_cnn = (options?: TinyCnnOptions): TinyCnn => new TinyCnn(options);

export const tinyCnns = cifar({ paper: 'none: a teaching model', options: dropoutOption(0) }, { tiny_cnn });
