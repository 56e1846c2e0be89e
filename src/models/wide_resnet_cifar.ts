/**
 * Wide Residual Networks for 32×32 images, Zagoruyko & Komodakis 2016 (arXiv:1605.07146), table 1: `wrn_d_k` has d
 * layers and k times the channels of a thin network. Batch norm and ReLU stand before each convolution. Names and
 * order of the state dict are those of xternalz/WideResNet-pytorch.
 */
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  init,
  Linear,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { cifar, type ModelOptions, type OptionSpec } from './architecture.js';

class WideBlock extends Module {
  readonly bn1: BatchNorm2d;
  readonly relu1: ReLU;
  readonly conv1: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly relu2: ReLU;
  readonly conv2: Conv2d;
  readonly convShortcut: Conv2d | null;
  private readonly dropout: number;

  constructor(inPlanes: number, planes: number, stride: number, dropout: number) {
    super();
    this.bn1 = new BatchNorm2d(inPlanes);
    this.relu1 = new ReLU();
    this.conv1 = new Conv2d(inPlanes, planes, 3, { stride, padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(planes);
    this.relu2 = new ReLU();
    this.conv2 = new Conv2d(planes, planes, 3, { padding: 1, bias: false });
    this.convShortcut = inPlanes === planes ? null : new Conv2d(inPlanes, planes, 1, { stride, bias: false });
    this.dropout = dropout;
  }

  forward(x: Tensor): Tensor {
    const activated = this.relu1.forward(this.bn1.forward(x));
    let out = F.dropout(this.conv1.forward(activated), this.dropout);
    out = this.conv2.forward(this.relu2.forward(this.bn2.forward(out)));
    // A shortcut that changes the shape starts after the activation, the others before it.
    return (this.convShortcut?.forward(activated) ?? x).add(out);
  }
}

class NetworkBlock extends Module {
  readonly layer: Sequential;

  constructor(count: number, inPlanes: number, planes: number, stride: number, dropout: number) {
    super();
    const block = (_: unknown, i: number): WideBlock =>
      new WideBlock(i === 0 ? inPlanes : planes, planes, i === 0 ? stride : 1, dropout);
    this.layer = new Sequential(...Array.from({ length: count }, block));
  }

  forward(x: Tensor): Tensor {
    return this.layer.forward(x);
  }
}

export interface CifarWideResNetOptions extends ModelOptions {
  /** Between the two convolutions of each block; 0.3 in the paper's section 3.3. Default 0. */
  dropout?: number;
}

export class CifarWideResNet extends Module {
  readonly conv1: Conv2d;
  readonly block1: NetworkBlock;
  readonly block2: NetworkBlock;
  readonly block3: NetworkBlock;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU;
  readonly fc: Linear;

  /** `depth`: 6n + 4 layers; `width`: the factor k. */
  constructor(depth: number, width: number, options: CifarWideResNetOptions = {}) {
    super();
    const { numClasses = 10, inChannels = 3, dropout = 0 } = options;
    const count = (depth - 4) / 6;
    this.conv1 = new Conv2d(inChannels, 16, 3, { padding: 1, bias: false });
    this.block1 = new NetworkBlock(count, 16, 16 * width, 1, dropout);
    this.block2 = new NetworkBlock(count, 16 * width, 32 * width, 2, dropout);
    this.block3 = new NetworkBlock(count, 32 * width, 64 * width, 2, dropout);
    this.bn1 = new BatchNorm2d(64 * width);
    this.relu = new ReLU();
    this.fc = new Linear(64 * width, numClasses);
    for (const module of this.modules()) {
      if (module instanceof Conv2d) {
        init.kaimingNormal(module.weight, { mode: 'fan_out', nonlinearity: 'relu' });
      }
    }
    init.zeros(this.fc.bias!);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    let x = this.block1.forward(this.conv1.forward(image));
    x = this.block3.forward(this.block2.forward(x));
    x = this.relu.forward(this.bn1.forward(x));
    return this.fc.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

const variant =
  (depth: number, width: number) =>
  (options?: CifarWideResNetOptions): CifarWideResNet =>
    new CifarWideResNet(depth, width, options);
export const wrn_16_4 = variant(16, 4);
export const wrn_16_8 = variant(16, 8);
export const wrn_28_10 = variant(28, 10);
export const wrn_40_2 = variant(40, 2);
export const wrn_40_4 = variant(40, 4);

const dropout: OptionSpec = {
  type: 'number',
  default: 0,
  min: 0,
  max: 1,
  description: 'Probability of dropout between the convolutions of each block.',
};

export const cifarWideResnets = cifar(
  { paper: 'Zagoruyko & Komodakis 2016, arXiv:1605.07146', options: { dropout } },
  { wrn_16_4, wrn_16_8, wrn_28_10, wrn_40_2, wrn_40_4 },
);
