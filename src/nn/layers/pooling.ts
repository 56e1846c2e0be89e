/** Pooling and resampling over [N, C, H, W]. */
import * as F from '../functional.js';
import { Module } from '../module.js';
import { withDefaults, type Pair } from '../options.js';
import type { SymbolicTensor } from '../tensor.js';

export interface MaxPool2dOptions {
  /** Default: the kernel size. */
  stride?: Pair | null;
  /** Default 0. */
  padding?: Pair;
  /** Default 1. */
  dilation?: Pair;
  /** Round the output size up instead of down. Default false. */
  ceilMode?: boolean;
}

export class MaxPool2d extends Module {
  readonly kernelSize: Pair;
  readonly options: Required<MaxPool2dOptions>;

  constructor(kernelSize: Pair, options: MaxPool2dOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = withDefaults<Required<MaxPool2dOptions>>(
      'MaxPool2d',
      { stride: null, padding: 0, dilation: 1, ceilMode: false },
      options,
    );
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.maxPool2d(x, this.kernelSize, this.options);
  }
}

export interface AvgPool2dOptions {
  /** Default: the kernel size. */
  stride?: Pair | null;
  /** Default 0. */
  padding?: Pair;
  /** Default false. */
  ceilMode?: boolean;
  /** Count padded zeros in the average. Default true. */
  countIncludePad?: boolean;
  /** Divide by this instead of by the size of the window. Default null. */
  divisorOverride?: number | null;
}

export class AvgPool2d extends Module {
  readonly kernelSize: Pair;
  readonly options: Required<AvgPool2dOptions>;

  constructor(kernelSize: Pair, options: AvgPool2dOptions = {}) {
    super();
    this.kernelSize = kernelSize;
    this.options = withDefaults<Required<AvgPool2dOptions>>(
      'AvgPool2d',
      { stride: null, padding: 0, ceilMode: false, countIncludePad: true, divisorOverride: null },
      options,
    );
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.avgPool2d(x, this.kernelSize, this.options);
  }
}

/** Averages down to a fixed size, whatever the resolution. Null keeps a length. */
export class AdaptiveAvgPool2d extends Module {
  readonly outputSize: F.OutputSize;

  constructor(outputSize: F.OutputSize) {
    super();
    this.outputSize = outputSize;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.adaptiveAvgPool2d(x, this.outputSize);
  }
}

export interface UpsampleOptions {
  size?: Pair | null;
  scaleFactor?: Pair | null;
  /** Default 'nearest'. */
  mode?: F.InterpolateMode;
  /** For 'bilinear' and 'bicubic'. Default false. */
  alignCorners?: boolean | null;
}

export class Upsample extends Module {
  readonly options: Required<UpsampleOptions>;

  constructor(options: UpsampleOptions) {
    super();
    this.options = withDefaults<Required<UpsampleOptions>>(
      'Upsample',
      { size: null, scaleFactor: null, mode: 'nearest', alignCorners: null },
      options,
    );
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.interpolate(x, this.options);
  }
}
