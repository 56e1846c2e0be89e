/** The arguments of a node under conversion, and what is known of its tensors. */
import { ExportError } from '../../errors.js';
import type { DType, GraphArg, GraphNode, SizeExpr } from '../../graph/format.js';
import { nodeName } from '../../graph/reader.js';
import type { Shapes } from './shapes.js';

export class NodeArguments {
  constructor(
    readonly node: GraphNode,
    private readonly index: number,
    readonly shapes: Shapes,
    /** The ONNX name of a slot. */
    protected readonly nameOf: (slot: number) => string,
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
