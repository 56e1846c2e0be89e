/** Graphs and their state. Part of contract.ts. */
import type { DType, Graph, Mode, ModeKind } from '../../graph/format.js';
import type { NativeHandle, NativeTensor } from './tensors.js';

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
