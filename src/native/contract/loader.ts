/** Packs and the loader that assembles batches from them. Part of contract.ts. */
import type { DType } from '../../graph/format.js';
import type { Normalize } from './inference.js';
import type { NativeHandle, NativeTensor } from './tensors.js';

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

interface CommonLoaderOptions {
  /** Which samples (global indices over the shards, or positions in the fields). Default all. */
  indices?: Int32Array;
  batch_size: number;
  shuffle: boolean;
  /** Default: false. */
  drop_last?: boolean;
  seed: number;
  /**
   * One of several processes: delivers items `rank`, `rank + world`, … of every batch, which has `batch_size` items
   * for each process. A last batch with fewer items than processes is an ArgumentError.
   */
  shard?: { rank: number; world: number };
}

/** A pack. */
export interface LoaderOptions extends CommonLoaderOptions {
  shards: PackShard[];
  channels: 1 | 3;
  augment: AugmentOptions;
  /** Threads that assemble batches. Default: cores − 1, at least 1. Does not change what is delivered. */
  threads?: number;
  /** Batches kept ready. Default 2 × threads, at least 2. */
  prefetch?: number;
  /** If set, `image` is delivered as normalised float32 instead of uint8 (benchmark, comparison with other loaders). */
  normalize?: Normalize;
  /** Page-locked batches, whose copies to a GPU need not wait. DeviceError without CUDA. Default: false. */
  pin?: boolean;
}

/** Tensors in memory. */
export interface TensorLoaderOptions extends CommonLoaderOptions {
  /** By name, each [N, …]: sample i is entry i of every field. They must not change meanwhile. */
  fields: Record<string, NativeTensor>;
}

export type AnyLoaderOptions = LoaderOptions | TensorLoaderOptions;

/**
 * Fields of a batch from a pack: `image` uint8 [B, H, W, C], `label` int64 [B], `index` int64 [B] (global sample
 * index). From tensors: the fields as they are, and `index` unless there is one.
 */
export interface NativeLoader extends NativeHandle {
  readonly batches: number;
  readonly samples: number;
  /** Starts (or restarts) an epoch; `skip` batches are passed over without being assembled (resume). */
  startEpoch(epoch: number, skip?: number): void;
  /** Next batch or null at the end of the epoch. Not while a session runs on this loader. */
  next(): Promise<Record<string, NativeTensor> | null>;
}

export interface LoaderClass {
  new (options: AnyLoaderOptions): NativeLoader;
}
