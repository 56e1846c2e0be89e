/** torch.nn.functional on symbolic tensors: one function per operator, options in camelCase. */
import { ArgumentError } from '../errors.js';
import type { IntLike } from './recorder.js';
import { pair, probability, type Pair } from './options.js';
import { call, type SymbolicTensor } from './tensor.js';

type Tensor = SymbolicTensor;
type IntPair = IntLike | readonly [IntLike, IntLike];

function intPair(value: IntPair): [IntLike, IntLike] {
  return Array.isArray(value)
    ? [value[0] as IntLike, value[1] as IntLike]
    : [value as IntLike, value as IntLike];
}

// ---- convolution and linear

export interface ConvOptions {
  stride?: Pair;
  /** Or 'same' (stride 1 only) or 'valid'. */
  padding?: Pair | 'same' | 'valid';
  dilation?: Pair;
  groups?: number;
}

/** `x` [N, C, H, W], `weight` [O, C / groups, kH, kW]. */
export function conv2d(x: Tensor, weight: Tensor, bias?: Tensor | null, options: ConvOptions = {}): Tensor {
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  if (typeof padding === 'string') {
    return call('aten::conv2d.padding', [x, weight, bias, pair(stride), padding, pair(dilation), groups]);
  }
  return call('aten::conv2d', [x, weight, bias, pair(stride), pair(padding), pair(dilation), groups]);
}

/** `x` [N, C, H, W], `weight` [C, O / groups, kH, kW]. */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: { stride?: Pair; padding?: Pair; outputPadding?: Pair; groups?: number; dilation?: Pair } = {},
): Tensor {
  const { stride = 1, padding = 0, outputPadding = 0, groups = 1, dilation = 1 } = options;
  return call('aten::conv_transpose2d.input', [
    x,
    weight,
    bias,
    pair(stride),
    pair(padding),
    pair(outputPadding),
    groups,
    pair(dilation),
  ]);
}

/** `x` [..., I], `weight` [O, I]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  return call('aten::linear', [x, weight, bias]);
}

// ---- activations

export function relu(x: Tensor): Tensor {
  return call('aten::relu', [x]);
}
export function relu6(x: Tensor): Tensor {
  return call('aten::relu6', [x]);
}
export function leakyRelu(x: Tensor, negativeSlope = 0.01): Tensor {
  return call('aten::leaky_relu', [x, negativeSlope]);
}
export function silu(x: Tensor): Tensor {
  return call('aten::silu', [x]);
}
export function gelu(x: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor {
  return call('aten::gelu', [x, approximate]);
}
export function hardswish(x: Tensor): Tensor {
  return call('aten::hardswish', [x]);
}
export function hardsigmoid(x: Tensor): Tensor {
  return call('aten::hardsigmoid', [x]);
}
export function hardtanh(x: Tensor, min = -1, max = 1): Tensor {
  return call('aten::hardtanh', [x, min, max]);
}
export function sigmoid(x: Tensor): Tensor {
  return call('aten::sigmoid', [x]);
}
export function tanh(x: Tensor): Tensor {
  return call('aten::tanh', [x]);
}
export function softmax(x: Tensor, dim: number): Tensor {
  return call('aten::softmax.int', [x, dim]);
}
export function logSoftmax(x: Tensor, dim: number): Tensor {
  return call('aten::log_softmax.int', [x, dim]);
}

// ---- normalisation

/** Over the last dimensions, whose lengths are `normalizedShape`. */
export function layerNorm(
  x: Tensor,
  normalizedShape: readonly IntLike[],
  weight?: Tensor | null,
  bias?: Tensor | null,
  eps = 1e-5,
): Tensor {
  return call('aten::layer_norm', [x, normalizedShape, weight, bias, eps]);
}

export function groupNorm(
  x: Tensor,
  numGroups: number,
  weight?: Tensor | null,
  bias?: Tensor | null,
  eps = 1e-5,
): Tensor {
  return call('aten::group_norm', [x, numGroups, weight, bias, eps]);
}

/** Running statistics move only in train (and recompute) mode. `momentum` null: cumulative average. */
export function batchNorm(
  x: Tensor,
  state: {
    weight?: Tensor | null;
    bias?: Tensor | null;
    runningMean?: Tensor | null;
    runningVar?: Tensor | null;
    numBatchesTracked?: Tensor | null;
  },
  options: { momentum?: number | null; eps?: number } = {},
): Tensor {
  const { momentum = 0.1, eps = 1e-5 } = options;
  const { weight, bias, runningMean, runningVar, numBatchesTracked } = state;
  return call('fornax::batch_norm', [
    x,
    weight,
    bias,
    runningMean,
    runningVar,
    numBatchesTracked,
    { mode: 'batch_norm' },
    momentum,
    eps,
  ]);
}

/** Divides by the p-norm along `dim`. */
export function normalize(x: Tensor, options: { p?: number; dim?: number; eps?: number } = {}): Tensor {
  const { p = 2, dim = 1, eps = 1e-12 } = options;
  return x.div(call('aten::linalg_vector_norm', [x, p, [dim], true]).clamp({ min: eps }));
}

// ---- regularisation: draws from the generator of the session that runs the graph

/** Zeroes elements with probability `p` and scales the others by 1 / (1 − p), in train mode. */
export function dropout(x: Tensor, p = 0.5): Tensor {
  probability('dropout', p);
  return p === 0 ? x : call('fornax::dropout', [x, p, { mode: 'dropout' }, { generator: true }]);
}

/** As dropout, but whole channels of [N, C, ...]. */
export function dropout2d(x: Tensor, p = 0.5): Tensor {
  probability('dropout2d', p);
  return p === 0 ? x : call('fornax::feature_dropout', [x, p, { mode: 'dropout' }, { generator: true }]);
}

/** Drops whole samples (`row`) or the whole batch (`batch`) of a residual branch (Huang et al. 2016). */
export function stochasticDepth(x: Tensor, p: number, kind: 'row' | 'batch'): Tensor {
  probability('stochasticDepth', p);
  if (p === 0) return x;
  return call('fornax::stochastic_depth', [x, p, kind, { mode: 'stochastic_depth' }, { generator: true }]);
}

// ---- pooling

export interface PoolOptions {
  /** Default: the kernel size. */
  stride?: Pair | null;
  padding?: Pair;
  ceilMode?: boolean;
}

export function maxPool2d(
  x: Tensor,
  kernelSize: Pair,
  options: PoolOptions & { dilation?: Pair } = {},
): Tensor {
  const { stride, padding = 0, dilation = 1, ceilMode = false } = options;
  const steps = pair(stride ?? kernelSize);
  return call('aten::max_pool2d', [x, pair(kernelSize), steps, pair(padding), pair(dilation), ceilMode]);
}

export function avgPool2d(
  x: Tensor,
  kernelSize: Pair,
  options: PoolOptions & { countIncludePad?: boolean; divisorOverride?: number | null } = {},
): Tensor {
  const { stride, padding = 0, ceilMode = false, countIncludePad = true, divisorOverride = null } = options;
  const steps = pair(stride ?? kernelSize);
  return call('aten::avg_pool2d', [
    x,
    pair(kernelSize),
    steps,
    pair(padding),
    ceilMode,
    countIncludePad,
    divisorOverride,
  ]);
}

/** Null keeps the length of the input. */
export type OutputSize = number | null | readonly [number | null, number | null];

/** `x` [N, C, H, W] or [C, H, W]. */
export function adaptiveAvgPool2d(x: Tensor, outputSize: OutputSize): Tensor {
  const [h, w] = Array.isArray(outputSize) ? outputSize : [outputSize, outputSize];
  return call('aten::adaptive_avg_pool2d', [x, [(h ?? x.size(-2)) as IntLike, (w ?? x.size(-1)) as IntLike]]);
}

// ---- resampling and padding

export type InterpolateMode = 'nearest' | 'nearest-exact' | 'bilinear' | 'bicubic' | 'area';

export interface InterpolateOptions {
  /** Height and width of the result; either this or `scaleFactor`. */
  size?: IntPair | null;
  scaleFactor?: Pair | null;
  /** Default 'nearest'. */
  mode?: InterpolateMode;
  /** For 'bilinear' and 'bicubic'. Default false. */
  alignCorners?: boolean | null;
  /** For 'bilinear' and 'bicubic' when making smaller. Default false. */
  antialias?: boolean;
}

/** Resizes [N, C, H, W]. */
export function interpolate(x: Tensor, options: InterpolateOptions): Tensor {
  const {
    size = null,
    scaleFactor = null,
    mode = 'nearest',
    alignCorners = null,
    antialias = false,
  } = options;
  if ((size === null) === (scaleFactor === null)) {
    throw new ArgumentError({ what: 'interpolate takes either size or scaleFactor' });
  }
  const linear = mode === 'bilinear' || mode === 'bicubic';
  if (!linear && (alignCorners !== null || antialias)) {
    throw new ArgumentError({
      what: `interpolate: alignCorners and antialias do not apply to mode '${mode}'`,
    });
  }
  const target = size === null ? null : intPair(size);
  const factors = scaleFactor === null ? null : pair(scaleFactor);
  switch (mode) {
    case 'nearest':
      return call('aten::upsample_nearest2d.vec', [x, target, factors]);
    case 'nearest-exact':
      return call('aten::_upsample_nearest_exact2d.vec', [x, target, factors]);
    case 'bilinear':
    case 'bicubic': {
      const op = antialias ? `aten::_upsample_${mode}2d_aa.vec` : `aten::upsample_${mode}2d.vec`;
      return call(op, [x, target, alignCorners ?? false, factors]);
    }
    case 'area': {
      if (target === null) {
        throw new ArgumentError({ what: "interpolate: mode 'area' takes size, not scaleFactor" });
      }
      return call('aten::adaptive_avg_pool2d', [x, target]);
    }
    default:
      throw new ArgumentError({ what: `interpolate has no mode '${String(mode)}'` });
  }
}

export type PadMode = 'constant' | 'reflect' | 'replicate' | 'circular';

/** `padding`: before and after of the last dimension, then of the one before it, and so on. May be negative. */
export function pad(x: Tensor, padding: readonly IntLike[], mode: PadMode = 'constant', value = 0): Tensor {
  if (padding.length % 2 !== 0) {
    throw new ArgumentError({ what: `pad takes pairs of before and after, not ${padding.length} numbers` });
  }
  return call('aten::pad', mode === 'constant' ? [x, padding, mode, value] : [x, padding, mode]);
}

export function pixelShuffle(x: Tensor, upscaleFactor: number): Tensor {
  return call('aten::pixel_shuffle', [x, upscaleFactor]);
}

// ---- attention

/** softmax(q·kᵀ / √E + mask)·v; `q` [..., L, E], `k` [..., S, E], `v` [..., S, Ev]. No dropout. */
export function scaledDotProductAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: { mask?: Tensor | null; causal?: boolean; scale?: number | null } = {},
): Tensor {
  const { mask = null, causal = false, scale = null } = options;
  return call('aten::scaled_dot_product_attention', [q, k, v, mask, 0, causal, scale]);
}

export * from './loss_functions.js';
export * from './sampling.js';
