/** Functions as modules, and the guards of what was traced. */
import type { Graph } from '#fornax/graph/format.js';
import { formatExpr } from '#fornax/graph/size_expr.js';
import { Module, type Tensor } from '#fornax/nn/index.js';

/** A module out of a function. */
export function fn<T extends Tensor[]>(forward: (...inputs: T) => unknown): Module {
  return new (class extends Module {
    forward(...inputs: T): unknown {
      return forward(...inputs);
    }
  })();
}

export function guardsOf(graph: Graph): string[] {
  return graph.guards.map((g) => `${formatExpr(g.left)} ${g.compare} ${formatExpr(g.right)}`);
}
