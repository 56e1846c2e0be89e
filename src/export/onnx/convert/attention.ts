/** Attention, written out: the fused operator is younger than opset 18. */
import type { DType } from '../../../graph/format.js';
import type { Conversion, ConverterTable } from '../conversion.js';

/** The queries times the scale, by default 1 / √width. */
function scaled(c: Conversion, q: number, dtype: DType): string {
  const width = c.length(q, -1);
  if (!c.isNull(6)) return c.emit('Mul', [c.value(q), c.scalar(c.number(6), dtype)]);
  if (typeof width === 'number') return c.emit('Mul', [c.value(q), c.scalar(1 / Math.sqrt(width), dtype)]);
  return c.emit('Div', [c.value(q), c.emit('Sqrt', [c.cast(c.sizeScalar(width), 'int64', dtype)])]);
}

/** aten::scaled_dot_product_attention(q, k, v, mask?, dropout, causal, *, scale?, enable_gqa): softmax(q·kᵀ·scale + mask)·v */
function attention(c: Conversion): string {
  const { dtype } = c.result;
  const [q, k] = [c.slot(0), c.slot(1)];
  if (c.bool(7)) throw c.unsupported('grouped queries');
  const rank = c.shapes.rank(k);
  const perm = Array.from({ length: rank }, (_, i) => i);
  [perm[rank - 1], perm[rank - 2]] = [rank - 2, rank - 1];
  const scaledQ = scaled(c, q, dtype);
  let scores = c.emit('MatMul', [scaledQ, c.emit('Transpose', [c.value(k)], { perm })]);
  const lowest = (): string => c.scalar(-1e30, dtype);
  if (c.bool(5)) {
    const size = [c.length(q, -2), c.length(k, -2)];
    const ones = c.emit('Expand', [c.scalar(1, 'int32'), c.sizeTensor(size)]);
    const lower = c.cast(c.emit('Trilu', [ones], { upper: 0 }), 'int32', 'bool');
    scores = c.emit('Where', [lower, scores, lowest()]);
  }
  const mask = c.optionalSlot(3);
  if (mask !== null) {
    const value = c.value(mask);
    scores =
      c.shapes.dtype(mask) === 'bool'
        ? c.emit('Where', [value, scores, lowest()])
        : c.emit('Add', [scores, c.cast(value, c.shapes.dtype(mask), dtype)]);
  }
  return c.emit('MatMul', [c.emit('Softmax', [scores], { axis: -1 }), c.tensor(2)]);
}

export const attentionConverters: ConverterTable = {
  'aten::scaled_dot_product_attention': attention,
};
