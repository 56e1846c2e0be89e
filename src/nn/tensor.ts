/**
 * The symbolic tensor that flows through `forward` while a model is traced. Nothing is computed: every method
 * adds a node to the graph. Names and meaning are PyTorch's, in camelCase; sizes may be numbers or SymInts.
 */
import { ArgumentError } from '../errors.js';
import type { DType } from '../graph/format.js';
import { activeRecorder, type CallArgument, type IntLike, type Recorder } from './recorder.js';
import { SymInt } from './sym_int.js';

/** A tensor or a number, as PyTorch's operators take them. */
export type Operand = SymbolicTensor | IntLike;

/** Which dimensions a reduction removes: one, several, or all if undefined. */
export type Dims = number | readonly number[];

export interface ReduceOptions {
  /** Keep reduced dimensions with length 1. Default false. */
  keepdim?: boolean;
}

/**
 * Calls any operator by its name with overload, as in `call('aten::add.Scalar', [x, 1])`. Arguments are in the
 * order of the schema; missing trailing ones take its defaults. With `outputs`, results come as an array.
 */
export function call(op: string, args: readonly CallArgument[]): SymbolicTensor;
export function call(
  op: string,
  args: readonly CallArgument[],
  options: { outputs: number },
): SymbolicTensor[];
export function call(
  op: string,
  args: readonly CallArgument[],
  options?: { outputs: number },
): SymbolicTensor | SymbolicTensor[] {
  const results = activeRecorder(op).record(op, args, options?.outputs ?? 1);
  return options === undefined ? results[0]! : results;
}

/** An operator with two overloads: `.Tensor` where the other operand is a tensor, `.Scalar` where it is a number. */
function binary(op: string, self: SymbolicTensor, other: Operand): SymbolicTensor {
  return call(`${op}.${other instanceof SymbolicTensor ? 'Tensor' : 'Scalar'}`, [self, other]);
}

function dimList(dim: Dims): number[] {
  return typeof dim === 'number' ? [dim] : [...dim];
}

export class SymbolicTensor {
  /** The trace that made it and its slot there; null for parameters and buffers, which belong to every trace. */
  readonly recorder: Recorder | null;
  readonly slot: number | null;

  constructor(recorder: Recorder | null, slot: number | null) {
    this.recorder = recorder;
    this.slot = slot;
  }

  // ---- shape

  /** Length of a dimension (negative counts from the end), symbolic. */
  size(dim: number): SymInt {
    if (!Number.isSafeInteger(dim)) {
      throw new ArgumentError({ what: `size() takes a dimension, an integer, not ${String(dim)}` });
    }
    return new SymInt(['size', activeRecorder('size()').slotOf(this), dim]);
  }

  /** All lengths. Relies on the number of dimensions of the example input. */
  get shape(): SymInt[] {
    return Array.from({ length: this.dim() }, (_, i) => this.size(i));
  }

  /** Number of dimensions, for the example input. */
  dim(): number {
    const recorder = activeRecorder('dim()');
    return recorder.shapeOf(recorder.slotOf(this)).length;
  }

  /** Number of elements, symbolic. */
  numel(): SymInt {
    return this.shape.reduce((product, length) => product.mul(length), new SymInt(1));
  }

  // ---- arithmetic

  add(other: Operand): SymbolicTensor {
    return binary('aten::add', this, other);
  }
  sub(other: Operand): SymbolicTensor {
    return binary('aten::sub', this, other);
  }
  /** `other − this`. */
  rsub(other: Operand): SymbolicTensor {
    return binary('aten::rsub', this, other);
  }
  mul(other: Operand): SymbolicTensor {
    return binary('aten::mul', this, other);
  }
  div(other: Operand): SymbolicTensor {
    return binary('aten::div', this, other);
  }
  pow(exponent: Operand): SymbolicTensor {
    return call(`aten::pow.Tensor_${exponent instanceof SymbolicTensor ? 'Tensor' : 'Scalar'}`, [
      this,
      exponent,
    ]);
  }
  neg(): SymbolicTensor {
    return call('aten::neg', [this]);
  }
  abs(): SymbolicTensor {
    return call('aten::abs', [this]);
  }
  exp(): SymbolicTensor {
    return call('aten::exp', [this]);
  }
  log(): SymbolicTensor {
    return call('aten::log', [this]);
  }
  sqrt(): SymbolicTensor {
    return call('aten::sqrt', [this]);
  }
  rsqrt(): SymbolicTensor {
    return call('aten::rsqrt', [this]);
  }
  reciprocal(): SymbolicTensor {
    return call('aten::reciprocal', [this]);
  }
  square(): SymbolicTensor {
    return call('aten::square', [this]);
  }
  sigmoid(): SymbolicTensor {
    return call('aten::sigmoid', [this]);
  }
  tanh(): SymbolicTensor {
    return call('aten::tanh', [this]);
  }
  relu(): SymbolicTensor {
    return call('aten::relu', [this]);
  }
  /** At least one of the bounds. */
  clamp(bounds: { min?: number; max?: number }): SymbolicTensor {
    return call('aten::clamp', [this, bounds.min, bounds.max]);
  }
  matmul(other: SymbolicTensor): SymbolicTensor {
    return call('aten::matmul', [this, other]);
  }
  bmm(other: SymbolicTensor): SymbolicTensor {
    return call('aten::bmm', [this, other]);
  }

  // ---- comparison (results are bool tensors)

  eq(other: Operand): SymbolicTensor {
    return binary('aten::eq', this, other);
  }
  ne(other: Operand): SymbolicTensor {
    return binary('aten::ne', this, other);
  }
  lt(other: Operand): SymbolicTensor {
    return binary('aten::lt', this, other);
  }
  le(other: Operand): SymbolicTensor {
    return binary('aten::le', this, other);
  }
  gt(other: Operand): SymbolicTensor {
    return binary('aten::gt', this, other);
  }
  ge(other: Operand): SymbolicTensor {
    return binary('aten::ge', this, other);
  }
  maskedFill(mask: SymbolicTensor, value: number): SymbolicTensor {
    return call('aten::masked_fill.Scalar', [this, mask, value]);
  }

  // ---- reductions

  mean(dim?: Dims, options: ReduceOptions = {}): SymbolicTensor {
    if (dim === undefined) return call('aten::mean', [this]);
    return call('aten::mean.dim', [this, dimList(dim), options.keepdim ?? false]);
  }
  sum(dim?: Dims, options: ReduceOptions = {}): SymbolicTensor {
    if (dim === undefined) return call('aten::sum', [this]);
    return call('aten::sum.dim_IntList', [this, dimList(dim), options.keepdim ?? false]);
  }
  /** Variance; `correction` 1 (default) is the unbiased estimate. */
  var(dim?: Dims, options: ReduceOptions & { correction?: number } = {}): SymbolicTensor {
    const dims = dim === undefined ? null : dimList(dim);
    return call('aten::var.correction', [this, dims, options.correction ?? 1, options.keepdim ?? false]);
  }
  std(dim?: Dims, options: ReduceOptions & { correction?: number } = {}): SymbolicTensor {
    const dims = dim === undefined ? null : dimList(dim);
    return call('aten::std.correction', [this, dims, options.correction ?? 1, options.keepdim ?? false]);
  }
  amax(dim: Dims = [], options: ReduceOptions = {}): SymbolicTensor {
    return call('aten::amax', [this, dimList(dim), options.keepdim ?? false]);
  }
  amin(dim: Dims = [], options: ReduceOptions = {}): SymbolicTensor {
    return call('aten::amin', [this, dimList(dim), options.keepdim ?? false]);
  }
  argmax(dim?: number, options: ReduceOptions = {}): SymbolicTensor {
    return call('aten::argmax', [this, dim, options.keepdim ?? false]);
  }
  argmin(dim?: number, options: ReduceOptions = {}): SymbolicTensor {
    return call('aten::argmin', [this, dim, options.keepdim ?? false]);
  }
  softmax(dim: number): SymbolicTensor {
    return call('aten::softmax.int', [this, dim]);
  }
  logSoftmax(dim: number): SymbolicTensor {
    return call('aten::log_softmax.int', [this, dim]);
  }

  // ---- shape changes

  /** One length may be −1. */
  reshape(...shape: readonly IntLike[]): SymbolicTensor {
    return call('aten::reshape', [this, shape]);
  }
  /** The same as `reshape`: a graph may run in channels-last layout, where PyTorch's strict view would fail. */
  view(...shape: readonly IntLike[]): SymbolicTensor {
    return this.reshape(...shape);
  }
  permute(...dims: readonly number[]): SymbolicTensor {
    return call('aten::permute', [this, dims]);
  }
  transpose(dim0: number, dim1: number): SymbolicTensor {
    return call('aten::transpose.int', [this, dim0, dim1]);
  }
  flatten(startDim = 0, endDim = -1): SymbolicTensor {
    return call('aten::flatten.using_ints', [this, startDim, endDim]);
  }
  unflatten(dim: number, sizes: readonly IntLike[]): SymbolicTensor {
    return call('aten::unflatten.int', [this, dim, sizes]);
  }
  /** Removes the dimension if its length is 1; without an argument every such dimension. */
  squeeze(dim?: number): SymbolicTensor {
    return dim === undefined ? call('aten::squeeze', [this]) : call('aten::squeeze.dim', [this, dim]);
  }
  unsqueeze(dim: number): SymbolicTensor {
    return call('aten::unsqueeze', [this, dim]);
  }
  /** −1 keeps a length. */
  expand(...shape: readonly IntLike[]): SymbolicTensor {
    return call('aten::expand', [this, shape]);
  }
  repeat(...repeats: readonly IntLike[]): SymbolicTensor {
    return call('aten::repeat', [this, repeats]);
  }
  roll(shifts: readonly IntLike[], dims: readonly number[]): SymbolicTensor {
    return call('aten::roll', [this, shifts, dims]);
  }
  flip(...dims: readonly number[]): SymbolicTensor {
    return call('aten::flip', [this, dims]);
  }
  contiguous(): SymbolicTensor {
    return call('aten::contiguous', [this]);
  }
  /** Cuts the gradient. */
  detach(): SymbolicTensor {
    return call('aten::detach', [this]);
  }
  to(dtype: DType): SymbolicTensor {
    return call('aten::to.dtype', [this, { dtype }]);
  }

  // ---- pieces

  /** `x[:, …, index]` with the index at `dim`; removes the dimension. */
  select(dim: number, index: IntLike): SymbolicTensor {
    return call('aten::select.int', [this, dim, index]);
  }
  narrow(dim: number, start: IntLike, length: IntLike): SymbolicTensor {
    return call('aten::narrow', [this, dim, start, length]);
  }
  /** `x[start:end:step]` at `dim`, with Python's rules; null or undefined bounds are open. */
  slice(dim: number, start?: IntLike | null, end?: IntLike | null, step: IntLike = 1): SymbolicTensor {
    return call('aten::slice.Tensor', [this, dim, start, end, step]);
  }
  indexSelect(dim: number, index: SymbolicTensor): SymbolicTensor {
    return call('aten::index_select', [this, dim, index]);
  }
  gather(dim: number, index: SymbolicTensor): SymbolicTensor {
    return call('aten::gather', [this, dim, index]);
  }

  /**
   * At most `chunks` pieces of equal length (the last may be shorter). As in PyTorch there are fewer where the
   * length is too small; their number is guarded.
   */
  chunk(chunks: number, dim = 0): SymbolicTensor[] {
    if (!Number.isSafeInteger(chunks) || chunks < 1) {
      throw new ArgumentError({ what: `chunk() takes a number of pieces from 1 on, not ${String(chunks)}` });
    }
    const size = this.size(dim);
    const pieces = size.ceildiv(size.ceildiv(chunks).max(1)).max(1);
    return call('aten::chunk', [this, chunks, dim], { outputs: pieces.value });
  }

  /** Pieces of `size` (the last may be shorter; their number is guarded), or pieces of the given lengths. */
  split(size: number | readonly IntLike[], dim = 0): SymbolicTensor[] {
    if (typeof size !== 'number') {
      return call('aten::split_with_sizes', [this, size, dim], { outputs: size.length });
    }
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new ArgumentError({ what: `split() takes a length from 1 on, not ${String(size)}` });
    }
    const pieces = this.size(dim).ceildiv(size).max(1);
    return call('aten::split.Tensor', [this, size, dim], { outputs: pieces.value });
  }

  /** All slices along `dim`, which is removed; its length is guarded. */
  unbind(dim = 0): SymbolicTensor[] {
    return call('aten::unbind.int', [this, dim], { outputs: this.size(dim).value });
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `${this.constructor.name}(${this.slot === null ? 'state' : `%${this.slot}`})`;
  }
}

/** A tensor that, returned from forward() of the root module, is an auxiliary output. */
export class AuxiliaryTensor extends SymbolicTensor {}

/**
 * Marks an output that only training needs, such as the loss head halfway up a segmenter: `return { out, aux:
 * auxiliary(aux) }`. A run in eval mode does not compute it unless it is asked for by name.
 */
export function auxiliary(output: SymbolicTensor): SymbolicTensor {
  const recorder = activeRecorder('auxiliary()');
  return new AuxiliaryTensor(recorder, recorder.slotOf(output));
}

/** Joins tensors along an existing dimension. */
export function cat(tensors: readonly SymbolicTensor[], dim = 0): SymbolicTensor {
  return call('aten::cat', [tensors, dim]);
}

/** Joins tensors along a new dimension. */
export function stack(tensors: readonly SymbolicTensor[], dim = 0): SymbolicTensor {
  return call('aten::stack', [tensors, dim]);
}

/** Elementwise `condition ? a : b`. */
export function where(condition: SymbolicTensor, a: SymbolicTensor, b: Operand): SymbolicTensor {
  return b instanceof SymbolicTensor
    ? call('aten::where.self', [condition, a, b])
    : call('aten::where.ScalarOther', [condition, a, b]);
}
