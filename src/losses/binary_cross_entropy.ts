/** Binary cross entropy: each class a yes-or-no question of its own. */
import type { Graph } from '../graph/format.js';
import { functional as F, Module, type Tensor } from '../nn/index.js';
import { checkRange, checkWeights, constants } from './constants.js';
import { flattenTarget, maskedMean, type TargetOptions } from './target.js';
import { traceLoss } from './trace_loss.js';

export interface BinaryCrossEntropyLossOptions extends TargetOptions {
  /** Per class a factor on the elements whose target is 1; a single one is for all classes. Default 1. */
  posWeight?: readonly number[];
  /** Targets 0 and 1 become s/2 and 1 − s/2 for this s, 0…1. Default 0. */
  labelSmoothing?: number;
}

export class BinaryCrossEntropyLoss extends Module {
  readonly options: BinaryCrossEntropyLossOptions;

  /** @throws ArgumentError for an option out of its range */
  constructor(options: BinaryCrossEntropyLossOptions = {}) {
    super();
    checkRange('BinaryCrossEntropyLoss', 'labelSmoothing', options.labelSmoothing ?? 0, 0, 1);
    checkWeights('BinaryCrossEntropyLoss', 'posWeight', options.posWeight);
    this.options = { mode: 'multilabel', ...options };
  }

  /** Shapes as `mode` says (default 'multilabel') → the mean over all elements that count. */
  forward(output: Tensor, target: Tensor): Tensor {
    const { posWeight, labelSmoothing = 0 } = this.options;
    const { logits, truth, valid } = flattenTarget(output, target, this.options);
    const smooth = labelSmoothing === 0 ? truth : truth.mul(1 - labelSmoothing).add(labelSmoothing / 2);
    const weight = posWeight === undefined ? null : constants(posWeight).reshape(-1, 1);
    const settings = { posWeight: weight, reduction: 'none' } as const;
    return maskedMean(F.binaryCrossEntropyWithLogits(logits, smooth, settings), valid);
  }
}

/** The graph of binary cross entropy over `output` and the batch's field `target`. */
export function binaryCrossEntropy(options: BinaryCrossEntropyLossOptions = {}, target = 'label'): Graph {
  return traceLoss(new BinaryCrossEntropyLoss(options), ['output', target]);
}
