/** Smooth L1: quadratic near the target, linear away from it (Girshick 2015, Fast R-CNN, equation 3). */
import type { Graph } from '../graph/format.js';
import { functional as F, Module, type Tensor } from '../nn/index.js';
import { checkRange } from './constants.js';
import { traceLoss } from './trace_loss.js';

export interface SmoothL1LossOptions {
  /** Error at which the two parts meet, from 0 on (0: L1). Default 1. */
  beta?: number;
}

export class SmoothL1Loss extends Module {
  readonly options: SmoothL1LossOptions;

  /** @throws ArgumentError for a beta below 0 */
  constructor(options: SmoothL1LossOptions = {}) {
    super();
    checkRange('SmoothL1Loss', 'beta', options.beta ?? 1, 0);
    this.options = options;
  }

  /** `output` and `target` of the same shape → the mean over all elements. */
  forward(output: Tensor, target: Tensor): Tensor {
    return F.smoothL1Loss(output, target, this.options.beta);
  }
}

/** The graph of smooth L1 over `output` and the batch's field `target`. */
export function smoothL1(options: SmoothL1LossOptions = {}, target = 'target'): Graph {
  return traceLoss(new SmoothL1Loss(options), ['output', target]);
}
