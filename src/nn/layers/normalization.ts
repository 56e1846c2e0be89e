/** Normalisation layers. Scales start at one, shifts at zero. */
import { ArgumentError } from '../../errors.js';
import * as F from '../functional.js';
import { Module } from '../module.js';
import { integer, withDefaults } from '../options.js';
import { Buffer, Parameter } from '../parameter.js';
import type { SymbolicTensor } from '../tensor.js';

const one = { kind: 'constant', value: 1 } as const;

export interface BatchNormOptions {
  /** Default 1e-5. */
  eps?: number;
  /** Weight of the newest batch in the running statistics; null for their plain average. Default 0.1. */
  momentum?: number | null;
  /** Learn scale and shift. Default true. */
  affine?: boolean;
  /** Default true; without, the batch's own statistics are used in every mode. */
  trackRunningStats?: boolean;
}

/**
 * Ioffe & Szegedy 2015, over [N, C, ...]. Each node reads its own mode when the graph runs (train, eval or
 * recompute; see Modes), so a module has no train() or eval().
 */
abstract class BatchNorm extends Module {
  readonly numFeatures: number;
  readonly options: Required<BatchNormOptions>;
  weight: Parameter | null;
  bias: Parameter | null;
  running_mean: Buffer | null;
  running_var: Buffer | null;
  num_batches_tracked: Buffer | null;

  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super();
    const owner = this.constructor.name;
    this.options = withDefaults<Required<BatchNormOptions>>(
      owner,
      { eps: 1e-5, momentum: 0.1, affine: true, trackRunningStats: true },
      options,
    );
    const { affine, trackRunningStats } = this.options;
    this.numFeatures = integer(owner, 'numFeatures', numFeatures);
    this.weight = affine ? new Parameter([numFeatures], one) : null;
    this.bias = affine ? new Parameter([numFeatures]) : null;
    this.running_mean = trackRunningStats ? new Buffer([numFeatures]) : null;
    this.running_var = trackRunningStats ? new Buffer([numFeatures], one) : null;
    this.num_batches_tracked = trackRunningStats ? new Buffer([], undefined, 'int64') : null;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    const { momentum, eps } = this.options;
    return F.batchNorm(
      x,
      {
        weight: this.weight,
        bias: this.bias,
        runningMean: this.running_mean,
        runningVar: this.running_var,
        numBatchesTracked: this.num_batches_tracked,
      },
      { momentum, eps },
    );
  }
}

/** Over [N, C] or [N, C, L]. */
export class BatchNorm1d extends BatchNorm {}
/** Over [N, C, H, W]. */
export class BatchNorm2d extends BatchNorm {}

/** Ba et al. 2016, over the last dimensions. */
export class LayerNorm extends Module {
  readonly normalizedShape: number[];
  readonly eps: number;
  weight: Parameter | null;
  bias: Parameter | null;

  /** `eps` defaults to 1e-5, `elementwiseAffine` and `bias` to true. */
  constructor(
    normalizedShape: number | readonly number[],
    options: { eps?: number; elementwiseAffine?: boolean; bias?: boolean } = {},
  ) {
    super();
    const { eps, elementwiseAffine, bias } = withDefaults(
      'LayerNorm',
      { eps: 1e-5, elementwiseAffine: true, bias: true },
      options,
    );
    this.normalizedShape = typeof normalizedShape === 'number' ? [normalizedShape] : [...normalizedShape];
    this.normalizedShape.forEach((n) => integer('LayerNorm', 'normalizedShape', n));
    this.eps = eps;
    this.weight = elementwiseAffine ? new Parameter(this.normalizedShape, one) : null;
    this.bias = elementwiseAffine && bias ? new Parameter(this.normalizedShape) : null;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.layerNorm(x, this.normalizedShape, this.weight, this.bias, this.eps);
  }
}

/** Wu & He 2018, over groups of channels of [N, C, ...]. */
export class GroupNorm extends Module {
  readonly numGroups: number;
  readonly numChannels: number;
  readonly eps: number;
  weight: Parameter | null;
  bias: Parameter | null;

  /** `eps` defaults to 1e-5, `affine` to true. */
  constructor(numGroups: number, numChannels: number, options: { eps?: number; affine?: boolean } = {}) {
    super();
    const { eps, affine } = withDefaults('GroupNorm', { eps: 1e-5, affine: true }, options);
    this.numGroups = integer('GroupNorm', 'numGroups', numGroups);
    this.numChannels = integer('GroupNorm', 'numChannels', numChannels);
    if (numChannels % numGroups !== 0) {
      throw new ArgumentError({
        what: `GroupNorm: ${numGroups} groups do not divide ${numChannels} channels`,
      });
    }
    this.eps = eps;
    this.weight = affine ? new Parameter([numChannels], one) : null;
    this.bias = affine ? new Parameter([numChannels]) : null;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.groupNorm(x, this.numGroups, this.weight, this.bias, this.eps);
  }
}
