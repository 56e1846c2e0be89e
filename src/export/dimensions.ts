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

/** Both sides of every guard at these input shapes; null if the graph does not run there. */
function guardValues(
  native: NativeGraph,
  graph: Graph,
  inputs: readonly InputSpec[],
): readonly number[] | null {
  const shapes = new Map<number, readonly number[]>();
  graph.inputs.forEach(({ slot }, i) => shapes.set(slot, inputs[i]!.shape));
  for (const { slot, shape } of graph.parameters) shapes.set(slot, shape);
  try {
    const nodes = native.inferShapes(inputs.map(({ shape, dtype }) => ({ shape: [...shape], dtype })));
    graph.nodes.forEach(({ outs }, i) => {
      // Results that nobody uses are left out of the lists.
      outs.filter((slot) => slot !== null).forEach((slot, j) => shapes.set(slot, nodes[i]!.outputs[j]!));
    });
  } catch (error) {
    if (error instanceof FornaxError) return null;
    throw error;
  }
  const size = (slot: number, dim: number): number => shapes.get(slot)?.at(dim) ?? NaN;
  return graph.guards.flatMap(({ left, right }) => [evaluate(left, size), evaluate(right, size)]);
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
    const base = guardValues(native, graph, inputs);
    if (base === null) return dims;
    const isFree = (
      { far, near }: { far: number[]; near: number[] },
      change: (i: number, dim: number) => boolean,
    ): boolean => {
      const valuesAt = (length: number): readonly number[] | null => {
        const others = inputs.map((input, i) => ({
          ...input,
          shape: input.shape.map((before, dim) => (change(i, dim) ? length : before)),
        }));
        return guardValues(native, graph, others);
      };
      const isRun = (values: readonly number[] | null): values is readonly number[] => values !== null;
      const results = far.map(valuesAt).filter(isRun);
      return (
        results.length > 0 &&
        [...results, ...near.map(valuesAt).filter(isRun)].every((values) => values.join() === base.join())
      );
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
