/** Building blocks that several families share, under torchvision's names (torchvision.ops.misc). */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  init,
  Module,
  ReLU,
  Sequential,
  Sigmoid,
  type Tensor,
} from '../nn/index.js';

/**
 * `value` rounded to a multiple of `divisor`, at least `divisor` and never more than 10 % below `value`: how the
 * MobileNets scale their channels.
 */
export function makeDivisible(value: number, divisor: number): number {
  const rounded = Math.max(divisor, Math.floor(Math.trunc(value + divisor / 2) / divisor) * divisor);
  return rounded < 0.9 * value ? rounded + divisor : rounded;
}

/** What makes the normalisation layer for a number of channels. */
export type NormLayer = (channels: number) => Module;
/** The class of an activation without settings. */
export type ActivationLayer = new () => Module;

export interface ConvNormOptions {
  /** Default 3. */
  kernelSize?: number;
  /** Default 1. */
  stride?: number;
  /** Default 1. The padding keeps the size at stride 1 (for an odd kernel). */
  dilation?: number;
  /** Default 1. */
  groups?: number;
  /** Default `BatchNorm2d`. */
  norm?: NormLayer;
  /** Default `ReLU`; null for none. */
  activation?: ActivationLayer | null;
}

/** Convolution without bias, normalisation, activation: children 0, 1, 2. */
export class Conv2dNormActivation extends Sequential {
  readonly outChannels: number;

  constructor(inChannels: number, outChannels: number, options: ConvNormOptions = {}) {
    const { kernelSize = 3, stride = 1, dilation = 1, groups = 1 } = options;
    const { norm = (channels) => new BatchNorm2d(channels), activation = ReLU } = options;
    const padding = Math.floor((kernelSize - 1) / 2) * dilation;
    super(
      new Conv2d(inChannels, outChannels, kernelSize, { stride, padding, dilation, groups, bias: false }),
      norm(outChannels),
      ...(activation === null ? [] : [new activation()]),
    );
    this.outChannels = outChannels;
  }
}

/** Scales each channel by what a small network makes of all channels' means: Hu et al. 2017, arXiv:1709.01507. */
export class SqueezeExcitation extends Module {
  readonly avgpool: AdaptiveAvgPool2d;
  readonly fc1: Conv2d;
  readonly fc2: Conv2d;
  readonly activation: Module;
  readonly scale_activation: Module;

  /** `activation` and `scaleActivation` are δ and σ of equation 3. */
  constructor(
    channels: number,
    squeezeChannels: number,
    options: { activation?: ActivationLayer; scaleActivation?: ActivationLayer } = {},
  ) {
    super();
    const { activation = ReLU, scaleActivation = Sigmoid } = options;
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.fc1 = new Conv2d(channels, squeezeChannels, 1);
    this.fc2 = new Conv2d(squeezeChannels, channels, 1);
    this.activation = new activation();
    this.scale_activation = new scaleActivation();
  }

  forward(x: Tensor): Tensor {
    const squeezed = this.activation.forward(this.fc1.forward(this.avgpool.forward(x))) as Tensor;
    const scale = this.scale_activation.forward(this.fc2.forward(squeezed)) as Tensor;
    return scale.mul(x);
  }
}

/** He et al. 2015 by fan out for every convolution, whose biases start at zero. */
export function initConvolutions(model: Module): void {
  for (const module of model.modules()) {
    if (!(module instanceof Conv2d)) continue;
    init.kaimingNormal(module.weight, { mode: 'fan_out' });
    if (module.bias !== null) init.zeros(module.bias);
  }
}
