/** Integer expressions over sizes (see SizeExpr in format.ts): building, evaluating and printing them. */
import { GraphError } from '../errors.js';
import type { GraphGuard, SizeExpr } from './format.js';

export type SizeOperator = '+' | '-' | '*' | '//' | '%' | 'min' | 'max';
export type Comparison = GraphGuard['compare'];

/** Division that rounds towards minus infinity, as Python's `//`. */
export function floorDivide(a: number, b: number): number {
  if (b === 0) throw new GraphError({ what: `a size expression divides by zero (${a} // 0)` });
  return Math.floor(a / b);
}

/** The remainder that takes the divisor's sign, as Python's `%`. */
export function floorModulo(a: number, b: number): number {
  return a - b * floorDivide(a, b);
}

function apply(operator: SizeOperator, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '//':
      return floorDivide(a, b);
    case '%':
      return floorModulo(a, b);
    case 'min':
      return Math.min(a, b);
    case 'max':
      return Math.max(a, b);
  }
}

/** `a operator b`, computed at once where both are numbers. Sizes stay symbolic. */
export function combine(operator: SizeOperator, a: SizeExpr, b: SizeExpr): SizeExpr {
  if (typeof a === 'number' && typeof b === 'number') return apply(operator, a, b);
  if (b === 0 && (operator === '+' || operator === '-')) return a;
  if (a === 0 && operator === '+') return b;
  if (b === 1 && (operator === '*' || operator === '//')) return a;
  if (a === 1 && operator === '*') return b;
  return [operator, a, b];
}

/** The value of an expression; `size` gives the length of a slot's dimension (which may be negative). */
export function evaluate(expr: SizeExpr, size: (slot: number, dim: number) => number): number {
  if (typeof expr === 'number') return expr;
  if (expr[0] === 'size') return size(expr[1], expr[2]);
  return apply(expr[0], evaluate(expr[1], size), evaluate(expr[2], size));
}

export function compare(a: number, comparison: Comparison, b: number): boolean {
  switch (comparison) {
    case '==':
      return a === b;
    case '!=':
      return a !== b;
    case '<':
      return a < b;
    case '<=':
      return a <= b;
    case '>':
      return a > b;
    case '>=':
      return a >= b;
  }
}

const opposites: Record<Comparison, Comparison> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '>': '<=',
  '<=': '>',
};

/** The comparison that holds exactly where the given one does not. */
export function opposite(comparison: Comparison): Comparison {
  return opposites[comparison];
}

/** Calls `visit` with every slot whose size the expression reads. */
export function forEachSlot(expr: SizeExpr, visit: (slot: number) => void): void {
  if (typeof expr === 'number') return;
  if (expr[0] === 'size') {
    visit(expr[1]);
  } else {
    forEachSlot(expr[1], visit);
    forEachSlot(expr[2], visit);
  }
}

/** The same expression over renumbered slots. */
export function mapSlots(expr: SizeExpr, map: (slot: number) => number): SizeExpr {
  if (typeof expr === 'number') return expr;
  if (expr[0] === 'size') return ['size', map(expr[1]), expr[2]];
  return [expr[0], mapSlots(expr[1], map), mapSlots(expr[2], map)];
}

/** Readable form: `(%3.size(2) + 1) // 2`. */
export function formatExpr(expr: SizeExpr): string {
  if (typeof expr === 'number') return String(expr);
  if (expr[0] === 'size') return `%${expr[1]}.size(${expr[2]})`;
  const [operator, left, right] = expr;
  if (operator === 'min' || operator === 'max') {
    return `${operator}(${formatExpr(left)}, ${formatExpr(right)})`;
  }
  const operand = (e: SizeExpr): string =>
    typeof e === 'number' || e[0] === 'size' || e[0] === 'min' || e[0] === 'max'
      ? formatExpr(e)
      : `(${formatExpr(e)})`;
  return `${operand(left)} ${operator} ${operand(right)}`;
}
