/** What the conversion of one node has at hand: its arguments, and the graph under way. */
import type { DType, GraphNode, SizeExpr } from '../../graph/format.js';
import { combine } from '../../graph/size_expr.js';
import { NodeArguments, normalizeDim } from './arguments.js';
import type { Attributes, OnnxBuilder } from './builder.js';
import { dataTypes } from './messages.js';
import type { Shapes } from './shapes.js';
import type { Weights } from './weights.js';

/** Writes a node's counterpart and returns the names of its results. */
export type Converter = (c: Conversion) => string | string[];
/** By operator with its overload. */
export type ConverterTable = Readonly<Record<string, Converter>>;

/** Open ends of slices. */
export const INT64_MAX = 2 ** 63 - 1024;
export const INT64_MIN = -(2 ** 63) + 1024;

export class Conversion extends NodeArguments {
  constructor(
    node: GraphNode,
    index: number,
    shapes: Shapes,
    private readonly builder: OnnxBuilder,
    readonly weights: Weights,
    nameOf: (slot: number) => string,
    /** Names of sizes already computed, by expression. */
    private readonly sizeNames: Map<string, string>,
    /** Operators that read a slot. */
    readonly readers: (slot: number) => ReadonlySet<string>,
  ) {
    super(node, index, shapes, nameOf);
  }

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
}

/** Sum of sizes. */
export const plus = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('+', a, b);
export const minus = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('-', a, b);
export const times = (a: SizeExpr, b: SizeExpr): SizeExpr => combine('*', a, b);
