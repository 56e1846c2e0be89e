/** Cross entropy over class scores, the loss of classification. */
import { ArgumentError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { call, functional as F, Module, stack, type Tensor } from '../nn/index.js';
import { traceLoss } from './trace_loss.js';

export interface CrossEntropyLossOptions {
  /** Share of each target spread evenly over all classes (Szegedy et al. 2015, section 7), 0…1. Default 0. */
  labelSmoothing?: number;
  /** Samples with this label do not count. Default −100. */
  ignoreIndex?: number;
  /** One factor per class, from 0 on; the mean is weighted too. Default: all 1. */
  classWeights?: readonly number[];
}

/** A float32 tensor of constants. Filled on the device, so that a CUDA graph can capture it. */
function constants(values: readonly number[]): Tensor {
  return stack(values.map((value) => call('aten::scalar_tensor', [value, { dtype: 'float32' }])));
}

export class CrossEntropyLoss extends Module {
  readonly options: CrossEntropyLossOptions;

  constructor(options: CrossEntropyLossOptions = {}) {
    super();
    const { labelSmoothing = 0 } = options;
    if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
      throw new ArgumentError({
        what: `label smoothing must be between 0 and 1, not ${String(labelSmoothing)}`,
      });
    }
    if (options.classWeights?.some((w) => !(w >= 0 && Number.isFinite(w)))) {
      throw new ArgumentError({ what: 'class weights must be finite and not negative' });
    }
    this.options = options;
  }

  /** `output` logits [N, C, ...], `label` class indices int64 [N, ...] → the mean over samples. */
  forward(output: Tensor, label: Tensor): Tensor {
    const { classWeights, ...options } = this.options;
    const weight = classWeights === undefined ? null : constants(classWeights);
    return F.crossEntropy(output, label, { ...options, weight });
  }
}

/** The graph of cross entropy over `output` and `label`. */
export function crossEntropy(options: CrossEntropyLossOptions = {}): Graph {
  return traceLoss(new CrossEntropyLoss(options), ['output', 'label']);
}
