/**
 * The residual networks for 32×32 images of He et al. 2015 (arXiv:1512.03385), section 4.2: three stages of n
 * blocks with 16, 32 and 64 planes, 6n + 2 layers. Shortcuts that change the shape have no parameters (option A:
 * every second pixel, new channels zero). Names and order of the state dict are those of the published weights
 * of akamaster/pytorch_resnet_cifar10.
 */
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  init,
  Linear,
  Module,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { cifar, type ModelOptions } from './architecture.js';

/** Option A: subsamples and pads the channels with zeros, half before and half after. */
class PaddedShortcut extends Module {
  private readonly stride: number;
  private readonly before: number;
  private readonly after: number;

  constructor(inPlanes: number, planes: number, stride: number) {
    super();
    this.stride = stride;
    this.before = Math.floor((planes - inPlanes) / 2);
    this.after = planes - inPlanes - this.before;
  }

  forward(x: Tensor): Tensor {
    const sampled = x.slice(2, null, null, this.stride).slice(3, null, null, this.stride);
    return F.pad(sampled, [0, 0, 0, 0, this.before, this.after]);
  }
}

class CifarBlock extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly shortcut: Module;

  constructor(inPlanes: number, planes: number, stride: number) {
    super();
    this.conv1 = new Conv2d(inPlanes, planes, 3, { stride, padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(planes);
    this.conv2 = new Conv2d(planes, planes, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(planes);
    this.shortcut =
      stride !== 1 || inPlanes !== planes ? new PaddedShortcut(inPlanes, planes, stride) : new Sequential();
  }

  forward(x: Tensor): Tensor {
    let out = F.relu(this.bn1.forward(this.conv1.forward(x)));
    out = this.bn2.forward(this.conv2.forward(out));
    return F.relu(out.add(this.shortcut.forward(x) as Tensor));
  }
}

export class CifarResNet extends Module {
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly linear: Linear;

  /** `n` blocks in each stage: 6n + 2 layers. */
  constructor(n: number, { numClasses = 10, inChannels = 3 }: ModelOptions = {}) {
    super();
    let inPlanes = 16;
    const stage = (planes: number, firstStride: number): Sequential => {
      const blocks: Module[] = [];
      for (let i = 0; i < n; i++) {
        blocks.push(new CifarBlock(inPlanes, planes, i === 0 ? firstStride : 1));
        inPlanes = planes;
      }
      return new Sequential(...blocks);
    };
    this.conv1 = new Conv2d(inChannels, 16, 3, { padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(16);
    this.layer1 = stage(16, 1);
    this.layer2 = stage(32, 2);
    this.layer3 = stage(64, 2);
    this.linear = new Linear(64, numClasses);
    for (const module of this.modules()) {
      if (module instanceof Conv2d || module instanceof Linear) init.kaimingNormal(module.weight);
    }
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    let x = F.relu(this.bn1.forward(this.conv1.forward(image)));
    x = this.layer1.forward(x);
    x = this.layer2.forward(x);
    x = this.layer3.forward(x);
    return this.linear.forward(F.adaptiveAvgPool2d(x, 1).flatten(1));
  }
}

export const resnet20 = (options?: ModelOptions): CifarResNet => new CifarResNet(3, options);
export const resnet32 = (options?: ModelOptions): CifarResNet => new CifarResNet(5, options);
export const resnet44 = (options?: ModelOptions): CifarResNet => new CifarResNet(7, options);
export const resnet56 = (options?: ModelOptions): CifarResNet => new CifarResNet(9, options);
export const resnet110 = (options?: ModelOptions): CifarResNet => new CifarResNet(18, options);

export const cifarResnets = cifar(
  { paper: 'He et al. 2015, arXiv:1512.03385, section 4.2' },
  { resnet20, resnet32, resnet44, resnet56, resnet110 },
);
