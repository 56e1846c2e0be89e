/** Precision of single nodes of a training on a CPU. Part of contract.ts. */
import type { DType } from '../../graph/format.js';

/** The convolutions and matrix products that are computed in bfloat16; all others are in float32. */
export interface PrecisionPlan {
  /** Names as `precisionNodes` gives them. */
  bf16: string[];
}

/** A convolution or matrix product of a graph. */
export interface PrecisionNode {
  /** Path of its module; `path#1`, `path#2`… for further ones with the same path, in their order. */
  name: string;
  path: string;
  op: string;
}

export interface MeasureRequest {
  /** One per input of the graph, as a step will have them: `[N, C, H, W]`. */
  inputs: { shape: number[]; dtype: DType }[];
  /** Optimizer steps to come: what could not gain more than measuring takes is not measured. Default: always. */
  steps?: number;
}

/** A measurement that is under way. */
export interface PrecisionMeasurement {
  /** Rejects with AbortedError after `stop()`. */
  verdict: Promise<PrecisionVerdict>;
  /** Ends it after the operator, or the backward pass of a step, that is being timed. */
  stop(): void;
}

export interface PrecisionVerdict extends PrecisionPlan {
  /** How many nodes there are to choose from. */
  nodes: number;
  /**
   * `measured`: the plan is faster. `no_gain`: measured, float32 throughout is as fast. `too_small`: not measured,
   * there is too little to gain. `unsupported`: not measured, the processor has no arithmetic in bfloat16.
   * `bf16` is empty but for the first.
   */
  reason: 'measured' | 'no_gain' | 'too_small' | 'unsupported';
  /** Rows of the batches it was measured with: no more than take a fraction of a second; 0 if it was not. */
  batch: number;
  /**
   * Of all nodes together, forward and backward: in float32, and each as in the plan. All times are of the thread that
   * computes, which is wall time but for what other programs take.
   */
  nodes_fp32_ms: number;
  nodes_plan_ms: number;
  /** Of whole steps without loss and optimizer. */
  step_fp32_ms: number;
  step_plan_ms: number;
  /** That the measurement took. */
  seconds: number;
  /** Of these the measuring thread had a processor for, 0…1: near 1 on a quiet machine. */
  processor_share: number;
}
