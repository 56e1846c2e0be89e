/**
 * Which lengths of an export's inputs are free. Tracing leaves every size symbolic except where a guard was recorded,
 * so a length is free if the graph runs at others and no guard notices.
 */
import { FornaxError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { evaluate } from '../graph/size_expr.js';
import type { NativeGraph } from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { InputSpec } from '../model/info.js';

/**
 * Other lengths that are tried: what networks with strides of 32 take, of which one must run, and near ones of
 * either parity. (A stride may swallow those: a transformer of patches runs at 224 to 239 and nowhere else.)
 */
function otherLengths(length: number, isBatch: boolean): { far: number[]; near: number[] } {
  if (isBatch) return { far: [1, 2, 3, 5, 8].filter((other) => other !== length), near: [] };
  return { far: [length + 32, 2 * length], near: [length + 1, length + 7] };
}

/** Both sides of every guard at some input shapes; NaN for lengths that are only known where the graph runs. */
interface Guards {
  values: readonly number[];
  runs: boolean;
}

/** The guards at these input shapes. Where the graph does not run, those that look at the input still tell. */
function guardsAt(native: NativeGraph, graph: Graph, inputs: readonly InputSpec[]): Guards {
  const shapes = new Map<number, readonly number[]>();
  graph.inputs.forEach(({ slot }, i) => shapes.set(slot, inputs[i]!.shape));
  for (const { slot, shape } of graph.parameters) shapes.set(slot, shape);
  let runs = true;
  try {
    const nodes = native.inferShapes(inputs.map(({ shape, dtype }) => ({ shape: [...shape], dtype })));
    graph.nodes.forEach(({ outs }, i) => {
      // Results that nobody uses are left out of the lists.
      outs.filter((slot) => slot !== null).forEach((slot, j) => shapes.set(slot, nodes[i]!.outputs[j]!));
    });
  } catch (error) {
    if (!(error instanceof FornaxError)) throw error;
    runs = false;
  }
  const size = (slot: number, dim: number): number => shapes.get(slot)?.at(dim) ?? NaN;
  const values = graph.guards.flatMap(({ left, right }) => [evaluate(left, size), evaluate(right, size)]);
  return { values, runs };
}

/** `batch`, `height`, `width` for images; `<input>_<dimension>` for the rest. */
function nameOf(input: InputSpec, dim: number): string {
  if (dim === 0) return 'batch';
  const spatial = input.shape.length === 4 ? [undefined, undefined, 'height', 'width'][dim] : undefined;
  return spatial ?? `${input.name}_${dim}`;
}

/**
 * For each input (as traced), a name for each length that is free and the number for each that is not. Lengths of
 * dimension 0 that are equal over the inputs are the batch, and free together.
 */
export function freeDimensions(graph: Graph, inputs: readonly InputSpec[]): (number | string)[][] {
  const dims: (number | string)[][] = inputs.map(({ shape }) => [...shape]);
  const batch = inputs[0]?.shape[0];
  const isBatch = (i: number, dim: number): boolean => dim === 0 && inputs[i]!.shape[0] === batch;
  const native = new (loadAddon().Graph)({ ...graph, guards: [] }, { trusted: true });
  try {
    const base = guardsAt(native, graph, inputs);
    if (!base.runs) return dims;
    const agrees = ({ values }: Guards): boolean =>
      values.every((value, i) => Number.isNaN(value) || value === base.values[i]);
    const isFree = (
      { far, near }: { far: number[]; near: number[] },
      change: (i: number, dim: number) => boolean,
    ): boolean => {
      const at = (length: number): Guards => {
        const others = inputs.map((input, i) => ({
          ...input,
          shape: input.shape.map((before, dim) => (change(i, dim) ? length : before)),
        }));
        return guardsAt(native, graph, others);
      };
      const results = far.map(at).filter(({ runs }) => runs);
      // A near length at which the graph does not run may be one that a guard keeps from it: 250 for a multiple of 16.
      return results.length > 0 && [...results, ...near.map(at)].every(agrees);
    };
    const freeBatch = batch !== undefined && isFree(otherLengths(batch, true), isBatch);
    inputs.forEach((input, i) =>
      input.shape.forEach((length, dim) => {
        const free = isBatch(i, dim)
          ? freeBatch
          : isFree(otherLengths(length, false), (j, other) => i === j && dim === other);
        if (free) dims[i]![dim] = nameOf(input, dim);
      }),
    );
  } finally {
    native.dispose();
  }
  return dims;
}
