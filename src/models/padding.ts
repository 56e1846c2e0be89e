/** Sizes that do not fit a network's grid. */
import type { IntLike, SymInt } from '../nn/index.js';

/**
 * How much is missing to a multiple. Sizes for which nothing is get a graph without padding, under a guard; any other
 * gets one that is right for every size.
 */
export function missing(length: SymInt, multiple: number): IntLike {
  if (length.example % multiple === 0 && length.mod(multiple).eq(0)) return 0;
  return length.neg().mod(multiple);
}
