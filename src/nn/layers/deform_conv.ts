/** Deformable convolution over [N, C, H, W]. */
import { ArgumentError } from '../../errors.js';
import * as F from '../functional.js';
import { Module } from '../module.js';
import { integer, pair, withDefaults, type Pair } from '../options.js';
import { Parameter } from '../parameter.js';
import type { SymbolicTensor } from '../tensor.js';
import { defaultInit } from './conv.js';

export interface DeformConv2dOptions {
  /** Default 1. */
  stride?: Pair;
  /** Default 0. */
  padding?: Pair;
  /** Default 1. */
  dilation?: Pair;
  /** Default 1. Divides both numbers of channels. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
}

/** torchvision.ops.DeformConv2d: offsets and mask come from elsewhere (see `functional.deformConv2d`). */
export class DeformConv2d extends Module {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: [number, number];
  readonly options: Required<DeformConv2dOptions>;
  weight: Parameter;
  bias: Parameter | null;

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, options: DeformConv2dOptions = {}) {
    super();
    this.options = withDefaults<Required<DeformConv2dOptions>>(
      'DeformConv2d',
      { stride: 1, padding: 0, dilation: 1, groups: 1, bias: true },
      options,
    );
    const groups = integer('DeformConv2d', 'groups', this.options.groups);
    this.inChannels = integer('DeformConv2d', 'inChannels', inChannels);
    this.outChannels = integer('DeformConv2d', 'outChannels', outChannels);
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ArgumentError({
        what: `DeformConv2d: ${groups} groups do not divide ${inChannels} input and ${outChannels} output channels`,
      });
    }
    this.kernelSize = pair(kernelSize);
    this.kernelSize.forEach((k) => integer('DeformConv2d', 'kernelSize', k));
    this.weight = new Parameter([outChannels, inChannels / groups, ...this.kernelSize]);
    this.bias = this.options.bias ? new Parameter([outChannels]) : null;
    defaultInit(this.weight, this.bias);
  }

  /** `offset` [N, 2·G·kH·kW, H', W'], `mask` [N, G·kH·kW, H', W']. */
  forward(x: SymbolicTensor, offset: SymbolicTensor, mask: SymbolicTensor | null = null): SymbolicTensor {
    const { stride, padding, dilation, groups } = this.options;
    return F.deformConv2d(x, offset, this.weight, this.bias, { stride, padding, dilation, groups, mask });
  }
}
