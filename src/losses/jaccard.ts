/** Jaccard loss, Rahman & Wang 2016: one minus the soft intersection over union of each class. */
import type { Graph } from '../graph/format.js';
import { traceLoss } from './trace_loss.js';
import { TverskyLoss, type RegionLossOptions } from './tversky.js';

/** 1 − Σ p t / Σ (p + t − p t). */
export class JaccardLoss extends TverskyLoss {
  /** @throws ArgumentError for an option out of its range */
  constructor(options: RegionLossOptions = {}) {
    super({ ...options, alpha: 1, beta: 1 });
  }
}

/** The graph of the Jaccard loss over `output` and the batch's field `target`. */
export function jaccard(options: RegionLossOptions = {}, target = 'mask'): Graph {
  return traceLoss(new JaccardLoss(options), ['output', target]);
}
