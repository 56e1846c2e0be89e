/**
 * The typed contract of the native addon, written by hand in this one place. What the C++ side (native/bindings)
 * provides and what the TypeScript side may assume are the same list. All handles: `dispose()` is idempotent,
 * any other use after it throws DisposedError, and a finalizer disposes forgotten ones.
 * Errors are the classes of src/errors.ts.
 */
import type { DType, Graph, GraphArg, Mode, ModeKind, Init } from '../graph/format.js';

export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint16Array
  | Uint8Array
  | Uint8ClampedArray;

/** `cpu`, `cuda:0`, `meta`. */
export type DeviceName = string;

export interface NativeHandle {
  dispose(): void;
  readonly disposed: boolean;
}

/** A tensor owned by the native core; external memory is reported to V8. */
export interface NativeTensor extends NativeHandle {
  readonly shape: number[];
  readonly dtype: DType;
  readonly device: DeviceName;
  /** Copies to the CPU and returns contiguous elements. float16/bfloat16 come as Float32Array, bool as Uint8Array. */
  toTypedArray(): TypedArray;
  /** Same tensor on another device or with another dtype. Shares memory if nothing changes. */
  to(options: { device?: DeviceName; dtype?: DType }): NativeTensor;
  /** The value of a one-element tensor. */
  item(): number;
}

export interface TensorClass {
  /**
   * Copies the elements: JavaScript may detach or resize a buffer while native threads would read it.
   * Uint8Array → uint8, Uint16Array needs dtype float16/bfloat16/int16.
   */
  fromTypedArray(data: TypedArray, shape: number[], options?: { dtype?: DType }): NativeTensor;
  /** Calls any operator by the boxed path of the executor. Results in schema order. Unrestricted (user's own script). */
  call(op: string, args: (GraphArg | NativeTensor | (NativeTensor | null)[])[]): NativeTensor[];
}

/** Mode flags of one run: a default per kind and overrides by module-path prefix (the longest prefix wins). */
export interface Modes {
  dropout?: Mode;
  batch_norm?: Mode;
  stochastic_depth?: Mode;
  overrides?: { prefix: string; kind?: ModeKind; mode: Mode }[];
}

export interface NodeInfo {
  op: string;
  path: string;
  /** Shapes of all tensor arguments and of the results, for the input given to `inferShapes`. */
  inputs: number[][];
  outputs: number[][];
  dtypes: DType[];
}

/** A validated graph with its state (parameters and buffers, on the CPU until a session moves it). */
export interface NativeGraph extends NativeHandle {
  /** Draws every parameter and buffer from `seed`. */
  initialize(seed: number): void;
  /** State dict entries in order. The tensors share the model's memory. */
  state(): { name: string; kind: 'parameter' | 'buffer'; tensor: NativeTensor }[];
  /** Copies values in. Names and shapes must match exactly, unless `strict` is false: then what fits is loaded. */
  loadState(
    entries: Record<string, NativeTensor>,
    options?: { strict?: boolean },
  ): { missing: string[]; unexpected: string[]; mismatched: string[] };
  /**
   * `loadState` from a file, by pread, straight into the state's memory: dtype, layout and byte order are
   * converted through a buffer of some megabytes. Nothing must run on the state meanwhile. All ranges are checked
   * before anything is changed.
   */
  loadFile(
    path: string,
    tensors: FileTensor[],
    options?: { strict?: boolean },
  ): Promise<{ missing: string[]; unexpected: string[]; mismatched: string[] }>;
  /** Runs the graph on the meta device. One shape per input. */
  inferShapes(inputs: { shape: number[]; dtype: DType }[]): NodeInfo[];
  /** Same state, another trace of the same model (other guards). Parameters must be equal. */
  replaceGraph(graph: Graph): void;
}

export interface GraphClass {
  /** Validates. `trusted: false` (graphs from files) restricts operators to the allow-list. */
  new (graph: Graph, options: { trusted: boolean }): NativeGraph;
}

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

/** Shares in 0…1; 0 where nothing was predicted or nothing is there. */
export interface MetricAverages {
  precision: number;
  recall: number;
  f1: number;
}

/** Figures of a classifier over all samples that were added. */
export interface ClassificationResult {
  samples: number;
  /** Shares of the samples, 0…1; `top5` of fewer than five classes: among all of them. */
  top1: number;
  top5: number;
  /** Mean over samples; null without samples, and from `evaluate`, whose loss is a graph. */
  cross_entropy: number | null;
  /** Expected calibration error, l1, 15 bins of equal width over the highest softmax. NaN if a score is. */
  ece: number;
  /** One-vs-rest area under the ROC curve, exact: mean over the classes that have samples; null if it was not computed. */
  auroc: number | null;
  /** Null for a class without samples; empty if it was not computed. */
  auroc_per_class: (number | null)[];
  /** Mean over the classes that occur as label or prediction. */
  macro: MetricAverages;
  /** Mean weighted by the samples of each class. */
  weighted: MetricAverages;
  per_class: { support: number[]; precision: number[]; recall: number[]; f1: number[] };
  classes: number;
  /** Row = target, column = prediction, flat [classes × classes]. */
  confusion: number[];
}

export interface EvaluationResult extends ClassificationResult {
  loss: number | null;
  seconds: number;
}

/** Figures of a segmentation over all pixels that were added. */
export interface SegmentationResult {
  /** Counted ones: without those of `ignore_index`. */
  pixels: number;
  pixel_accuracy: number;
  /** Means over the classes that occur as target or prediction. */
  miou: number;
  mean_dice: number;
  /** Null for a class that does not occur. */
  iou_per_class: (number | null)[];
  dice_per_class: (number | null)[];
  classes: number;
  /** Row = target, column = prediction, flat [classes × classes]. */
  confusion: number[];
}

/** Counts batches on a thread of its own, in the order of the calls. */
export interface NativeClassificationMetrics extends NativeHandle {
  /** `logits` floating [n, classes], `label` int64 [n]. DataError for a label outside 0…classes − 1. */
  add(logits: NativeTensor, label: NativeTensor): Promise<void>;
  result(): Promise<ClassificationResult>;
}

export interface ClassificationMetricsClass {
  /**
   * AUROC keeps every score (4 bytes × samples × classes); beyond `auroc_bytes` (default 1 GiB) it is given up, and
   * the result has null. Everything else needs the confusion matrix and a few sums.
   */
  new (options: {
    classes: number;
    device?: DeviceName;
    /** Default true. */
    auroc?: boolean;
    auroc_bytes?: number;
    /** Of the calibration error. Default 15. */
    bins?: number;
  }): NativeClassificationMetrics;
}

export interface NativeSegmentationMetrics extends NativeHandle {
  /**
   * `output`: floating logits [n, classes, …] or predicted classes, integers [n, …]; `mask`: integers [n, …].
   * DataError for a value of the mask outside 0…classes − 1 that is not `ignore_index`.
   */
  add(output: NativeTensor, mask: NativeTensor): Promise<void>;
  result(): Promise<SegmentationResult>;
}

export interface SegmentationMetricsClass {
  new (options: {
    classes: number;
    device?: DeviceName;
    /** Pixels of the mask with this value are not counted. */
    ignore_index?: number;
  }): NativeSegmentationMetrics;
}

/** What WIDER FACE's evaluation works on, image after image. */
export interface WiderOptions {
  /** [x, y, width, height, score] of each prediction, in the order in which they are matched. */
  predictions: Float64Array;
  /** [images + 1]: where the predictions of an image begin, counted in predictions. */
  prediction_offsets: Int32Array;
  /** [x, y, width, height] of each face. */
  faces: Float64Array;
  face_offsets: Int32Array;
  /** Per setting (easy, medium, hard): 1 for each face that counts, 0 for each that is ignored. */
  settings: Uint8Array[];
  /** Default 0.5. */
  iou_threshold?: number;
  /** Of the normalised score. Default 1000. */
  thresholds?: number;
}

export interface WiderResult {
  average_precision: number;
  /** Faces that count. */
  faces: number;
  /** One value per threshold, the highest first. */
  precision: Float64Array;
  recall: Float64Array;
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
  /** Classification metrics over one epoch of a loader. `loss` is a graph over `output` and `label`. */
  evaluate(
    loader: NativeLoader,
    options: {
      classes: number;
      loss?: Graph;
      /** Keeps every score for it: 4 bytes × samples × classes, up to 1 GiB. Default false. */
      auroc?: boolean;
      onProgress?: (done: number, total: number) => void;
    },
  ): Promise<EvaluationResult>;
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

export type OptimizerOptions =
  | { name: 'sgd'; momentum?: number; dampening?: number; nesterov?: boolean }
  | { name: 'adamw' | 'adam'; betas?: [number, number]; eps?: number; amsgrad?: boolean }
  /** As torch.optim has them; defaults are torch's. */
  | { name: 'rmsprop'; alpha?: number; eps?: number; momentum?: number; centered?: boolean }
  | { name: 'adagrad'; lr_decay?: number; initial_accumulator_value?: number; eps?: number }
  | { name: 'radam'; betas?: [number, number]; eps?: number; decoupled_weight_decay?: boolean }
  | {
      name: 'nadam';
      betas?: [number, number];
      eps?: number;
      momentum_decay?: number;
      decoupled_weight_decay?: boolean;
    }
  /** As timm has them; defaults are timm's. */
  | { name: 'lion'; betas?: [number, number] }
  | {
      name: 'lamb';
      betas?: [number, number];
      eps?: number;
      /** Largest norm of all gradients together. Default 1; null: no limit. */
      max_grad_norm?: number | null;
      bias_correction?: boolean;
      grad_averaging?: boolean;
      trust_clip?: boolean;
      /** Adapt the rate of parameters without weight decay, too. Default false. */
      always_adapt?: boolean;
      decoupled_decay?: boolean;
    }
  | {
      name: 'lars';
      momentum?: number;
      nesterov?: boolean;
      trust_coeff?: number;
      eps?: number;
      trust_clip?: boolean;
      always_adapt?: boolean;
    };

export interface ScheduleCommon {
  /** Optimizer steps of linear warm-up, before the course begins to count. `total_steps` include them. */
  warmup_steps?: number;
  /** Factor on the course's first rate at step 0. Default 0.01. */
  warmup_start?: number;
  /** Optimizer steps of one step of the course: those of an epoch for schedules per epoch. Default 1. */
  interval?: number;
}

/** The learning rate of step i (0-based, counted in optimizer steps) is a pure function of these numbers. */
export type ScheduleOptions = ScheduleCommon &
  (
    | { name: 'constant'; lr: number }
    /** lr · gamma^floor(i / step_size). */
    | { name: 'step'; lr: number; step_size: number; gamma?: number }
    | { name: 'multistep'; lr: number; milestones: number[]; gamma?: number }
    | { name: 'exponential'; lr: number; gamma: number }
    /** (lr − min_lr) · (1 − i/total_steps)^power + min_lr. `power` default 1. */
    | { name: 'polynomial'; lr: number; min_lr?: number; total_steps: number; power?: number }
    /** Half a cosine from lr down to min_lr at total_steps. */
    | { name: 'cosine'; lr: number; min_lr?: number; total_steps: number }
    /** Periods of t_0, t_0·t_mult, t_0·t_mult², … steps. */
    | { name: 'cosine_restarts'; lr: number; min_lr?: number; t_0: number; t_mult?: number }
    /** Smith & Topin 2017, torch.optim.lr_scheduler.OneCycleLR. */
    | {
        name: 'one_cycle';
        max_lr: number;
        total_steps: number;
        /** Default 0.3. */
        pct_start?: number;
        /** Default 25. */
        div_factor?: number;
        /** Default 1e4. */
        final_div_factor?: number;
        /** Default `cos`. */
        anneal?: 'cos' | 'linear';
        three_phase?: boolean;
        /** Momentum, or the first beta, moves between these against the rate. Default false, 0.85, 0.95. */
        cycle_momentum?: boolean;
        base_momentum?: number;
        max_momentum?: number;
      }
    /** torch.optim.lr_scheduler.ReduceLROnPlateau over the values given to `observe`: the one schedule with a state. */
    | {
        name: 'reduce_on_plateau';
        lr: number;
        min_lr?: number;
        mode?: 'min' | 'max';
        factor?: number;
        patience?: number;
        threshold?: number;
        threshold_mode?: 'rel' | 'abs';
        cooldown?: number;
        eps?: number;
      }
  );

export interface ParameterGroup {
  parameters: string[];
  weight_decay: number;
  /** Factor on the schedule's rate. Default 1. */
  lr_scale?: number;
}

export interface TrainOptions {
  device: DeviceName;
  /** Inputs named like the model's outputs and the batch's fields; its output `loss` is a scalar. */
  loss: Graph;
  optimizer: OptimizerOptions;
  /** Every trainable parameter in exactly one group; parameters in no group are frozen. */
  groups: ParameterGroup[];
  schedule: ScheduleOptions;
  amp?: 'off' | 'bf16' | 'fp16';
  scaler?: { init_scale?: number; growth_factor?: number; backoff_factor?: number; growth_interval?: number };
  channels_last?: boolean;
  cudnn_benchmark?: boolean;
  tf32?: boolean;
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
  /** Loss scale (fp16) and skipped steps so far. */
  scale?: number;
  skipped?: number;
  /** Bytes: peak allocated on CUDA; resident set of the process on CPU. */
  memory: number;
}

export interface RunResult {
  /** Optimizer steps done in this call. */
  steps: number;
  samples: number;
  seconds: number;
  /** `done`: all steps run; `epoch_end`: the loader ended; `stopped`: stop() was called. */
  reason: 'done' | 'epoch_end' | 'stopped';
}

export interface NativeTrain extends NativeHandle {
  /**
   * Takes batches from the loader's current epoch, or from an array of batches in memory (each delivered once, in
   * order), until `steps` are done, the epoch ends, or stop().
   */
  run(
    source: NativeLoader | Record<string, NativeTensor>[],
    options: { steps: number; event_interval_ms?: number; onEvent?: (event: StepsEvent) => void },
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
  /** Gradients of the last step by parameter name (copies). */
  gradients(): Record<string, NativeTensor>;
  /** Stops `run` after the current step. */
  stop(): void;
  /** Steps done. */
  readonly stepCount: number;
  /** The averaged state dict (copies on the CPU). ArgumentError without `ema`. */
  ema(): Record<string, NativeTensor>;
  /** Everything beside the weights that a resume needs (copies on the CPU): optimizer, scaler, average, generators. */
  snapshot(): Record<string, NativeTensor>;
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

export interface ProcessGroupOptions {
  rank: number;
  /** How many processes. */
  world: number;
  /** Where they find each other. */
  host: string;
  port: number;
  /** Listen there: rank 0, unless a launcher does. */
  server: boolean;
  /** Of names on a server that others use, too. Default `fornax`. */
  prefix?: string;
  /** Name of a network interface; `localhost`: all on this machine. Default: that of the host's name. */
  interface?: string;
  /** Where tensors are summed: NCCL for `cuda:N`, Gloo for `cpu`. */
  device: DeviceName;
  /** Of a connection and of a sum over the processes. Default 1800. */
  timeout_seconds?: number;
}

/** The processes of one training. All must ask the same of it in the same order. */
export interface NativeProcessGroup extends NativeHandle {
  readonly rank: number;
  readonly world: number;
  /** The texts of all processes, by rank. TrainError if one of them is gone. One call at a time. */
  gather(text: string): Promise<string[]>;
}

/** Where a field of the pack lies. */
export interface PackField {
  path: string;
  dtype: DType;
  shape: number[];
  /** Bytes from the start of the file. */
  offset: number;
}

export interface PackShard {
  /** uint8, all pixels of the shard's images one after another, each [h, w, c]. */
  pixels: PackField;
  /** int64 [n + 1]: where each image begins in `pixels`. */
  offsets: PackField;
  /** int32 [n, 2]: height and width. */
  sizes: PackField;
  /** int64 [n]. */
  labels: PackField;
}

/** Geometry applied to uint8 images by the loader's threads, drawn per (seed, epoch, sample index, operation). */
export type AugmentOptions = {
  /** Output height and width. */
  size: [number, number];
  /**
   * `resize_crop`: shorter side to `resize` (bilinear, antialiased), then centre crop (evaluation);
   * `random_resized_crop`: area share and aspect ratio drawn as in torchvision;
   * `random_crop`: pad by `padding` (zeros), then a random crop (CIFAR);
   * `none`: images already have the output size.
   */
  crop:
    | { kind: 'resize_crop'; resize: number }
    | { kind: 'random_resized_crop'; scale: [number, number]; ratio: [number, number] }
    | { kind: 'random_crop'; padding: number }
    | { kind: 'none' };
  /** Probability of a horizontal flip. Default 0. */
  hflip?: number;
};

export interface LoaderOptions {
  shards: PackShard[];
  channels: 1 | 3;
  /** Which samples (global indices over the shards). Default all. */
  indices?: Int32Array;
  batch_size: number;
  shuffle: boolean;
  /** Default: false. */
  drop_last?: boolean;
  seed: number;
  augment: AugmentOptions;
  /** Threads that assemble batches. Default: cores − 1, at least 1. Does not change what is delivered. */
  threads?: number;
  /** Batches kept ready. Default 2 × threads, at least 2. */
  prefetch?: number;
  /** If set, `image` is delivered as normalised float32 instead of uint8 (benchmark, comparison with other loaders). */
  normalize?: Normalize;
  /** Page-locked batches, whose copies to a GPU need not wait. DeviceError without CUDA. Default: false. */
  pin?: boolean;
  /**
   * One of several processes: delivers items `rank`, `rank + world`, … of every batch, which has `batch_size` items
   * for each process. A last batch with fewer items than processes is an ArgumentError.
   */
  shard?: { rank: number; world: number };
}

/** Fields of a batch: `image` uint8 [B, H, W, C], `label` int64 [B], `index` int64 [B] (global sample index). */
export interface NativeLoader extends NativeHandle {
  readonly batches: number;
  readonly samples: number;
  /** Starts (or restarts) an epoch; `skip` batches are passed over without being assembled (resume). */
  startEpoch(epoch: number, skip?: number): void;
  /** Next batch or null at the end of the epoch. Not while a session runs on this loader. */
  next(): Promise<Record<string, NativeTensor> | null>;
}

export interface LoaderClass {
  new (options: LoaderOptions): NativeLoader;
}

/** One tensor inside a file. */
export interface FileTensor {
  name: string;
  dtype: DType;
  shape: number[];
  /** Where its first element lies, bytes from the start of the file. */
  offset: number;
  /** Bytes from the first element to the end of the last one. */
  length: number;
  /** In elements, not negative. Default: contiguous, row-major. */
  strides?: number[];
  /** Default: false. */
  big_endian?: boolean;
}

export interface SystemInfo {
  torch_version: string;
  torch_cuda: string | null;
  /** `DEFAULT`, `AVX2`, `AVX512`… as reported by ATen. */
  cpu_capability: string;
  cpu_features: Record<'avx2' | 'avx512' | 'avx512_bf16' | 'avx512_vnni' | 'amx_bf16' | 'amx_int8', boolean>;
  threads: number;
  interop_threads: number;
  mkldnn: boolean;
  mkl: boolean;
  openmp: boolean;
  cpu_allocator: string;
  cuda: {
    built: boolean;
    available: boolean;
    reason: string | null;
    driver: string | null;
    runtime: string | null;
    cudnn: string | null;
    devices: { name: string; memory: number; free: number; capability: string; multiprocessors: number }[];
  };
}

export interface OperatorSchema {
  name: string;
  arguments: { name: string; type: string; optional: boolean; default: string | null }[];
  returns: string[];
}

export interface NativeAddon {
  Tensor: TensorClass;
  Graph: GraphClass;
  InferenceSession: InferenceClass;
  TrainSession: TrainClass;
  Loader: LoaderClass;
  ClassificationMetrics: ClassificationMetricsClass;
  SegmentationMetrics: SegmentationMetricsClass;
  /** One result per setting, in their order; computed on a thread of its own. */
  widerAveragePrecision(options: WiderOptions): Promise<WiderResult[]>;
  /** Must be called once per environment before anything else: the native core throws these classes. */
  setErrorClasses(classes: Record<string, unknown>): void;
  /** Waits for the other processes. TrainError if they do not come. */
  connectProcesses(options: ProcessGroupOptions): Promise<NativeProcessGroup>;
  systemInfo(): SystemInfo;
  /** Schema of an operator (`aten::conv2d`), or null if libtorch does not know it. */
  operatorSchema(op: string): OperatorSchema | null;
  /** Reads tensors out of a file by pread (nothing is mapped). Ranges are checked against the file. */
  readTensors(path: string, tensors: FileTensor[]): Promise<NativeTensor[]>;
  /**
   * Writes chunks one after another to `path`: bytes as they are, tensors' contiguous and little endian. Fsyncs the
   * file and resolves with its SHA-256 in hex. Does not rename: see src/io/atomic.ts.
   */
  writeTensors(path: string, chunks: (Uint8Array | NativeTensor)[]): Promise<string>;
  /** CRC-32 (that of zip archives) of each tensor's bytes, as `writeTensors` writes them. */
  tensorChecksums(tensors: NativeTensor[]): Promise<number[]>;
  /**
   * Compiles TorchScript methods on a module that holds the tensors in submodules by their paths, and saves it with
   * the texts of `extra` as further files of the archive.
   * WeightsError if the source does not compile. Names must be checked before: see src/export/torchscript.ts.
   */
  writeTorchScript(
    path: string,
    module: {
      source: string;
      tensors: { name: string; kind: 'parameter' | 'buffer'; tensor: NativeTensor }[];
      extra: Record<string, string>;
    },
  ): Promise<void>;
  /**
   * Loads an archive that `writeTorchScript` made and calls its forward. Outputs by name: '' for a single tensor, '0',
   * '1'… for a tuple, the keys of a dictionary.
   */
  runTorchScript(
    path: string,
    inputs: NativeTensor[],
  ): Promise<{
    outputs: Record<string, NativeTensor>;
    state: { name: string; kind: 'parameter' | 'buffer'; tensor: NativeTensor }[];
  }>;
  /** Draws one tensor; what Graph.initialize does for one parameter (for tests). */
  drawInit(init: Init, shape: number[], dtype: DType, seed: number): NativeTensor;
}
