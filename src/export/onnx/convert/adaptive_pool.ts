/** Adaptive pooling, whose bins follow from the sizes of input and output. */
import type { Conversion, ConverterTable } from '../conversion.js';
import { slotOf } from '../arguments.js';
import { plus, times } from '../conversion.js';
import { withBatch } from './pool.js';

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

export const adaptivePoolConverters: ConverterTable = {
  'aten::adaptive_avg_pool2d': adaptiveAvgPool,
  'aten::adaptive_max_pool2d': adaptiveMaxPool,
};
