/**
 * torch.nn.init: each function stores how a parameter starts; the values are drawn natively from the run's seed.
 */
import { ArgumentError } from '../errors.js';
import type { Init } from '../graph/format.js';
import type { Buffer, Parameter } from './parameter.js';

export type Nonlinearity = 'linear' | 'conv2d' | 'sigmoid' | 'tanh' | 'relu' | 'leaky_relu' | 'selu';

/** The factor by which a nonlinearity's preceding layer is scaled. `a` is the negative slope of leaky_relu. */
export function calculateGain(nonlinearity: Nonlinearity, a = 0.01): number {
  switch (nonlinearity) {
    case 'linear':
    case 'conv2d':
    case 'sigmoid':
      return 1;
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leaky_relu':
      return Math.sqrt(2 / (1 + a * a));
    case 'selu':
      return 3 / 4;
    default:
      throw new ArgumentError({ what: `there is no gain for the nonlinearity '${String(nonlinearity)}'` });
  }
}

/** fan_in: what feeds one output; fan_out: what one input feeds. Both count the kernel's positions. */
export function calculateFans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  if (shape.length < 2) {
    throw new ArgumentError({
      what: `fan in and fan out need a shape of at least two dimensions, not [${shape.join(', ')}]`,
    });
  }
  const receptive = shape.slice(2).reduce((product, length) => product * length, 1);
  return { fanIn: shape[1]! * receptive, fanOut: shape[0]! * receptive };
}

function set<T extends Parameter | Buffer>(tensor: T, init: Init): T {
  if (init.kind.startsWith('kaiming') || init.kind.startsWith('xavier')) calculateFans(tensor.dims);
  tensor.init = init;
  return tensor;
}

export function constant<T extends Parameter | Buffer>(tensor: T, value: number): T {
  return set(tensor, { kind: 'constant', value });
}

/** Every element, in row-major order. */
export function values<T extends Parameter | Buffer>(tensor: T, elements: readonly number[]): T {
  const length = tensor.dims.reduce((product, size) => product * size, 1);
  if (elements.length !== length) {
    throw new ArgumentError({
      what: `${elements.length} values do not fill a tensor of shape [${tensor.dims.join(', ')}]`,
    });
  }
  return set(tensor, { kind: 'values', values: [...elements] });
}

export function zeros<T extends Parameter | Buffer>(tensor: T): T {
  return constant(tensor, 0);
}

export function ones<T extends Parameter | Buffer>(tensor: T): T {
  return constant(tensor, 1);
}

export function uniform<T extends Parameter | Buffer>(tensor: T, low = 0, high = 1): T {
  return set(tensor, { kind: 'uniform', low, high });
}

export function normal<T extends Parameter | Buffer>(tensor: T, mean = 0, std = 1): T {
  return set(tensor, { kind: 'normal', mean, std });
}

/** Normal, redrawn outside [a, b] (absolute values). */
export function truncNormal<T extends Parameter | Buffer>(
  tensor: T,
  options: { mean?: number; std?: number; a?: number; b?: number } = {},
): T {
  const { mean = 0, std = 1, a = -2, b = 2 } = options;
  return set(tensor, { kind: 'trunc_normal', mean, std, a, b });
}

export interface KaimingOptions {
  /** Negative slope, for leaky_relu. Default 0. */
  a?: number;
  /** Default 'fan_in'. */
  mode?: 'fan_in' | 'fan_out';
  /** Default 'leaky_relu' (with a = 0 the same as 'relu'). */
  nonlinearity?: Nonlinearity;
}

/** He et al. 2015: uniform within ±gain·√(3 / fan). */
export function kaimingUniform<T extends Parameter | Buffer>(tensor: T, options: KaimingOptions = {}): T {
  const { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' } = options;
  return set(tensor, { kind: 'kaiming_uniform', mode, gain: calculateGain(nonlinearity, a) });
}

/** He et al. 2015: normal with standard deviation gain / √fan. */
export function kaimingNormal<T extends Parameter | Buffer>(tensor: T, options: KaimingOptions = {}): T {
  const { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' } = options;
  return set(tensor, { kind: 'kaiming_normal', mode, gain: calculateGain(nonlinearity, a) });
}

/** Glorot & Bengio 2010: uniform within ±gain·√(6 / (fan_in + fan_out)). */
export function xavierUniform<T extends Parameter | Buffer>(tensor: T, gain = 1): T {
  return set(tensor, { kind: 'xavier_uniform', gain });
}

/** Glorot & Bengio 2010: normal with standard deviation gain·√(2 / (fan_in + fan_out)). */
export function xavierNormal<T extends Parameter | Buffer>(tensor: T, gain = 1): T {
  return set(tensor, { kind: 'xavier_normal', gain });
}
