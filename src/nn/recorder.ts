/**
 * Who listens while a model is traced. Tensors and sizes are symbolic: what is done to them is recorded by the
 * active recorder (src/graph/trace.ts). Tracing is synchronous, so one variable is enough to know which it is.
 */
import { GraphError } from '../errors.js';
import type { DType, ModeKind, SizeExpr } from '../graph/format.js';
import type { Comparison } from '../graph/size_expr.js';
import type { SymInt } from './sym_int.js';
import type { SymbolicTensor } from './tensor.js';

/** An integer that may depend on the sizes of the input. */
export type IntLike = number | SymInt;

/** An argument of an operator, in the order of its schema. `undefined` and `null` are an absent optional. */
export type CallArgument =
  | null
  | undefined
  | boolean
  | number
  | string
  | SymbolicTensor
  | SymInt
  | { dtype: DType }
  /** The mode the node runs in, as an integer: eval = 0, train = 1, recompute = 2. */
  | { mode: ModeKind }
  /** The generator of the session that runs the graph. */
  | { generator: true }
  | readonly CallArgument[];

export interface Recorder {
  /** Adds a node and returns its `outputs` results. */
  record(op: string, args: readonly CallArgument[], outputs: number): SymbolicTensor[];
  /** The slot that holds a tensor of this trace; throws GraphError for one that does not belong to it. */
  slotOf(tensor: SymbolicTensor): number;
  /** The shape of a slot for the example inputs. May run the graph so far on the meta device. */
  shapeOf(slot: number): readonly number[];
  /** Records that the graph holds only where this comparison does. */
  guard(left: SizeExpr, comparison: Comparison, right: SizeExpr): void;
  /** Runs `body` with the module's path on the nodes it makes. */
  within<T>(module: object, body: () => T): T;
}

let active: Recorder | null = null;

/** The recorder at work; `doing` says what needed one in the error when there is none. */
export function activeRecorder(doing: string): Recorder {
  if (active === null) {
    throw new GraphError({
      what: `${doing}: there is no trace under way`,
      fix: 'operators work on symbolic tensors inside forward(); pass the module to trace(), or use Model to run it',
    });
  }
  return active;
}

/** Runs `body` with `recorder` listening. */
export function recording<T>(recorder: Recorder, body: () => T): T {
  const before = active;
  active = recorder;
  try {
    return body();
  } finally {
    active = before;
  }
}
