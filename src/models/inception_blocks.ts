/** What GoogLeNet and Inception v3 share, under torchvision's names. */
import { ArgumentError } from '../errors.js';
import {
  BatchNorm2d,
  cat,
  Conv2d,
  functional as F,
  Module,
  type Conv2dOptions,
  type Pair,
  type Tensor,
} from '../nn/index.js';
import type { ModelOptions, OptionSpec } from './architecture.js';

/** Convolution, batch norm, ReLU. */
export class BasicConv2d extends Module {
  readonly conv: Conv2d;
  readonly bn: BatchNorm2d;

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, options: Conv2dOptions = {}) {
    super();
    this.conv = new Conv2d(inChannels, outChannels, kernelSize, { ...options, bias: false });
    this.bn = new BatchNorm2d(outChannels, { eps: 1e-3 });
  }

  forward(x: Tensor): Tensor {
    return F.relu(this.bn.forward(this.conv.forward(x)));
  }
}

/** From ImageNet's normalisation to (x − 0.5) / 0.5, on which the published weights were trained. */
export function fromImagenetNormalization(image: Tensor): Tensor {
  const mean = [0.485, 0.456, 0.406];
  const channels = [0.229, 0.224, 0.225].map((std, i) =>
    image
      .narrow(1, i, 1)
      .mul(std / 0.5)
      .add((mean[i]! - 0.5) / 0.5),
  );
  return cat(channels, 1);
}

/** Whether images come in ImageNet's normalisation, which has three channels. */
export function transformsInput({
  transformInput = false,
  inChannels = 3,
}: ModelOptions & { transformInput?: boolean }): boolean {
  if (transformInput && inChannels !== 3) {
    throw new ArgumentError({ what: `transformInput is for images of 3 channels, not of ${inChannels}` });
  }
  return transformInput;
}

/** Options of both networks beyond dropout. */
export const inceptionOptions: Record<'auxLogits' | 'transformInput', OptionSpec> = {
  auxLogits: {
    type: 'boolean',
    default: false,
    description: 'Add the auxiliary classifiers, whose logits only training needs.',
  },
  transformInput: {
    type: 'boolean',
    default: false,
    description: 'Take images in ImageNet normalisation, as the published weights need it.',
  },
};
