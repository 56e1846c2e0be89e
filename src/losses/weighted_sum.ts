/** A sum of losses, each over its own outputs of the model and fields of the batch. */
import { ArgumentError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { Module, ModuleList, type Tensor } from '../nn/index.js';
import { traceLoss } from './trace_loss.js';

export interface LossTerm {
  /** Its forward() returns a scalar. */
  loss: Module;
  /** Outputs of the model and fields of the batch, in the order of forward()'s arguments. */
  inputs: readonly string[];
  /** Default 1. */
  weight?: number;
}

class WeightedSum extends Module {
  readonly losses: ModuleList;

  constructor(
    private readonly terms: readonly LossTerm[],
    private readonly names: readonly string[],
  ) {
    super();
    this.losses = new ModuleList(terms.map(({ loss }) => loss));
  }

  forward(...inputs: Tensor[]): Tensor {
    const values = this.terms.map(({ loss, inputs: names, weight = 1 }) => {
      const value = loss.forward(...names.map((name) => inputs[this.names.indexOf(name)]!)) as Tensor;
      return weight === 1 ? value : value.mul(weight);
    });
    return values.reduce((sum, value) => sum.add(value));
  }
}

/**
 * The graph of Σ weight · loss.
 * @throws ArgumentError without a term, or for a weight that is not finite
 */
export function weightedSum(terms: readonly LossTerm[]): Graph {
  if (terms.length === 0) throw new ArgumentError({ what: 'a sum of losses needs at least one' });
  for (const { weight = 1 } of terms) {
    if (!Number.isFinite(weight)) {
      throw new ArgumentError({ what: `the weight of a loss must be a number, not ${String(weight)}` });
    }
  }
  const [first] = terms;
  if (terms.length === 1 && (first!.weight ?? 1) === 1) return traceLoss(first!.loss, first!.inputs);
  const names = [...new Set(terms.flatMap(({ inputs }) => inputs))];
  return traceLoss(new WeightedSum(terms, names), names);
}
