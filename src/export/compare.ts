/** Comparisons of an export with its source: the state bit for bit, outputs by their largest difference. */
import { WeightsError } from '../errors.js';
import { DTYPE_BYTES } from '../graph/dtypes.js';
import type { DType } from '../graph/format.js';
import type { NativeTensor } from '../native/contract.js';
import { Tensor } from '../tensor.js';
import type { ExportTensor } from './format.js';

/** Integers of each width, to compare bits: of floats, NaN is unequal to itself and -0 equal to 0. */
const integers: Readonly<Record<number, DType>> = { 1: 'uint8', 2: 'int16', 4: 'int32', 8: 'int64' };

function bits(tensor: Tensor): Tensor {
  using flat = tensor.call('aten::reshape', [-1]);
  return flat.call('aten::view.dtype', { dtype: integers[DTYPE_BYTES[tensor.dtype]]! });
}

/** Whether two tensors have the same shape, dtype and bits. Both on the CPU. */
export function sameBits(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return false;
  if (a.size === 0) return true;
  using left = bits(a);
  using right = bits(b);
  using differs = left.call('aten::ne.Tensor', right);
  using any = differs.call('aten::any');
  return any.item() === 0;
}

/**
 * @throws WeightsError naming the first tensor that a file lacks, has in another shape or dtype, with other bits, or
 *   beyond those expected. The order does not matter.
 */
export function checkState(
  expected: readonly Pick<ExportTensor, 'name' | 'tensor'>[],
  found: readonly { name: string; tensor: NativeTensor }[],
  where: string,
): void {
  const byName = new Map(found.map(({ name, tensor }) => [name, tensor]));
  for (const { name, tensor } of expected) {
    const read = byName.get(name);
    if (read === undefined) throw new WeightsError({ what: `the file lacks the tensor '${name}'`, where });
    byName.delete(name);
    if (!sameBits(new Tensor(tensor), new Tensor(read))) {
      throw new WeightsError({
        what: `the tensor '${name}' is not in the file as it was written`,
        where,
      });
    }
  }
  const [unexpected] = byName.keys();
  if (unexpected !== undefined) {
    throw new WeightsError({ what: `the file holds the unexpected tensor '${unexpected}'`, where });
  }
}

export interface Difference {
  output: string;
  /** Largest absolute difference of an element; NaN if either side holds a NaN. */
  largest: number;
  /** Standard deviation of the reference's elements, the scale that `relative` is measured by. */
  std: number;
  /** `largest / std`. */
  relative: number;
}

/**
 * How far the answers of one output to different inputs lie apart: what an export that ignored its input would differ
 * by at the most. Answers of another shape than the first of that shape are compared among themselves.
 *
 * @param answers dimension 0 of the same length as `samples[i]` is taken for the batch.
 * @returns the largest distance of an element in standard deviations of the answer, as `difference` measures it; 0
 *   if there are no two answers to compare.
 */
export function spread(answers: readonly Tensor[], samples: readonly number[]): number {
  let widest = 0;
  const firsts = new Map<string, Tensor>();
  try {
    answers.forEach((answer, i) => {
      const isBatch = answer.shape.length > 0 && answer.shape[0] === samples[i];
      const count = isBatch ? answer.shape[0]! : 1;
      for (let j = 0; j < count; j++) {
        const row = isBatch ? answer.call('aten::select.int', 0, j) : answer.call('aten::alias');
        const key = row.shape.join();
        const first = firsts.get(key);
        if (first === undefined) {
          firsts.set(key, row);
          continue;
        }
        using other = row;
        const { relative } = difference('', first, other);
        if (!(relative <= widest)) widest = relative;
      }
    });
  } finally {
    for (const row of firsts.values()) row.dispose();
  }
  return widest;
}

function scalar(tensor: Tensor, op: string, ...args: (number | null | boolean | number[])[]): number {
  using result = tensor.call(op, ...args);
  return result.item();
}

/** Compares one output with the source's. Shapes that differ count as an infinite difference. */
export function difference(output: string, reference: Tensor, actual: Tensor): Difference {
  if (reference.shape.join() !== actual.shape.join()) {
    return { output, largest: Infinity, std: 0, relative: Infinity };
  }
  if (reference.size === 0) return { output, largest: 0, std: 0, relative: 0 };
  using a = reference.call('aten::to.dtype', { dtype: 'float64' });
  using b = actual.call('aten::to.dtype', { dtype: 'float64' });
  // A population of one has the deviation 0; then the value itself is the scale, and at last 1.
  const std = scalar(a, 'aten::std.correction', null, 0);
  using magnitude = a.call('aten::abs');
  const scale = [std, scalar(magnitude, 'aten::max')].find((value) => value > 0) ?? 1;
  // Equal elements differ by nothing, infinities included (∞ − ∞ is NaN).
  using equal = a.call('aten::eq.Tensor', b);
  using signed = a.call('aten::sub.Tensor', b);
  using apart = signed.call('aten::masked_fill.Scalar', equal, 0);
  using absolute = apart.call('aten::abs');
  const largest = scalar(absolute, 'aten::max');
  return { output, largest, std, relative: largest / scale };
}
