/** Convolutions over [N, C, H, W]. */
import { ArgumentError } from '../../errors.js';
import * as F from '../functional.js';
import * as init from '../init.js';
import { Module } from '../module.js';
import { integer, pair, withDefaults, type Pair } from '../options.js';
import { Parameter } from '../parameter.js';
import type { SymbolicTensor } from '../tensor.js';

export type PaddingMode = 'zeros' | 'reflect' | 'replicate' | 'circular';

export interface Conv2dOptions {
  /** Default 1. */
  stride?: Pair;
  /** Default 0. 'same' needs stride 1. */
  padding?: Pair | 'same' | 'valid';
  /** Default 1. */
  dilation?: Pair;
  /** Default 1. Divides both numbers of channels. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
  /** Default 'zeros'. */
  paddingMode?: PaddingMode;
}

/** torch's default start: both weight and bias uniform within ±1/√fan_in. */
export function defaultInit(weight: Parameter, bias: Parameter | null): void {
  init.kaimingUniform(weight, { a: Math.sqrt(5) });
  if (bias === null) return;
  const { fanIn } = init.calculateFans(weight.dims);
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  init.uniform(bias, -bound, bound);
}

function checkChannels(owner: string, inChannels: number, outChannels: number, groups: number): void {
  integer(owner, 'inChannels', inChannels);
  integer(owner, 'outChannels', outChannels);
  integer(owner, 'groups', groups);
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw new ArgumentError({
      what: `${owner}: ${groups} groups do not divide ${inChannels} input and ${outChannels} output channels`,
    });
  }
}

/** Before and after of width, then of height, as `F.pad` takes them. */
function explicitPadding(
  padding: Pair | 'same' | 'valid',
  kernel: readonly [number, number],
  dilation: readonly [number, number],
): [number, number, number, number] {
  if (padding === 'valid') return [0, 0, 0, 0];
  if (padding === 'same') {
    const [h, w] = [dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)];
    return [Math.floor(w / 2), w - Math.floor(w / 2), Math.floor(h / 2), h - Math.floor(h / 2)];
  }
  const [h, w] = pair(padding);
  return [w, w, h, h];
}

export class Conv2d extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: [number, number];
  readonly options: Required<Conv2dOptions>;
  weight: Parameter;
  bias: Parameter | null;

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, options: Conv2dOptions = {}) {
    super();
    this.options = withDefaults<Required<Conv2dOptions>>(
      'Conv2d',
      { stride: 1, padding: 0, dilation: 1, groups: 1, bias: true, paddingMode: 'zeros' },
      options,
    );
    const { groups, padding, stride } = this.options;
    checkChannels('Conv2d', inChannels, outChannels, groups);
    if (padding === 'same' && pair(stride).some((s) => s !== 1)) {
      throw new ArgumentError({ what: "Conv2d: padding 'same' needs stride 1" });
    }
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = pair(kernelSize);
    this.kernelSize.forEach((k) => integer('Conv2d', 'kernelSize', k));
    this.weight = new Parameter([outChannels, inChannels / groups, ...this.kernelSize]);
    this.bias = this.options.bias ? new Parameter([outChannels]) : null;
    defaultInit(this.weight, this.bias);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    const { stride, padding, dilation, groups, paddingMode } = this.options;
    if (paddingMode === 'zeros') {
      return F.conv2d(x, this.weight, this.bias, { stride, padding, dilation, groups });
    }
    const padded = F.pad(x, explicitPadding(padding, this.kernelSize, pair(dilation)), paddingMode);
    return F.conv2d(padded, this.weight, this.bias, { stride, dilation, groups });
  }
}

export interface ConvTranspose2dOptions {
  /** Default 1. */
  stride?: Pair;
  /** Default 0: rows and columns cut from each side of the result. */
  padding?: Pair;
  /** Default 0: rows and columns added at the end of the result. */
  outputPadding?: Pair;
  /** Default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
  /** Default 1. */
  dilation?: Pair;
}

export class ConvTranspose2d extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: [number, number];
  readonly options: Required<ConvTranspose2dOptions>;
  weight: Parameter;
  bias: Parameter | null;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Pair,
    options: ConvTranspose2dOptions = {},
  ) {
    super();
    this.options = withDefaults<Required<ConvTranspose2dOptions>>(
      'ConvTranspose2d',
      { stride: 1, padding: 0, outputPadding: 0, groups: 1, bias: true, dilation: 1 },
      options,
    );
    const { groups } = this.options;
    checkChannels('ConvTranspose2d', inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = pair(kernelSize);
    this.kernelSize.forEach((k) => integer('ConvTranspose2d', 'kernelSize', k));
    this.weight = new Parameter([inChannels, outChannels / groups, ...this.kernelSize]);
    this.bias = this.options.bias ? new Parameter([outChannels]) : null;
    defaultInit(this.weight, this.bias);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    const { stride, padding, outputPadding, groups, dilation } = this.options;
    return F.convTranspose2d(x, this.weight, this.bias, { stride, padding, outputPadding, groups, dilation });
  }
}
