/** Sizes as tracing sees them: integers that depend on the shape of the input. */
import { ArgumentError } from '../errors.js';
import type { SizeExpr } from '../graph/format.js';
import {
  combine,
  compare,
  evaluate,
  formatExpr,
  opposite,
  type Comparison,
  type SizeOperator,
} from '../graph/size_expr.js';
import { activeRecorder, type IntLike, type Recorder } from './recorder.js';

/** The expression of a number or a SymInt. */
export function exprOf(value: IntLike): SizeExpr {
  if (value instanceof SymInt) return value.expr;
  if (!Number.isSafeInteger(value)) {
    throw new ArgumentError({ what: `a size must be an integer, not ${String(value)}` });
  }
  return value;
}

/**
 * An integer expression over the sizes of the input. Arithmetic keeps it symbolic, so that the graph serves other
 * sizes too. A comparison answers for the example input and records a *guard*: input for which the answer
 * would differ is refused (or makes the model retrace) instead of giving a wrong result.
 *
 * JavaScript's own operators turn it into a number, which pins the size: `x.size(2) / 2` works, but specialises
 * the graph to this very size. `===` compares identities and is never what you want: use `eq`.
 */
export class SymInt {
  readonly expr: SizeExpr;

  constructor(expr: SizeExpr) {
    this.expr = expr;
  }

  add(other: IntLike): SymInt {
    return this.combined('+', other);
  }
  sub(other: IntLike): SymInt {
    return this.combined('-', other);
  }
  mul(other: IntLike): SymInt {
    return this.combined('*', other);
  }
  /** Rounds towards minus infinity, as Python's `//`. */
  floordiv(other: IntLike): SymInt {
    return this.combined('//', other);
  }
  /** Takes the divisor's sign, as Python's `%`. */
  mod(other: IntLike): SymInt {
    return this.combined('%', other);
  }
  min(other: IntLike): SymInt {
    return this.combined('min', other);
  }
  max(other: IntLike): SymInt {
    return this.combined('max', other);
  }
  neg(): SymInt {
    return new SymInt(combine('-', 0, this.expr));
  }
  /** Rounds towards plus infinity: `(a + b − 1) // b` for a positive divisor. */
  ceildiv(other: IntLike): SymInt {
    return this.neg().floordiv(other).neg();
  }

  eq(other: IntLike): boolean {
    return this.compared('==', other);
  }
  ne(other: IntLike): boolean {
    return this.compared('!=', other);
  }
  lt(other: IntLike): boolean {
    return this.compared('<', other);
  }
  le(other: IntLike): boolean {
    return this.compared('<=', other);
  }
  gt(other: IntLike): boolean {
    return this.compared('>', other);
  }
  ge(other: IntLike): boolean {
    return this.compared('>=', other);
  }

  /**
   * The number for the example input, without a guard. Only for choosing between two ways that give the same result
   * for every size; where a way holds for some sizes only, a comparison must guard it.
   */
  get example(): number {
    return typeof this.expr === 'number' ? this.expr : this.hint(activeRecorder('reading a size'));
  }

  /** The number for the example input. Records a guard: the graph holds for this size only. */
  get value(): number {
    if (typeof this.expr === 'number') return this.expr;
    const recorder = activeRecorder('reading a size');
    const value = this.hint(recorder);
    recorder.guard(this.expr, '==', value);
    return value;
  }

  valueOf(): number {
    return this.value;
  }

  /** As any other use as a number, text made of a size pins it: it might become a name or a key. */
  toString(): string {
    return String(this.value);
  }

  toJSON(): number {
    return this.value;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `SymInt(${formatExpr(this.expr)})`;
  }

  private hint(recorder: Recorder): number {
    return evaluate(this.expr, (slot, dim) => {
      const shape = recorder.shapeOf(slot);
      const length = shape.at(dim);
      if (length === undefined) {
        throw new ArgumentError({
          what: `there is no dimension ${dim} in a tensor of shape [${shape.join(', ')}]`,
        });
      }
      return length;
    });
  }

  private combined(operator: SizeOperator, other: IntLike): SymInt {
    return new SymInt(combine(operator, this.expr, exprOf(other)));
  }

  private compared(comparison: Comparison, other: IntLike): boolean {
    const right = exprOf(other);
    if (typeof this.expr === 'number' && typeof right === 'number') {
      return compare(this.expr, comparison, right);
    }
    const recorder = activeRecorder('comparing sizes');
    const holds = compare(this.hint(recorder), comparison, new SymInt(right).hint(recorder));
    recorder.guard(this.expr, holds ? comparison : opposite(comparison), right);
    return holds;
  }
}
