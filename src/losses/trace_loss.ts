/** Losses are graphs like models: a module whose inputs are the model's outputs and the batch's fields. */
import { GraphError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { trace, type InputSpec } from '../graph/trace.js';
import type { Module } from '../nn/index.js';

/** What is known of a loss's input. Shapes and types are needed only by losses that branch on sizes. */
export type LossInput = string | InputSpec;

/**
 * Traces a loss. `inputs` name, in the order of forward()'s arguments, outputs of the model (`output`) and fields
 * of the batch (`label`). forward() returns one scalar tensor, which becomes the output `loss`.
 */
export function traceLoss(module: Module, inputs: readonly LossInput[]): Graph {
  const graph = trace(module, {
    inputs: inputs.map((input) => (typeof input === 'string' ? { name: input, shape: null } : input)),
    output: 'loss',
  });
  const [first, ...others] = graph.outputs;
  if (first?.name !== 'loss' || others.length > 0) {
    throw new GraphError({
      what: `a loss returns one tensor, but this one returns ${graph.outputs.map((o) => o.name).join(', ')}`,
      where: module.constructor.name,
      fix: 'return the scalar loss itself from forward()',
    });
  }
  return graph;
}
