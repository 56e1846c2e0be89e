/** Pooling. What ONNX Runtime and PyTorch count differently at the borders is made explicit. */
import type { DType } from '../../../graph/format.js';
import type { Conversion, ConverterTable } from '../conversion.js';
import { plus, slotOf, times } from '../conversion.js';

/**
 * Zeros before pooling. ONNX Runtime (Pad_Fusion) and onnxsim fold them into the padding of the pooling, which is
 * −∞ for a maximum and may not count in an average; the smallest normal number of float32 keeps them from it.
 */
export function zeroBeforePooling(dtype: DType): number {
  return dtype === 'float32' ? 2 ** -126 : 0;
}

interface Window {
  kernel: number[];
  stride: number[];
  padding: number[];
  dilation: number[];
  ceil: boolean;
}

/**
 * How far windows that `ceil_mode` adds hang over the end, beyond its padding. PyTorch drops one that would start in
 * that padding. Null where the height or width is not fixed.
 */
function overhang(c: Conversion, { kernel, stride, padding, dilation, ceil }: Window): number[] | null {
  if (!ceil) return kernel.map(() => 0);
  const extra = c
    .fixed(0)
    .slice(-2)
    .map((length, i) => {
      const [s, p, k] = [stride[i]!, padding[i]!, dilation[i]! * (kernel[i]! - 1) + 1];
      if (length === null) return null;
      let out = Math.ceil((length + 2 * p - k) / s) + 1;
      if ((out - 1) * s >= length + p) out--;
      return Math.max(0, (out - 1) * s + k - length - 2 * p);
    });
  return extra.includes(null) ? null : (extra as number[]);
}

function withBatch(c: Conversion, pool: (x: string) => string): string {
  if (c.rank(0) === 4) return pool(c.tensor(0));
  const first = c.ints64([0]);
  return c.emit('Squeeze', [pool(c.emit('Unsqueeze', [c.tensor(0), first])), first]);
}

/** aten::max_pool2d(self, kernel, stride, padding, dilation, ceil_mode) */
function maxPool(c: Conversion): string {
  const kernel = c.ints(1, 2);
  const stride = c.ints(2, 2);
  const window: Window = {
    kernel,
    stride: stride.length === 0 ? kernel : stride,
    padding: c.ints(3, 2, 0),
    dilation: c.ints(4, 2, 1),
    ceil: c.bool(5),
  };
  const extra = overhang(c, window);
  // The formula of ONNX's ceil_mode is PyTorch's where no window can start in the padding at the end.
  const agrees = kernel.every(
    (k, i) => window.padding[i]! + window.stride[i]! <= window.dilation[i]! * (k - 1) + 1,
  );
  if (extra === null && !agrees) {
    throw c.unsupported('ceil_mode with this padding needs a fixed height and width');
  }
  return withBatch(c, (x) =>
    c.emit('MaxPool', [x], {
      kernel_shape: kernel,
      strides: window.stride,
      pads: [...window.padding, ...window.padding.map((p, i) => p + (extra?.[i] ?? 0))],
      dilations: window.dilation,
      ceil_mode: Number(extra === null),
    }),
  );
}

/** aten::avg_pool2d(self, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override) */
function avgPool(c: Conversion): string {
  const kernel = c.ints(1, 2);
  const given = c.ints(2, 2);
  const stride = given.length === 0 ? kernel : given;
  const padding = c.ints(3, 2, 0);
  const padded = padding.some((p) => p > 0);
  const divisor = c.isNull(6) ? null : c.number(6);
  const countPadding = c.bool(5, true);
  // Versions of ONNX Runtime disagree on what ceil_mode means for averages: it is always made explicit.
  const extra = overhang(c, { kernel, stride, padding, dilation: [1, 1], ceil: c.bool(4) });
  if (extra === null) throw c.unsupported('ceil_mode needs a fixed height and width');
  const hangs = extra.some((n) => n > 0);
  if (divisor !== null && hangs) throw c.unsupported('divisor_override with ceil_mode');
  return withBatch(c, (input) => {
    let x = input;
    let own = padding;
    if (padded && countPadding && hangs) {
      // Zeros that count are made part of the input; only what hangs over remains padding.
      x = c.emit('Pad', [
        x,
        c.ints64([0, 0, ...padding, 0, 0, ...padding]),
        c.scalar(zeroBeforePooling(c.dtype(0)), c.dtype(0)),
      ]);
      own = [0, 0];
    }
    const count = Number(divisor !== null || (countPadding && own === padding && padded));
    const pooled = c.emit('AveragePool', [x], {
      kernel_shape: kernel,
      strides: stride,
      pads: [...own, ...own.map((p, i) => p + extra[i]!)],
      count_include_pad: count,
    });
    if (divisor === null) return pooled;
    return c.emit('Mul', [pooled, c.scalar((kernel[0]! * kernel[1]!) / divisor, c.dtype(0))]);
  });
}

/** What adaptive pooling asks of each dimension. */
interface Adaptive {
  /** Length of the input; null if it depends on it. */
  from: number | null;
  to: number;
}

/** The last two dimensions, or null for one that keeps its length. */
function adaptive(c: Conversion): (Adaptive | null)[] {
  const slot = c.slot(0);
  const from = c.fixed(0).slice(-2);
  const target = c.list(1);
  if (target.some((item) => item !== null && slotOf(item) !== null)) throw c.unsupported('sizes as tensors');
  const sizes = c.sizes(1);
  return from.map((length, i) => {
    const size = sizes[i] ?? sizes[0]!;
    const to = c.fold(size);
    if (typeof to === 'number') return to === length ? null : { from: length, to };
    const same = JSON.stringify(size);
    const rank = c.rank(0);
    const dims = [rank - 2 + i, i - 2];
    if (dims.some((dim) => same === JSON.stringify(['size', slot, dim]))) return null;
    throw c.unsupported('its output size depends on the size of the input');
  });
}

/** The bounds of bin `i` of `to`, as in PyTorch. */
function bin(i: number, from: number, to: number): [number, number] {
  return [Math.floor((i * from) / to), Math.ceil(((i + 1) * from) / to)];
}

/** Every bin of a dimension on its own: for lengths that depend on the input. */
function binned(
  c: Conversion,
  reduce: 'ReduceMean' | 'ReduceMax',
  x: string,
  dim: number,
  to: number,
): string {
  const length = c.length(c.slot(0), dim);
  const axes = c.ints64([dim]);
  if (to === 1) return c.emit(reduce, [x, axes]);
  const bins = Array.from({ length: to }, (_, i) => {
    const begin = c.fold(['//', times(length, i), to]);
    const end = c.fold(['//', plus(times(length, i + 1), to - 1), to]);
    return c.emit(reduce, [c.slice(x, dim, begin, end), axes]);
  });
  return c.emit('Concat', bins, { axis: dim });
}

function divides(size: Adaptive | null): boolean {
  return size === null || (size.from !== null && size.from % size.to === 0);
}

/** The plain pooling that equals an adaptive one whose bins are all as long. */
function divided(sizes: (Adaptive | null)[]): { kernel_shape: number[]; strides: number[] } {
  const kernel = sizes.map((size) => (size === null ? 1 : size.from! / size.to));
  return { kernel_shape: kernel, strides: kernel };
}

/** aten::adaptive_avg_pool2d(self, output_size) */
function adaptiveAvgPool(c: Conversion): string {
  const sizes = adaptive(c);
  if (sizes.every((size) => size === null)) return c.tensor(0);
  const rank = c.rank(0);
  if (sizes.every((size) => size?.to === 1)) {
    if (rank === 4) return c.emit('GlobalAveragePool', [c.tensor(0)]);
    return c.emit('ReduceMean', [c.tensor(0), c.ints64([rank - 2, rank - 1])]);
  }
  if (sizes.every(divides)) return withBatch(c, (x) => c.emit('AveragePool', [x], divided(sizes)));
  // Bins of different lengths: a product with the matrix of their weights, for each dimension on its own.
  let x = c.tensor(0);
  for (const [i, size] of sizes.entries()) {
    if (size === null) continue;
    const { from, to } = size;
    if (to === 1 || from === null) {
      x = binned(c, 'ReduceMean', x, rank - 2 + i, to);
      continue;
    }
    const weights = Array.from({ length: to * from }, () => 0);
    for (let bins = 0; bins < to; bins++) {
      const [begin, end] = bin(bins, from, to);
      for (let j = begin; j < end; j++) {
        // [to, from] from the left for the height, [from, to] from the right for the width.
        weights[i === 0 ? bins * from + j : j * to + bins] = 1 / (end - begin);
      }
    }
    const matrix = c.constant(weights, c.dtype(0), i === 0 ? [to, from] : [from, to]);
    x = c.emit('MatMul', i === 0 ? [matrix, x] : [x, matrix]);
  }
  return x;
}

/** aten::adaptive_max_pool2d(self, output_size), its values only */
function adaptiveMaxPool(c: Conversion): string[] {
  if (c.outSlot(1) !== null) throw c.unsupported('the indices of adaptive_max_pool2d');
  const sizes = adaptive(c);
  if (sizes.every((size) => size === null)) return [c.tensor(0)];
  const rank = c.rank(0);
  if (rank === 4 && sizes.every((size) => size?.to === 1)) return [c.emit('GlobalMaxPool', [c.tensor(0)])];
  if (sizes.every(divides)) return [withBatch(c, (x) => c.emit('MaxPool', [x], divided(sizes)))];
  let x = c.tensor(0);
  for (const [i, size] of sizes.entries()) {
    if (size === null) continue;
    x = binned(c, 'ReduceMax', x, rank - 2 + i, size.to);
  }
  return [x];
}

export const poolConverters: ConverterTable = {
  'aten::max_pool2d': maxPool,
  'aten::avg_pool2d': avgPool,
  'aten::adaptive_avg_pool2d': adaptiveAvgPool,
  'aten::adaptive_max_pool2d': adaptiveMaxPool,
};
