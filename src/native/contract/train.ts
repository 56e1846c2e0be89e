/** Training sessions. Part of contract.ts. */
import type { Graph } from '../../graph/format.js';
import type { Modes, NativeGraph } from './graph.js';
import type { Normalize } from './inference.js';
import type { NativeLoader } from './loader.js';
import type { OptimizerOptions, ParameterGroup, ScheduleOptions } from './optimizer.js';
import type { PrecisionPlan } from './precision.js';
import type { NativeProcessGroup } from './processes.js';
import type { DeviceName, NativeHandle, NativeTensor } from './tensors.js';

export interface TrainOptions {
  device: DeviceName;
  /** Inputs named like the model's outputs and the batch's fields; its output `loss` is a scalar. */
  loss: Graph;
  optimizer: OptimizerOptions;
  /** Every trainable parameter in exactly one group; parameters in no group are frozen. */
  groups: ParameterGroup[];
  schedule: ScheduleOptions;
  amp?: 'off' | 'bf16' | 'fp16';
  /** With `amp` off: single nodes in bfloat16. ArgumentError for a name that the graph does not have. */
  precision?: PrecisionPlan;
  scaler?: { init_scale?: number; growth_factor?: number; backoff_factor?: number; growth_interval?: number };
  channels_last?: boolean;
  /**
   * On a CPU, exchange operators for ones of our own that compute the same faster, and fuse batch norms with what
   * follows them. Default true; false is for comparisons and for looking for a fault.
   */
  fuse?: boolean;
  cudnn_benchmark?: boolean;
  tf32?: boolean;
  /** Only algorithms that give the same bits every time; an operator without one throws. Excludes cudnn_benchmark. */
  deterministic?: boolean;
  flush_denormal?: boolean;
  threads?: number;
  seed?: number;
  /** Kinds that are not named run in `train`. */
  modes?: Modes;
  normalize?: Normalize;
  /** Micro-batches (batches of the loader) per optimizer step. Default 1. */
  grad_accum?: number;
  clip_norm?: number;
  clip_value?: number;
  /**
   * A model that is only asked: its outputs, in eval mode and without gradients, are inputs of the loss, `teacher`
   * the first that is not auxiliary, `teacher.NAME` the one of that name. `normalize` is its own. Its weights must
   * not change meanwhile.
   */
  teacher?: { graph: NativeGraph; normalize?: Normalize };
  /**
   * Mixup and CutMix: each batch is mixed with itself in reverse order, as timm's Mixup in batch mode does. The
   * model has one input, an image; the loss (and a loss of your own) sees the field `label` (default `label`, int64
   * [N]) as shares of the classes, float32 [N, classes]. `mixup` and `cutmix` are the α of Beta(α, α), 0 for never
   * (the default); `prob` (1) that of mixing a batch at all, `switch_prob` (0.5) that of CutMix where both are above
   * 0. After `steps` steps nothing is mixed any more. What a batch is mixed by depends on seed, step, position in
   * the step and rank alone; each process mixes its own rows.
   */
  mix?: {
    classes: number;
    label?: string;
    mixup?: number;
    cutmix?: number;
    prob?: number;
    switch_prob?: number;
    steps?: number;
  };
  /**
   * Look for numbers that are not finite: at the loss of every step, and at the norm of its gradients (on the CPU
   * only every `gradients_every` steps, counted from the first of the training, default 1, and at the last step of a
   * run; where clipping needs the norm, at every step). What is found ends a run before the weights have it; where
   * steps were left out, the fault may be `applied`. `anomaly`: at every node of every step (slow). Gradients scaled
   * for fp16 may be infinite: many skipped steps in a row are what ends a run then. Absent: nobody looks.
   */
  nan_watch?: { gradients_every?: number; anomaly?: boolean };
  /**
   * The processes that train this model together, all with the same options: each step's gradients and losses are
   * those of the whole batch, of which each process has a part. It starts from the weights of rank 0.
   */
  process_group?: NativeProcessGroup;
  /** With several processes: batch norm takes its statistics over the whole batch. Default true. */
  sync_batch_norm?: boolean;
  /**
   * Exponential moving average of every floating entry of the state dict, batch-norm statistics included; integers
   * are copied. Default decay 0.9999; with `warmup` that of update n is at most 1 − (1 + n)^(−2/3), as in timm.
   */
  ema?: { decay?: number; warmup?: boolean };
  /**
   * Stochastic weight averaging: the plain mean of the weights after steps start + interval, start + 2·interval, …
   * (steps counted as `stepCount` does), over every floating entry of the state dict. Until the first of these the
   * average is the weights themselves. Not with `ema`. Default interval 1.
   */
  swa?: { start: number; interval?: number };
  /**
   * What becomes of a step whose forward or backward runs out of memory. `halve` (default): it is put back to where it
   * began, the micro-batch is halved, and the same batch is tried again, its gradients added up over the parts; down to
   * one row (two, where a batch norm would see a single value per channel), then DeviceError. Several processes stop.
   * `stop`: DeviceError.
   */
  on_oom?: 'halve' | 'stop';
  /** Rows of a micro-batch at most: larger batches are computed in parts. Default: batches stay whole. */
  micro_batch?: number;
  /**
   * Whole steps (forward to average) recorded as a CUDA graph and repeated, from the fourth step of a size on. `auto`
   * (default): on CUDA where they can be, else the first StepsEvent says why not; `on`: else a DeviceError.
   */
  cuda_graphs?: 'auto' | 'on' | 'off';
  /** For tests: on the CPU a tape of operators stands in for a CUDA graph. */
  tape?: boolean;
  /** For tests: count on CUDA where the host waits for the device. */
  count_syncs?: boolean;
}

/** A step ran out of memory and was tried again with smaller micro-batches, which are kept. */
export interface OutOfMemoryEvent {
  /** The step that it happened in, 1-based. */
  step: number;
  /** The allocator's words. */
  what: string;
  /** A node, or a phase such as `backward`. */
  where: string;
  /** Path of the module that was running. */
  module: string | null;
  /** Rows of a micro-batch before and after. */
  from: number;
  to: number;
  /** Micro-batches of a step from now on. */
  parts: number;
  /** Batch norms whose statistics are those of the smaller micro-batches from now on. */
  batch_norms: number;
}

/** Bytes that a step takes on the device. */
export interface MemoryTrial {
  /** False: memory ran out; then only the first three are known. */
  fits: boolean;
  /** Parameters and buffers; state of the optimizer and the scaler; averages of the weights. */
  weights: number;
  optimizer: number;
  average: number;
  gradients: number;
  /** Inputs, and what forward keeps for backward. */
  activations: number;
  /** What the peak holds beside all these. */
  workspace: number;
  /** Of all tensors of this process on the device. 0 with libtorch's own CPU allocator, which does not count. */
  peak: number;
  /** Of the allocation that failed. */
  what?: string;
  where?: string;
}

export interface StepsEvent {
  /** Optimizer steps done so far. */
  step: number;
  /** Losses of the steps since the last event, in order. */
  losses: number[];
  /** Learning rate of the last of them. */
  lr: number;
  /** Samples consumed since the last event and seconds they took. */
  samples: number;
  seconds: number;
  /** Of these, seconds spent waiting for the loader. */
  wait_seconds: number;
  /** Of the steps, those repeated from a recording (`cuda_graphs`); absent: none. */
  repeated?: number;
  /** Why steps are not recorded (any more); once. */
  declined?: string;
  /** Loss scale (fp16) and skipped steps so far. */
  scale?: number;
  skipped?: number;
  /** Bytes: peak allocated on CUDA; resident set of the process on CPU. */
  memory: number;
  /** The most that tensors took on the device, and what is taken from it or kept for reuse: `deviceMemory`. */
  memory_peak?: number;
  memory_reserved?: number;
}

/** A step whose numbers are not finite. */
export interface NonFinite {
  /** `node`: with `anomaly`; `scale`: the gradient scaler has skipped many steps in a row. */
  what: 'loss' | 'gradient' | 'node' | 'scale';
  /** Counted from 1. */
  step: number;
  /** Of the loss, the norm of the gradients, or the scale. */
  value: number;
  /** The weights have it already; otherwise all is as before the step. */
  applied: boolean;
}

/** Where numbers cease to be finite: the first place in the order of computation. */
export interface Finding {
  /** `none`: nowhere, when it was computed again. */
  phase: 'none' | 'parameter' | 'input' | 'forward' | 'loss' | 'backward' | 'gradient';
  /** The node: `aten::div.Tensor at features.3 (node 57)`; the name of a parameter or input. */
  node: string;
  /** `backward`: the nodes whose backward made the gradient of that node's result. */
  readers: string;
  /** How many numbers of `elements`. */
  nan: number;
  inf: number;
  elements: number;
  /** Of `forward` and `loss`: which of the node's arguments (`1, 2`) are not finite; empty: all are. */
  inputs: string;
  /** Of infinity: where the first NaN came of it; or empty. */
  then_nan: string;
}

export interface RunResult {
  /** Optimizer steps done in this call. */
  steps: number;
  /** Of these, repeated from a recording (`cuda_graphs`). */
  repeated: number;
  /** Times that the host waited for the device between the first step and the last, with `count_syncs`. */
  syncs?: number;
  samples: number;
  seconds: number;
  /**
   * `done`: all steps run; `epoch_end`: the loader ended; `stopped`: stop() was called; `not_finite`: `nan_watch` has
   * found a `fault` (and `anomaly` where it began, the `finding`).
   */
  reason: 'done' | 'epoch_end' | 'stopped' | 'not_finite';
  fault?: NonFinite;
  finding?: Finding;
}

export interface NativeTrain extends NativeHandle {
  /**
   * Computes the gradients of the next step once more, from the next `grad_accum` batches of the source, looks at
   * every node of model and loss, forward and backward, and leaves the session as it was.
   */
  diagnose(source: NativeLoader | Record<string, NativeTensor>[]): Promise<Finding>;
  /**
   * Takes batches from the loader's current epoch, or from an array of batches in memory (each delivered once, in
   * order), until `steps` are done, the epoch ends, or stop().
   */
  run(
    source: NativeLoader | Record<string, NativeTensor>[],
    options: {
      steps: number;
      event_interval_ms?: number;
      onEvent?: (event: StepsEvent) => void;
      onOutOfMemory?: (event: OutOfMemoryEvent) => void;
    },
  ): Promise<RunResult>;
  /**
   * One step on the given batch, split into `grad_accum` micro-batches (beside `face_offsets` [B + 1], fields whose
   * names begin with `face_` are ragged and split by it; any other prefix works alike). `update: false` stops after backward: loss
   * and gradients can be read, nothing is changed except batch-norm statistics. `outputs` are the model's outputs
   * (detached). `grad_norm` is the norm before clipping: with `clip_norm` or `update: false`, else null.
   */
  step(
    batch: Record<string, NativeTensor>,
    options?: { update?: boolean },
  ): Promise<{ loss: number; lr: number; grad_norm: number | null; outputs: Record<string, NativeTensor> }>;
  /**
   * Forward, loss and backward on `rows` rows of a batch, which is repeated if it has fewer, to see how much memory
   * they take. Leaves no trace: batch-norm statistics and generators are put back, and there are no gradients then.
   * With `rows` 0 nothing is computed: only the parts that do not depend on the batch are known.
   */
  trial(batch: Record<string, NativeTensor>, options: { rows: number }): Promise<MemoryTrial>;
  /** Gradients of the last step by parameter name (copies). */
  gradients(): Record<string, NativeTensor>;
  /** Stops `run` after the current step. */
  stop(): void;
  /** Steps done. */
  readonly stepCount: number;
  /** Rows of a micro-batch at most, after all halvings; null: batches stay whole. Part of snapshot() once halved. */
  readonly microBatch: number | null;
  /** The averaged state dict of `ema` or `swa` (copies on the CPU). ArgumentError without either. */
  ema(): Record<string, NativeTensor>;
  /**
   * Everything beside the weights that a resume needs (copies on the CPU): optimizer, scaler, average, generators.
   * `share`: what is on the CPU is not copied, and changes with the next step.
   */
  snapshot(options?: { share?: boolean }): Record<string, NativeTensor>;
  /** The operators of the model as they are run, exchanged and fused (`fuse`), each with its module path. */
  operators(): { op: string; path: string }[];
  /** The reverse of snapshot(). */
  restore(entries: Record<string, NativeTensor>, step: number): void;
  /** A metric of the model as it is now, for the schedule `reduce_on_plateau`. Not while a run or a step is under way. */
  observe(metric: number): void;
  /** The rate at a step, without side effects. */
  learningRate(step: number): number;
}

export interface TrainClass {
  new (graph: NativeGraph, options: TrainOptions): NativeTrain;
}
