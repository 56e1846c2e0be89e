/** Focal Loss for Dense Object Detection, Lin et al. 2017 (arXiv:1708.02002). */
import type { Graph } from '../graph/format.js';
import { functional as F, Module, type Tensor } from '../nn/index.js';
import { checkRange } from './constants.js';
import { flattenTarget, maskedMean, type TargetOptions } from './target.js';
import { traceLoss } from './trace_loss.js';

export interface FocalLossOptions extends TargetOptions {
  /** Weight of the elements whose target is 1, the others having 1 − alpha; null for no weights. Default 0.25. */
  alpha?: number | null;
  /** How strongly elements that are right already are discounted, from 0 on. Default 2. */
  gamma?: number;
  /** Targets may lie between 0 and 1 (mixup): p_t = p·t + (1 − p)·(1 − t), as torchvision has it. Default false. */
  soft?: boolean;
}

/** p·t + (1 − p)·(1 − t). */
function agreement(p: Tensor, t: Tensor): Tensor {
  return p.mul(t).add(p.rsub(1).mul(t.rsub(1)));
}

/** (1 − p_t)^gamma times the binary cross entropy of every class: one sigmoid term per element and class. */
export class FocalLoss extends Module {
  readonly options: FocalLossOptions;

  /** @throws ArgumentError for an option out of its range */
  constructor(options: FocalLossOptions = {}) {
    super();
    checkRange('FocalLoss', 'alpha', options.alpha ?? 0, 0, 1);
    checkRange('FocalLoss', 'gamma', options.gamma ?? 2, 0);
    this.options = options;
  }

  /** Shapes as `mode` says (default 'multiclass') → the mean over all elements and classes that count. */
  forward(output: Tensor, target: Tensor): Tensor {
    const { alpha = 0.25, gamma = 2, soft = false } = this.options;
    const { logits, truth, valid } = flattenTarget(output, target, this.options);
    const entropy = F.binaryCrossEntropyWithLogits(logits, truth, { reduction: 'none' });
    const right = soft ? agreement(logits.sigmoid(), truth) : entropy.neg().exp();
    const focal = entropy.mul(right.rsub(1).pow(gamma));
    const weighted = alpha === null ? focal : focal.mul(truth.mul(2 * alpha - 1).add(1 - alpha));
    return maskedMean(weighted, valid);
  }
}

/** The graph of the focal loss over `output` and the batch's field `target`. */
export function focal(options: FocalLossOptions = {}, target = 'label'): Graph {
  return traceLoss(new FocalLoss(options), ['output', target]);
}
