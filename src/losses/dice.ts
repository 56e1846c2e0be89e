/** Dice loss, Milletari et al. 2016 (V-Net, arXiv:1606.04797): one minus the soft F1 score of each class. */
import type { Graph } from '../graph/format.js';
import { traceLoss } from './trace_loss.js';
import { TverskyLoss, type RegionLossOptions } from './tversky.js';

/** 1 − 2 Σ p t / Σ (p + t). */
export class DiceLoss extends TverskyLoss {
  /** @throws ArgumentError for an option out of its range */
  constructor(options: RegionLossOptions = {}) {
    super({ ...options, alpha: 0.5, beta: 0.5 });
  }
}

/** The graph of the dice loss over `output` and the batch's field `target`. */
export function dice(options: RegionLossOptions = {}, target = 'mask'): Graph {
  return traceLoss(new DiceLoss(options), ['output', target]);
}
