/**
 * Losses over the overlap of regions. Tversky loss, Salehi et al. 2017 (arXiv:1706.05721), contains dice and Jaccard
 * (Hashemi et al. 2018). As in segmentation_models_pytorch: sums over the batch and all positions, a class that the
 * target does not contain costs nothing but counts in the mean over classes.
 */
import type { Graph } from '../graph/format.js';
import { Module, type Tensor } from '../nn/index.js';
import { checkRange } from './constants.js';
import { flattenTarget, type TargetOptions } from './target.js';
import { traceLoss } from './trace_loss.js';

export interface RegionLossOptions extends TargetOptions {
  /** Added to numerator and denominator of the score. Default 0. */
  smooth?: number;
  /** Least value of the denominator. Default 1e-7. */
  eps?: number;
}

export interface TverskyLossOptions extends RegionLossOptions {
  /** Weight of false positives. Default 0.5. */
  alpha?: number;
  /** Weight of false negatives. Default 0.5. */
  beta?: number;
  /** Exponent of the loss (focal Tversky, Abraham & Khan 2018). Default 1. */
  gamma?: number;
}

export class TverskyLoss extends Module {
  readonly options: TverskyLossOptions;

  /** @throws ArgumentError for an option out of its range */
  constructor(options: TverskyLossOptions = {}) {
    super();
    const { smooth = 0, eps = 1e-7, alpha = 0.5, beta = 0.5, gamma = 1 } = options;
    for (const [name, value] of Object.entries({ smooth, eps, alpha, beta, gamma })) {
      checkRange(this.constructor.name, name, value, 0);
    }
    this.options = options;
  }

  /** Shapes as `mode` says (default 'multiclass') → the mean over classes of 1 − score. */
  forward(output: Tensor, target: Tensor): Tensor {
    const { mode = 'multiclass', smooth = 0, eps = 1e-7 } = this.options;
    const { alpha = 0.5, beta = 0.5, gamma = 1 } = this.options;
    const { logits, truth, valid } = flattenTarget(output, target, this.options);
    const all = mode === 'multiclass' ? logits.softmax(1) : logits.sigmoid();
    const probabilities = valid === null ? all : all.mul(valid);
    const hits = probabilities.mul(truth).sum([0, 2]);
    const present = truth.sum([0, 2]);
    const falsePositives = probabilities.sum([0, 2]).sub(hits);
    const falseNegatives = present.sub(hits);
    const denominator = hits.add(falsePositives.mul(alpha)).add(falseNegatives.mul(beta)).add(smooth);
    const score = hits.add(smooth).div(denominator.clamp({ min: eps }));
    const loss = score.rsub(1).mul(present.gt(0)).mean();
    return gamma === 1 ? loss : loss.pow(gamma);
  }
}

/** The graph of the Tversky loss over `output` and the batch's field `target`. */
export function tversky(options: TverskyLossOptions = {}, target = 'mask'): Graph {
  return traceLoss(new TverskyLoss(options), ['output', target]);
}
