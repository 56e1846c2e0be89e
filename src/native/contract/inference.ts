/** Inference and evaluation sessions. Part of contract.ts. */
import type { Graph } from '../../graph/format.js';
import type { Modes, NativeGraph } from './graph.js';
import type { NativeLoader } from './loader.js';
import type { ClassificationResult } from './metrics.js';
import type { DeviceName, NativeHandle, NativeTensor } from './tensors.js';

/** Pixel preprocessing done on the device: uint8 [N, H, W, C] → (x / 255 − mean) / std, channels-last [N, C, H, W]. */
export interface Normalize {
  /** Per channel in the model's order, for pixels scaled to 0…1. */
  mean: number[];
  std: number[];
  /** The model's order of colours; pixels come as RGB. Sessions only, not loaders. Default 'rgb'. */
  channel_order?: 'rgb' | 'bgr';
}

export interface InferenceOptions {
  device?: DeviceName;
  /** Intra-op threads. Default: all cores. */
  threads?: number;
  /** Own worker threads, i.e. how many forwards may run at once. Default 1. */
  workers?: number;
  channels_last?: boolean;
  amp?: 'off' | 'bf16' | 'fp16';
  /** Applied to every uint8 four-dimensional input. */
  normalize?: Normalize;
}

/** What every evaluation finds out. */
export interface Measures {
  samples: number;
  /** Mean over samples; null without a loss. */
  loss: number | null;
  /** Means over samples of the metrics that were asked for. */
  metrics: Record<string, number>;
  seconds: number;
}

export interface EvaluationResult extends ClassificationResult, Measures {}

export interface EvaluateOptions {
  /** A graph over the model's outputs and the batch's fields. */
  loss?: Graph;
  /**
   * Graphs over the same, each with one output: a number for the batch, the mean over its samples, or one for each
   * sample. ArgumentError for another shape, DataError for an input that is neither output nor field.
   */
  metrics?: Record<string, Graph>;
  /** Keeps every score for it: 4 bytes × samples × classes, up to 1 GiB. Default false. */
  auroc?: boolean;
  onProgress?: (done: number, total: number) => void;
}

export interface RecomputeResult {
  /** Batch norms that got new statistics. */
  layers: number;
  /** Dropout and stochastic depth operators, which were off. */
  inactive: number;
  batches: number;
  samples: number;
  seconds: number;
}

export interface NativeInference extends NativeHandle {
  /**
   * Runs on the session's own threads. Result: outputs by name, and tapped outputs by module path (the last
   * node made by that module or one below it). What neither needs is not computed.
   *
   * `outputs`: names of those to compute. Default: all of them, but where every mode is eval without the
   * auxiliary ones. ArgumentError for an unknown name, or if there is neither an output nor a tap.
   */
  forward(
    inputs: Record<string, NativeTensor>,
    options?: { modes?: Modes; taps?: string[]; outputs?: string[]; seed?: number },
  ): Promise<Record<string, NativeTensor>>;
  /**
   * Loss and metrics over one epoch of a loader. With `classes` also the figures of a classifier, whose logits are
   * the output `output`, or else the first one.
   */
  evaluate(loader: NativeLoader, options: EvaluateOptions & { classes: number }): Promise<EvaluationResult>;
  evaluate(loader: NativeLoader, options: EvaluateOptions & { classes?: undefined }): Promise<Measures>;
  /**
   * Gives every batch norm the population statistics of its activations over the data (mean, biased variance,
   * accumulated in float64). Each layer normalises by its own batch meanwhile; dropout and stochastic depth are off.
   * An array of batches is taken in order. After a failure the model is as before.
   */
  recomputeBatchNorm(
    source: NativeLoader | Record<string, NativeTensor>[],
    options?: {
      /** At most. Default 200. */
      batches?: number;
      /** Module paths whose batch norms keep their statistics. */
      frozen?: string[];
      onProgress?: (done: number, total: number) => void;
    },
  ): Promise<RecomputeResult>;
  /** Copies the graph's state again if the session holds its own copy (other device, other layout). */
  refresh(): void;
  /** Makes a running `evaluate` or `recomputeBatchNorm` reject with AbortedError at the next batch. */
  stop(): void;
}

export interface InferenceClass {
  new (graph: NativeGraph, options: InferenceOptions): NativeInference;
}
