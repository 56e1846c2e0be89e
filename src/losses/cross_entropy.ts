/** Cross entropy over class scores, the loss of classification. */
import type { Graph } from '../graph/format.js';
import { functional as F, Module, type Tensor } from '../nn/index.js';
import { checkRange, checkWeights, constants } from './constants.js';
import { traceLoss } from './trace_loss.js';

export interface CrossEntropyLossOptions {
  /** Share of each target spread evenly over all classes (Szegedy et al. 2015, section 7), 0…1. Default 0. */
  labelSmoothing?: number;
  /** Samples with this label do not count. Default −100. Not for soft targets. */
  ignoreIndex?: number;
  /** One factor per class, from 0 on; the mean over labels is weighted too. Default: all 1. */
  classWeights?: readonly number[];
}

export class CrossEntropyLoss extends Module {
  readonly options: CrossEntropyLossOptions;

  /** @throws ArgumentError for an option out of its range */
  constructor(options: CrossEntropyLossOptions = {}) {
    super();
    checkRange('CrossEntropyLoss', 'labelSmoothing', options.labelSmoothing ?? 0, 0, 1);
    checkWeights('CrossEntropyLoss', 'classWeights', options.classWeights);
    this.options = options;
  }

  /**
   * `output` logits [N, C, ...]; `label` class indices int64 [N, ...], or a distribution over the classes
   * [N, C, ...] (soft targets: mixup, cutmix) → the mean over samples.
   */
  forward(output: Tensor, label: Tensor): Tensor {
    const { classWeights, ...options } = this.options;
    const weight = classWeights === undefined ? null : constants(classWeights);
    return F.crossEntropy(output, label, { ...options, weight });
  }
}

/** The graph of cross entropy over `output` and the batch's field `target`. */
export function crossEntropy(options: CrossEntropyLossOptions = {}, target = 'label'): Graph {
  return traceLoss(new CrossEntropyLoss(options), ['output', target]);
}
