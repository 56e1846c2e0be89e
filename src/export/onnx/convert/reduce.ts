/** Reductions, softmax and sorting. */
import type { SizeExpr } from '../../../graph/format.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';
import { times } from '../conversion.js';
import { operand } from './elementwise.js';

/** Over all dimensions, or over those of argument 1. A result of another dtype is computed in it. */
function reduction(op: string, dims: number | null): Converter {
  return (c) => {
    const { dtype } = c.result;
    const x = operand(c, 0, dtype);
    const axes = dims === null ? allDims(c) : c.dims(dims);
    if (axes.length === 0) return x;
    return c.emit(op, [x, c.ints64(axes)], { keepdims: Number(dims !== null && c.bool(dims + 1)) });
  };
}

function allDims(c: Conversion): number[] {
  return Array.from({ length: c.rank(0) }, (_, dim) => dim);
}

/** Mean and variance over `axes`; the mean keeps its dimensions. */
function moments(c: Conversion): { mean: string; variance: string; axes: number[]; keepdim: boolean } {
  const axes = c.dims(1);
  const keepdim = c.bool(3);
  const correction = c.number(2, 1);
  const x = c.tensor(0);
  const indices = c.ints64(axes);
  const mean = c.emit('ReduceMean', [x, indices], { keepdims: 1 });
  const centred = c.emit('Sub', [x, mean]);
  const squares = c.emit('Mul', [centred, centred]);
  const biased = c.emit('ReduceMean', [squares, indices], { keepdims: Number(keepdim) });
  return { mean, variance: corrected(c, biased, axes, correction), axes, keepdim };
}

/** Bessel's correction: n / (n − correction). */
function corrected(c: Conversion, biased: string, axes: readonly number[], correction: number): string {
  if (correction === 0) return biased;
  const { dtype } = c.result;
  const count = axes.reduce((n: SizeExpr, dim) => times(n, c.length(c.slot(0), dim)), 1);
  const n = c.fold(count);
  if (typeof n === 'number') return c.emit('Mul', [biased, c.scalar(n / (n - correction), dtype)]);
  const length = c.cast(c.sizeScalar(count), 'int64', dtype);
  const less = c.emit('Sub', [length, c.scalar(correction, dtype)]);
  return c.emit('Div', [c.emit('Mul', [biased, length]), less]);
}

/** aten::var_mean.correction(self, dim?, *, correction, keepdim) */
function varMean(c: Conversion): string[] {
  const { mean, variance, axes, keepdim } = moments(c);
  return [variance, keepdim ? mean : c.emit('Squeeze', [mean, c.ints64(axes)])];
}

/** aten::argmax / argmin(self, dim?, keepdim): the first where several are equal */
function arg(op: 'ArgMax' | 'ArgMin'): Converter {
  return (c) => {
    if (!c.isNull(1)) return c.emit(op, [c.tensor(0)], { axis: c.dim(1), keepdims: Number(c.bool(2)) });
    const flat = c.emit('Reshape', [c.tensor(0), c.ints64([-1])]);
    const index = c.emit(op, [flat], { axis: 0, keepdims: 0 });
    if (!c.bool(2)) return index;
    return c.emit('Reshape', [index, c.ints64(allDims(c).map(() => 1))]);
  };
}

/** aten::max.dim / min.dim(self, dim, keepdim): values and indices */
function extreme(values: 'ReduceMax' | 'ReduceMin', indices: 'ArgMax' | 'ArgMin'): Converter {
  return (c) => {
    const axis = c.dim(1);
    const keepdims = Number(c.bool(2));
    return [
      c.outSlot(0) === null ? '' : c.emit(values, [c.tensor(0), c.ints64([axis])], { keepdims }),
      c.outSlot(1) === null ? '' : c.emit(indices, [c.tensor(0)], { axis, keepdims }),
    ];
  };
}

/** aten::softmax.int(self, dim, dtype?) */
function softmax(op: 'Softmax' | 'LogSoftmax'): Converter {
  return (c) => c.emit(op, [operand(c, 0, c.result.dtype)], { axis: c.dim(1) });
}

/** aten::topk(self, k, dim, largest, sorted) */
function topk(c: Conversion): string[] {
  const axis = c.dim(2, -1);
  const k = c.sizeTensor([c.size(1)]);
  return c.emitMany(
    'TopK',
    [c.tensor(0), k],
    { axis, largest: Number(c.bool(3, true)), sorted: Number(c.bool(4, true)) },
    2,
  );
}

/** aten::cumsum(self, dim, dtype?) */
const cumsum: Converter = (c) =>
  c.emit('CumSum', [operand(c, 0, c.result.dtype), c.scalar(c.dim(1), 'int64')]);

export const reduceConverters: ConverterTable = {
  'aten::sum': reduction('ReduceSum', null),
  'aten::sum.dim_IntList': reduction('ReduceSum', 1),
  'aten::mean': reduction('ReduceMean', null),
  'aten::mean.dim': reduction('ReduceMean', 1),
  'aten::amax': reduction('ReduceMax', 1),
  'aten::amin': reduction('ReduceMin', 1),
  'aten::max': reduction('ReduceMax', null),
  'aten::min': reduction('ReduceMin', null),
  'aten::prod': reduction('ReduceProd', null),
  'aten::logsumexp': reduction('ReduceLogSumExp', 1),
  'aten::max.other': (c) => c.emit('Max', [c.tensor(0), c.tensor(1)]),
  'aten::min.other': (c) => c.emit('Min', [c.tensor(0), c.tensor(1)]),
  'aten::max.dim': extreme('ReduceMax', 'ArgMax'),
  'aten::min.dim': extreme('ReduceMin', 'ArgMin'),
  'aten::var.correction': (c) => moments(c).variance,
  'aten::std.correction': (c) => c.emit('Sqrt', [moments(c).variance]),
  'aten::var_mean.correction': varMean,
  'aten::argmax': arg('ArgMax'),
  'aten::argmin': arg('ArgMin'),
  'aten::softmax.int': softmax('Softmax'),
  'aten::log_softmax.int': softmax('LogSoftmax'),
  'aten::topk': topk,
  'aten::cumsum': cumsum,
};
