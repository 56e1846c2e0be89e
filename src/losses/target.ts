/** Targets as the losses over classes take them. */
import { call, type Tensor } from '../nn/index.js';

/** What scores and target mean. */
export type LossMode =
  /** Scores [N, C, ...] of which one class is right; target int64 [N, ...], the index of that class. */
  | 'multiclass'
  /** One yes-or-no score per element; target 0 or 1, of as many elements. */
  | 'binary'
  /** Scores [N, C, ...], each class yes or no; target 0 or 1, of the same shape. */
  | 'multilabel';

export interface TargetOptions {
  /** Default 'multiclass'. */
  mode?: LossMode;
  /** Elements whose target has this value do not count. Default: all count. */
  ignoreIndex?: number;
}

export interface FlatTarget {
  /** float32 [N, C, P] (C = 1 if binary): scores before softmax or sigmoid. */
  logits: Tensor;
  /** float32 [N, C, P]: 1 where the class is right; 0 elsewhere and where the element does not count. */
  truth: Tensor;
  /** float32 [N, 1, P] ([N, C, P] if multilabel): 1 where the element counts; null if all do. */
  valid: Tensor | null;
}

/**
 * Scores and target over positions, with the classes one-hot. In float32 even under autocast, because sums over
 * many positions need it.
 */
export function flattenTarget(output: Tensor, target: Tensor, options: TargetOptions = {}): FlatTarget {
  const { mode = 'multiclass', ignoreIndex } = options;
  const [batch, classes] = [output.size(0), mode === 'binary' ? 1 : output.size(1)];
  const logits = output.to('float32').reshape(batch, classes, -1);
  const flat = target.reshape(batch, mode === 'multilabel' ? classes : 1, -1);
  const ignored = ignoreIndex === undefined ? null : flat.eq(ignoreIndex);
  const valid = ignored === null ? null : call('aten::logical_not', [ignored]).to('float32');
  const counted = ignored === null ? flat : flat.maskedFill(ignored, 0);
  if (mode !== 'multiclass') return { logits, truth: counted.to('float32'), valid };
  // one_hot refuses a class that does not exist, where a comparison with each class would overlook it.
  const oneHot = call('aten::one_hot', [counted.squeeze(1).to('int64'), classes]);
  const truth = oneHot.permute(0, 2, 1).to('float32');
  return { logits, truth: valid === null ? truth : truth.mul(valid), valid };
}

/** The mean over the elements of `x` [N, C, P] that count; 0 if none does. */
export function maskedMean(x: Tensor, valid: Tensor | null): Tensor {
  if (valid === null) return x.mean();
  const each = call('aten::expand_as', [valid, x]);
  return x
    .mul(each)
    .sum()
    .div(each.sum().clamp({ min: 1 }));
}
