/** Shapes and costs of a graph without a copy of its state: the largest models of the zoo have gigabytes. */
import { loadAddon } from '../native.js';
import type { Graph } from './format.js';
import { summarize, type Summary } from './summary.js';

/** The graph with its state among the inputs. */
function stateless(graph: Graph): Graph {
  const state = graph.parameters.map(({ name, slot }) => ({ name, slot }));
  return { ...graph, inputs: [...graph.inputs, ...state], parameters: [] };
}

/**
 * What the graph does to float32 inputs of these shapes.
 *
 * @throws GuardError for a size that the trace was not made for.
 */
export function summarizeStateless(graph: Graph, inputs: readonly number[][]): Summary {
  const native = new (loadAddon().Graph)(stateless(graph), { trusted: true });
  try {
    const images = inputs.map((shape) => ({ shape: [...shape], dtype: 'float32' as const }));
    const state = graph.parameters.map(({ shape, dtype }) => ({ shape, dtype }));
    return summarize(graph, native.inferShapes([...images, ...state]), inputs);
  } finally {
    native.dispose();
  }
}
