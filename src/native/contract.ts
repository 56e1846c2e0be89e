/**
 * The typed contract of the native addon, written by hand: here and, by subject, in contract/. What the C++ side (native/bindings)
 * provides and what the TypeScript side may assume are the same list. All handles: `dispose()` is idempotent,
 * any other use after it throws DisposedError, and a finalizer disposes forgotten ones.
 * Errors are the classes of src/errors.ts.
 */
import type { DType, Init } from '../graph/format.js';
import type { FileTensor, GraphClass, NativeGraph } from './contract/graph.js';
import type { InferenceClass } from './contract/inference.js';
import type { LoaderClass } from './contract/loader.js';
import type {
  ClassificationMetricsClass,
  SegmentationMetricsClass,
  WiderOptions,
  WiderResult,
} from './contract/metrics.js';
import type { MeasureRequest, PrecisionMeasurement, PrecisionNode } from './contract/precision.js';
import type { DeviceName, NativeTensor, TensorClass } from './contract/tensors.js';
import type { NativeProcessGroup, ProcessGroupOptions } from './contract/processes.js';
import type { TrainClass, TrainOptions } from './contract/train.js';

export type * from './contract/tensors.js';
export type * from './contract/graph.js';
export type * from './contract/metrics.js';
export type * from './contract/inference.js';
export type * from './contract/train.js';
export type * from './contract/optimizer.js';
export type * from './contract/processes.js';
export type * from './contract/precision.js';
export type * from './contract/loader.js';

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

export interface DeviceMemory {
  /** Bytes that tensors take, and the most they took since the last reset. */
  allocated: number;
  peak: number;
  /** Bytes taken from the device or the system: in use, or kept for reuse. */
  reserved: number;
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
  /**
   * Finds out which convolutions and matrix products a CPU trains faster in bfloat16, on a thread with the settings of
   * a session that had these options. Takes some seconds. Works on copies: the weights, the statistics and every
   * generator stay as they are.
   */
  measurePrecision(graph: NativeGraph, options: TrainOptions, request: MeasureRequest): PrecisionMeasurement;
  /** The nodes whose precision can be chosen, in the order of execution. */
  precisionNodes(graph: NativeGraph): PrecisionNode[];
  /** The nodes of the graph that a plan makes, as lines `OPERATOR PATH` and `cast DTYPE PATH`. */
  precisionPlan(graph: NativeGraph, bf16: string[]): string[];
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
  /** Figures of this process on a device. */
  deviceMemory(device: DeviceName): DeviceMemory;
  /** `peak` begins anew. */
  resetMemoryPeak(device: DeviceName): void;
  /**
   * The most this process may take on a device: an allocation beyond it fails (DeviceError). Null: no budget.
   * ArgumentError where it is more than the device has, or with libtorch's own CPU allocator.
   */
  setMemoryBudget(device: DeviceName, bytes: number | null): void;
  /**
   * For tests: allocations of the CPU allocator that fail, `count` (default 1) of those of at least `min_bytes` from
   * number `first` (from 0) on; null: none. Counting begins anew. Returns how many were counted since the last call.
   */
  failCpuAllocations(plan: { first: number; count?: number; min_bytes?: number } | null): number;
  /** Draws one tensor; what Graph.initialize does for one parameter (for tests). */
  drawInit(init: Init, shape: number[], dtype: DType, seed: number): NativeTensor;
}
