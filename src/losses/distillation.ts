/** Distilling the Knowledge in a Neural Network, Hinton et al. 2015 (arXiv:1503.02531). */
import { ArgumentError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { call, Module, type Tensor } from '../nn/index.js';
import { traceLoss } from './trace_loss.js';

export interface DistillationLossOptions {
  /** T, above 0: divides the logits of both, so that the teacher's small probabilities count. Default 4. */
  temperature?: number;
}

/** T² · KL(softmax(teacher / T) ‖ softmax(output / T)); T² keeps the size of the gradients. */
export class DistillationLoss extends Module {
  readonly options: DistillationLossOptions;

  /** @throws ArgumentError unless the temperature is above 0 */
  constructor(options: DistillationLossOptions = {}) {
    super();
    const { temperature = 4 } = options;
    if (!(temperature > 0 && Number.isFinite(temperature))) {
      throw new ArgumentError({ what: `DistillationLoss: temperature must be above 0, not ${temperature}` });
    }
    this.options = options;
  }

  /** Logits [N, C, ...] of student and teacher → the mean over samples (and positions). */
  forward(output: Tensor, teacher: Tensor): Tensor {
    const { temperature = 4 } = this.options;
    // In float32 also under autocast: the differences are small.
    const logProbabilities = (logits: Tensor): Tensor => logits.to('float32').div(temperature).logSoftmax(1);
    const student = logProbabilities(output);
    const target = logProbabilities(teacher).detach();
    // Reduction 0: none; the target is logarithmic too.
    const divergence = call('aten::kl_div', [student, target, 0, true]);
    return divergence
      .sum(1)
      .mean()
      .mul(temperature ** 2);
  }
}

/** The graph of distillation over `output` and the teacher's logits in the batch's field `teacher`. */
export function distillation(options: DistillationLossOptions = {}, teacher = 'teacher'): Graph {
  return traceLoss(new DistillationLoss(options), ['output', teacher]);
}
