/** The fully connected layer. */
import * as F from '../functional.js';
import { Module } from '../module.js';
import { integer, withDefaults } from '../options.js';
import { Parameter } from '../parameter.js';
import type { SymbolicTensor } from '../tensor.js';
import { defaultInit } from './conv.js';

/** [..., inFeatures] → [..., outFeatures]. */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: Parameter;
  bias: Parameter | null;

  /** `bias` defaults to true. */
  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    super();
    const { bias } = withDefaults('Linear', { bias: true }, options);
    this.inFeatures = integer('Linear', 'inFeatures', inFeatures);
    this.outFeatures = integer('Linear', 'outFeatures', outFeatures);
    this.weight = new Parameter([outFeatures, inFeatures]);
    this.bias = bias ? new Parameter([outFeatures]) : null;
    defaultInit(this.weight, this.bias);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.linear(x, this.weight, this.bias);
  }
}
