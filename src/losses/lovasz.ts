/**
 * The Lovász-Softmax loss: a tractable surrogate for the optimization of the intersection-over-union measure, Berman
 * et al. 2018 (arXiv:1705.08790); for yes-or-no targets the Lovász hinge (Yu & Blaschko 2015).
 */
import type { Graph } from '../graph/format.js';
import { call, functional as F, Module, type Tensor } from '../nn/index.js';
import { flattenTarget, type FlatTarget, type TargetOptions } from './target.js';
import { traceLoss } from './trace_loss.js';

export interface LovaszLossOptions extends TargetOptions {
  /** Take the loss of each image and then their mean, instead of one over the batch. Default false. */
  perImage?: boolean;
}

/** Algorithm 1: the derivative of the Jaccard loss by each error, for truth in descending order of the errors. */
function lovaszGradient(truth: Tensor): Tensor {
  const total = truth.sum(-1, { keepdim: true });
  const intersection = total.sub(call('aten::cumsum', [truth, -1]));
  const union = total.add(call('aten::cumsum', [truth.rsub(1), -1]));
  const loss = intersection.div(union).rsub(1);
  return loss.sub(F.pad(loss.slice(-1, 0, -1), [1, 0]));
}

/** Errors from 0 on, of softmax for one class of many, of the margin for yes or no. What does not count has none. */
function errorsOf({ logits, truth, valid }: FlatTarget, softmax: boolean): Tensor {
  const errors = softmax ? truth.sub(logits.softmax(1)).abs() : logits.mul(truth.mul(2).sub(1)).rsub(1);
  return valid === null ? errors : errors.mul(valid);
}

export class LovaszLoss extends Module {
  readonly options: LovaszLossOptions;

  constructor(options: LovaszLossOptions = {}) {
    super();
    this.options = options;
  }

  /** Shapes as `mode` says (default 'multiclass') → the mean over the classes that the target contains. */
  forward(output: Tensor, target: Tensor): Tensor {
    const { mode = 'multiclass', perImage = false } = this.options;
    const softmax = mode === 'multiclass';
    const flat = flattenTarget(output, target, this.options);
    // [images, C, P]; without perImage, the batch is one image.
    const join = (x: Tensor): Tensor => (perImage ? x : x.transpose(0, 1).flatten(1).unsqueeze(0));
    const truth = join(flat.truth);
    const [sorted, order] = call('aten::sort', [join(errorsOf(flat, softmax)), -1, true], { outputs: 2 });
    const gradient = lovaszGradient(truth.gather(-1, order!)).detach();
    // The hinge is an error only where the margin is not reached.
    const each = (softmax ? sorted! : sorted!.relu()).mul(gradient).sum(-1);
    if (!softmax) return each.mean();
    const present = truth.sum(-1).gt(0).to('float32');
    return each
      .mul(present)
      .sum(1)
      .div(present.sum(1).clamp({ min: 1 }))
      .mean();
  }
}

/** The graph of the Lovász loss over `output` and the batch's field `target`. */
export function lovasz(options: LovaszLossOptions = {}, target = 'mask'): Graph {
  return traceLoss(new LovaszLoss(options), ['output', target]);
}
