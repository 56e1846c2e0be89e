/** What the conversion of one node has at hand: its arguments, the sizes of its tensors, the graph under way. */
import { ExportError } from '../../errors.js';
import type { DType, GraphArg, GraphNode, SizeExpr } from '../../graph/format.js';
import { nodeName } from '../../graph/reader.js';
import { combine } from '../../graph/size_expr.js';
import type { Attributes, OnnxBuilder } from './builder.js';
import { dataTypes } from './proto.js';
import type { Shapes } from './shapes.js';
import type { Weights } from './weights.js';

/** Writes a node's counterpart and returns the names of its results. */
export type Converter = (c: Conversion) => string | string[];
/** By operator with its overload. */
export type ConverterTable = Readonly<Record<string, Converter>>;

/** Open ends of slices. */
export const INT64_MAX = 2 ** 63 - 1024;
export const INT64_MIN = -(2 ** 63) + 1024;

export class Conversion {
  constructor(
    readonly node: GraphNode,
    private readonly index: number,
    readonly shapes: Shapes,
    private readonly builder: OnnxBuilder,
    readonly weights: Weights,
    /** The ONNX name of a slot. */
    private readonly nameOf: (slot: number) => string,
    /** Names of sizes already computed, by expression. */
    private readonly sizeNames: Map<string, string>,
    /** Operators that read a slot. */
    readonly readers: (slot: number) => ReadonlySet<string>,
  ) {}

  // ---- arguments

  arg(i: number): GraphArg {
    return this.node.args[i] ?? null;
  }

  /** The slot of a tensor argument. */
  slot(i: number): number {
    const slot = this.optionalSlot(i);
    if (slot === null) throw this.unsupported(`argument ${i} is not a tensor`);
    return slot;
  }

  optionalSlot(i: number): number | null {
    return slotOf(this.arg(i));
  }

  /** The ONNX value of a tensor argument. */
  tensor(i: number): string {
    return this.nameOf(this.slot(i));
  }

  optionalTensor(i: number): string | null {
    const slot = this.optionalSlot(i);
    return slot === null ? null : this.nameOf(slot);
  }

  value(slot: number): string {
    return this.nameOf(slot);
  }

  slots(i: number): number[] {
    return this.list(i).map((item) => {
      const slot = slotOf(item);
      if (slot === null) throw this.unsupported(`argument ${i} holds something else than tensors`);
      return slot;
    });
  }

  list(i: number): GraphArg[] {
    const arg = this.arg(i);
    if (arg === null) return [];
    return Array.isArray(arg) ? arg : [arg];
  }

  isNull(i: number): boolean {
    return this.arg(i) === null;
  }

  number(i: number, fallback?: number): number {
    const arg = this.arg(i) ?? fallback ?? null;
    if (typeof arg === 'number') return arg;
    if (typeof arg === 'boolean') return Number(arg);
    const size = this.sizeOf(arg, i);
    const value = this.shapes.fold(size);
    if (value === null) throw this.unsupported(`argument ${i} depends on the size of the input`);
    return value;
  }

  bool(i: number, fallback = false): boolean {
    const arg = this.arg(i);
    if (arg === null) return fallback;
    return typeof arg === 'number' ? arg !== 0 : arg === true;
  }

  text(i: number, fallback: string): string {
    const arg = this.arg(i);
    return typeof arg === 'string' ? arg : fallback;
  }

  dtypeArg(i: number): DType | null {
    const arg = this.arg(i);
    return typeof arg === 'object' && arg !== null && 'dtype' in arg ? arg.dtype : null;
  }

  /** A list of numbers that do not depend on the input; one number stands for all `length`. */
  ints(i: number, length?: number, fallback?: number): number[] {
    const values = this.isNull(i) ? [] : this.sizes(i).map((size) => this.known(size, i));
    if (values.length === 0 && fallback !== undefined) return Array.from({ length: length! }, () => fallback);
    return values.length === 1 && length !== undefined ? Array.from({ length }, () => values[0]!) : values;
  }

  /** A list of sizes. */
  sizes(i: number): SizeExpr[] {
    return this.list(i).map((item) => this.sizeOf(item, i));
  }

  size(i: number): SizeExpr {
    return this.sizeOf(this.arg(i), i);
  }

  private sizeOf(arg: GraphArg, i: number): SizeExpr {
    if (typeof arg === 'number') return arg;
    if (typeof arg === 'object' && arg !== null && 'expr' in arg) return arg.expr;
    throw this.unsupported(`argument ${i} is not a size`);
  }

  private known(size: SizeExpr, i: number): number {
    const value = this.shapes.fold(size);
    if (value === null) throw this.unsupported(`argument ${i} depends on the size of the input`);
    return value;
  }

  /** A dimension counted from 0; `rank` defaults to that of the first tensor. */
  dim(i: number, fallback?: number, rank = this.rank(0)): number {
    return normalizeDim(this.number(i, fallback), rank);
  }

  /** Dimensions counted from 0; all if there are none. */
  dims(i: number): number[] {
    const rank = this.rank(0);
    const dims = this.ints(i).map((dim) => normalizeDim(dim, rank));
    return dims.length === 0 ? Array.from({ length: rank }, (_, dim) => dim) : dims;
  }

  // ---- sizes and types

  rank(i: number): number {
    return this.shapes.rank(this.slot(i));
  }

  /** Lengths of a tensor argument; null where they depend on the input. */
  fixed(i: number): (number | null)[] {
    return this.shapes.fixed(this.slot(i));
  }

  dtype(i: number): DType {
    return this.shapes.dtype(this.slot(i));
  }

  outSlot(i = 0): number | null {
    return this.node.outs[i] ?? null;
  }

  /** The first result's; nodes whose first result is unused are not converted by those who ask. */
  get result(): { slot: number; dtype: DType; fixed: (number | null)[]; rank: number } {
    const slot = this.node.outs.find((out) => out !== null)!;
    return {
      slot,
      dtype: this.shapes.dtype(slot),
      fixed: this.shapes.fixed(slot),
      rank: this.shapes.rank(slot),
    };
  }

  /** The length of a dimension of a slot, as a number if it is fixed. */
  length(slot: number, dim: number): SizeExpr {
    return this.fold(['size', slot, normalizeDim(dim, this.shapes.rank(slot))]);
  }

  fold(expr: SizeExpr): SizeExpr {
    return this.shapes.fold(expr) ?? expr;
  }

  // ---- writing

  emit(op: string, inputs: readonly string[], attributes?: Attributes): string {
    return this.builder.node(this.node.path, op, inputs, attributes)[0]!;
  }

  emitMany(op: string, inputs: readonly string[], attributes: Attributes, outputs: number): string[] {
    return this.builder.node(this.node.path, op, inputs, attributes, outputs);
  }

  ints64(values: readonly number[]): string {
    return this.builder.constant(values, 'int64');
  }

  constant(values: readonly number[], dtype: DType, dims?: readonly number[]): string {
    return this.builder.constant(values, dtype, dims);
  }

  scalar(value: number, dtype: DType): string {
    return this.builder.constant([value], dtype, []);
  }

  cast(value: string, from: DType, to: DType): string {
    return from === to ? value : this.emit('Cast', [value], { to: dataTypes[to] });
  }

  /** Sizes as an int64 tensor of one dimension. */
  sizeTensor(sizes: readonly SizeExpr[]): string {
    const folded = sizes.map((size) => this.fold(size));
    if (folded.every((size) => typeof size === 'number')) return this.ints64(folded);
    const parts: string[] = [];
    let run: number[] = [];
    const flush = (): void => {
      if (run.length > 0) parts.push(this.ints64(run));
      run = [];
    };
    for (const size of folded) {
      if (typeof size === 'number') {
        run.push(size);
      } else {
        flush();
        parts.push(this.computed(size));
      }
    }
    flush();
    return parts.length === 1 ? parts[0]! : this.emit('Concat', parts, { axis: 0 });
  }

  /** A size as an int64 scalar. */
  sizeScalar(size: SizeExpr): string {
    const folded = this.fold(size);
    if (typeof folded === 'number') return this.scalar(folded, 'int64');
    return this.emit('Squeeze', [this.computed(folded), this.ints64([0])]);
  }

  /** A size as a tensor [1]. */
  private computed(expr: SizeExpr): string {
    const folded = this.fold(expr);
    if (typeof folded === 'number') return this.ints64([folded]);
    const key = JSON.stringify(folded);
    const known = this.sizeNames.get(key);
    if (known !== undefined) return known;
    const name = this.compute(folded as Exclude<SizeExpr, number>);
    this.sizeNames.set(key, name);
    return name;
  }

  private compute(expr: Exclude<SizeExpr, number>): string {
    if (expr[0] === 'size') {
      const dim = normalizeDim(expr[2], this.shapes.rank(expr[1]));
      return this.emit('Shape', [this.nameOf(expr[1])], { start: dim, end: dim + 1 });
    }
    const a = this.computed(expr[1]);
    const b = this.computed(expr[2]);
    switch (expr[0]) {
      case '+':
        return this.emit('Add', [a, b]);
      case '-':
        return this.emit('Sub', [a, b]);
      case '*':
        return this.emit('Mul', [a, b]);
      case '%':
        // Mod of integers takes the divisor's sign, as Python's %.
        return this.emit('Mod', [a, b]);
      case '//': {
        // Div of integers rounds towards zero; without the remainder it is exact.
        const whole = this.emit('Sub', [a, this.emit('Mod', [a, b])]);
        return this.emit('Div', [whole, b]);
      }
      case 'min':
        return this.emit('Min', [a, b]);
      case 'max':
        return this.emit('Max', [a, b]);
    }
  }

  /**
   * `value` in the shape of `slot`. Where at most one length depends on the input the shape is a constant with −1;
   * else it is computed from `sizes` (−1 allowed), which default to the lengths of the slot itself.
   */
  reshape(value: string, slot: number, sizes: readonly SizeExpr[]): string {
    const fixed = this.shapes.fixed(slot);
    const free = fixed.filter((length) => length === null).length;
    const target = free <= 1 ? this.ints64(fixed.map((length) => length ?? -1)) : this.sizeTensor(sizes);
    return this.emit('Reshape', [value, target]);
  }

  /** `value` reshaped to sizes of which at most one may be unknown. */
  reshapeTo(value: string, sizes: readonly SizeExpr[]): string {
    const folded = sizes.map((size) => this.fold(size));
    const free = folded.filter((size) => typeof size !== 'number').length;
    const inferred = folded.includes(-1);
    if (free === 1 && !inferred) {
      return this.emit('Reshape', [value, this.ints64(folded.map((s) => (typeof s === 'number' ? s : -1)))]);
    }
    return this.emit('Reshape', [value, this.sizeTensor(folded)]);
  }

  /** Part of a dimension; null bounds are open. */
  slice(
    value: string,
    dim: number,
    start: SizeExpr | null,
    end: SizeExpr | null,
    step: SizeExpr = 1,
  ): string {
    return this.emit('Slice', [
      value,
      this.sizeTensor([start ?? 0]),
      this.sizeTensor([end ?? INT64_MAX]),
      this.ints64([dim]),
      this.sizeTensor([step]),
    ]);
  }

  // ---- errors

  get where(): string {
    return nodeName(this.node, this.index);
  }

  unsupported(what: string, fix?: string): ExportError {
    return new ExportError({
      what: `no ONNX counterpart for ${this.node.op}: ${what}`,
      where: this.where,
      fix,
    });
  }
}

export function slotOf(arg: GraphArg | undefined): number | null {
  return typeof arg === 'object' && arg !== null && !Array.isArray(arg) && 'slot' in arg ? arg.slot : null;
}

export function normalizeDim(dim: number, rank: number): number {
  return dim < 0 ? dim + Math.max(rank, 1) : dim;
}

/** Sum of sizes. */
export const plus = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('+', a, b);
export const minus = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('-', a, b);
export const times = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('*', a, b);
