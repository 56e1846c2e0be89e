/** The losses of torch.nn.functional on symbolic tensors; part of functional.ts. */
import { call, type SymbolicTensor } from './tensor.js';

type Tensor = SymbolicTensor;

export type Reduction = 'none' | 'mean' | 'sum';

/** ATen's enumeration. */
const reductions: Record<Reduction, number> = { none: 0, mean: 1, sum: 2 };

export interface CrossEntropyOptions {
  /** One factor per class [C]. */
  weight?: Tensor | null;
  /** Targets with this value do not count. Default −100. */
  ignoreIndex?: number;
  reduction?: Reduction;
  /** Share of the target spread evenly over all classes, 0…1. Default 0. */
  labelSmoothing?: number;
}

/** `x` logits [N, C, ...]; `target` class indices int64 [N, ...] or probabilities [N, C, ...]. */
export function crossEntropy(x: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { weight = null, ignoreIndex = -100, reduction = 'mean', labelSmoothing = 0 } = options;
  return call('aten::cross_entropy_loss', [
    x,
    target,
    weight,
    reductions[reduction],
    ignoreIndex,
    labelSmoothing,
  ]);
}

/** `x` log-probabilities [N, C, ...]. */
export function nllLoss(
  x: Tensor,
  target: Tensor,
  options: { weight?: Tensor | null; ignoreIndex?: number; reduction?: Reduction } = {},
): Tensor {
  const { weight = null, ignoreIndex = -100, reduction = 'mean' } = options;
  return call('aten::nll_loss_nd', [x, target, weight, reductions[reduction], ignoreIndex]);
}

export function mseLoss(x: Tensor, target: Tensor, reduction: Reduction = 'mean'): Tensor {
  return call('aten::mse_loss', [x, target, reductions[reduction]]);
}

export function l1Loss(x: Tensor, target: Tensor, reduction: Reduction = 'mean'): Tensor {
  return call('aten::l1_loss', [x, target, reductions[reduction]]);
}

export function smoothL1Loss(x: Tensor, target: Tensor, beta = 1, reduction: Reduction = 'mean'): Tensor {
  return call('aten::smooth_l1_loss', [x, target, reductions[reduction], beta]);
}

export function binaryCrossEntropyWithLogits(
  x: Tensor,
  target: Tensor,
  options: { weight?: Tensor | null; posWeight?: Tensor | null; reduction?: Reduction } = {},
): Tensor {
  const { weight = null, posWeight = null, reduction = 'mean' } = options;
  return call('aten::binary_cross_entropy_with_logits', [
    x,
    target,
    weight,
    posWeight,
    reductions[reduction],
  ]);
}
