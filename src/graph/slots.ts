/** The slots inside arguments of nodes. */
import type { GraphArg } from './format.js';
import { forEachSlot, mapSlots } from './size_expr.js';

/** Calls `visit` with every slot that an argument reads, those inside size expressions included. */
export function forEachArgumentSlot(arg: GraphArg, visit: (slot: number) => void): void {
  if (Array.isArray(arg)) {
    for (const item of arg) forEachArgumentSlot(item, visit);
  } else if (typeof arg === 'object' && arg !== null) {
    if ('slot' in arg) visit(arg.slot);
    else if ('expr' in arg) forEachSlot(arg.expr, visit);
  }
}

/** The same argument over renumbered slots. */
export function mapArgumentSlots(arg: GraphArg, map: (slot: number) => number): GraphArg {
  if (Array.isArray(arg)) return arg.map((item) => mapArgumentSlots(item, map));
  if (typeof arg === 'object' && arg !== null) {
    if ('slot' in arg) return { slot: map(arg.slot) };
    if ('expr' in arg) return { expr: mapSlots(arg.expr, map) };
  }
  return arg;
}
