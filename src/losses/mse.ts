/** Mean squared error, for regression and distillation. */
import type { Graph } from '../graph/format.js';
import { functional as F, Module, type Tensor } from '../nn/index.js';
import { traceLoss } from './trace_loss.js';

export class MSELoss extends Module {
  /** `output` and `target` of the same shape → the mean over all elements. */
  forward(output: Tensor, target: Tensor): Tensor {
    return F.mseLoss(output, target);
  }
}

/** The graph of the mean squared error over `output` and the batch's field `target`. */
export function mse(target = 'target'): Graph {
  return traceLoss(new MSELoss(), ['output', target]);
}
