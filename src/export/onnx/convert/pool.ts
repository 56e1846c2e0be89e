/** Pooling. What ONNX Runtime and PyTorch count differently at the borders is made explicit. */
import type { DType, SizeExpr } from '../../../graph/format.js';
import type { Conversion, ConverterTable } from '../conversion.js';
import { minus, plus, times } from '../conversion.js';

/**
 * Zeros before pooling. ONNX Runtime (Pad_Fusion) and onnxsim fold them into the padding of the pooling, which is
 * −∞ for a maximum and may not count in an average; the smallest normal number of float32 keeps them from it.
 */
export function zeroBeforePooling(dtype: DType): number {
  return dtype === 'float32' ? 2 ** -126 : 0;
}

/** Below every float32, so that padding never is the maximum. */
const LOWEST = -3.4028234663852886e38;

interface Window {
  kernel: number[];
  stride: number[];
  padding: number[];
  dilation: number[];
  ceil: boolean;
}

/**
 * How far the windows that `ceil_mode` adds hang over the end, beyond its padding. PyTorch drops one that would start
 * in that padding.
 */
function overhang(c: Conversion, { kernel, stride, padding, dilation, ceil }: Window): SizeExpr[] {
  return kernel.map((k, i) => {
    if (!ceil) return 0;
    const [s, p, reach] = [stride[i]!, padding[i]!, dilation[i]! * (k - 1) + 1];
    const length = c.length(c.slot(0), i - 2);
    // Windows after the first one, the last of which may start beyond the input: then it does not count.
    const all: SizeExpr = ['//', plus(length, 2 * p - reach + s - 1), s];
    const beyond: SizeExpr = ['min', 1, ['max', 0, minus(times(all, s), plus(length, p - 1))]];
    const after = minus(all, beyond);
    return c.fold(['max', 0, minus(plus(times(after, s), reach), plus(length, 2 * p))]);
  });
}

/** ONNX pools want a batch: an input without one gets it for the moment. */
export function withBatch(c: Conversion, pool: (x: string) => string): string {
  if (c.rank(0) === 4) return pool(c.tensor(0));
  const first = c.ints64([0]);
  return c.emit('Squeeze', [pool(c.emit('Unsqueeze', [c.tensor(0), first])), first]);
}

/** `x` with `value` before and after its last two dimensions. */
function padded(c: Conversion, x: string, before: SizeExpr[], after: SizeExpr[], value: number): string {
  if ([...before, ...after].every((size) => size === 0)) return x;
  const sizes = c.sizeTensor([0, 0, ...before, 0, 0, ...after]);
  return c.emit('Pad', [x, sizes, c.scalar(value, c.dtype(0))]);
}

function windowOf(c: Conversion, dilationAt: number | null, ceilAt: number): Window {
  const kernel = c.ints(1, 2);
  const stride = c.ints(2, 2);
  return {
    kernel,
    stride: stride.length === 0 ? kernel : stride,
    padding: c.ints(3, 2, 0),
    dilation: dilationAt === null ? [1, 1] : c.ints(dilationAt, 2, 1),
    ceil: c.bool(ceilAt),
  };
}

const areNumbers = (sizes: readonly SizeExpr[]): sizes is number[] =>
  sizes.every((size) => typeof size === 'number');

/** aten::max_pool2d(self, kernel, stride, padding, dilation, ceil_mode) */
function maxPool(c: Conversion): string {
  const window = windowOf(c, 4, 5);
  const { kernel, stride, padding, dilation } = window;
  const extra = overhang(c, window);
  const shared = { kernel_shape: kernel, strides: stride, dilations: dilation };
  return withBatch(c, (x) => {
    if (areNumbers(extra)) {
      const pads = [...padding, ...padding.map((p, i) => p + extra[i]!)];
      return c.emit('MaxPool', [x], { ...shared, pads });
    }
    // The formula of ONNX's ceil_mode is PyTorch's where no window can start in the padding at the end.
    if (kernel.every((k, i) => padding[i]! + stride[i]! <= dilation[i]! * (k - 1) + 1)) {
      return c.emit('MaxPool', [x], { ...shared, pads: [...padding, ...padding], ceil_mode: 1 });
    }
    const end = padding.map((p, i) => plus(p, extra[i]!));
    return c.emit('MaxPool', [padded(c, x, padding, end, LOWEST)], shared);
  });
}

/**
 * aten::avg_pool2d(self, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override). Versions of ONNX
 * Runtime disagree on what ceil_mode means for averages: it is always made explicit.
 */
function avgPool(c: Conversion): string {
  const window = windowOf(c, null, 4);
  const { kernel, stride, padding } = window;
  const extra = overhang(c, window);
  const shared = { kernel_shape: kernel, strides: stride };
  const counts = c.bool(5, true);
  return withBatch(c, (x) => {
    if (c.isNull(6) && extra.every((n) => n === 0)) {
      const pads = [...padding, ...padding];
      const own = counts && padding.some((p) => p > 0);
      return c.emit('AveragePool', [x], { ...shared, pads, count_include_pad: Number(own) });
    }
    // Sums of all that a window covers, over how many of it count.
    const zero = zeroBeforePooling(c.dtype(0));
    const end = padding.map((p, i) => plus(p, extra[i]!));
    const mean = c.emit('AveragePool', [padded(c, x, padding, end, zero)], shared);
    const area = kernel[0]! * kernel[1]!;
    if (!c.isNull(6)) return c.emit('Mul', [mean, c.scalar(area / c.number(6), c.dtype(0))]);
    const size = [0, 1].map((i) => c.length(c.slot(0), i - 2));
    let ones = c.emit('Expand', [c.scalar(1, c.dtype(0)), c.sizeTensor([1, 1, ...size])]);
    if (counts) ones = padded(c, ones, padding, padding, 1);
    const outside = counts ? [0, 0] : padding;
    const outsideEnd = counts ? extra : end;
    const share = c.emit('AveragePool', [padded(c, ones, outside, outsideEnd, zero)], shared);
    return c.emit('Div', [mean, share]);
  });
}

export const poolConverters: ConverterTable = {
  'aten::max_pool2d': maxPool,
  'aten::avg_pool2d': avgPool,
};
