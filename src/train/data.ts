/**
 * What a trainer needs to know of its data. `prepareTrainData` (train_data.ts) makes it from a data set of images,
 * `memoryData` (memory_data.ts) from arrays.
 */
import type { AnyLoaderOptions, LoaderOptions } from '../native/contract.js';
import type { FixedPreprocessing } from '../model/info.js';

export interface LoaderRequest {
  batchSize: number;
  seed: number;
  /** Threads that assemble batches. Default: the loader's own. */
  threads?: number | undefined;
}

export interface TrainData {
  /** Class names by label; empty for data that are not to be classified. */
  readonly classes: readonly string[];
  readonly trainSamples: number;
  /** Null: there is nothing to evaluate on. */
  readonly evalSamples: number | null;
  /** Changes if the samples change; compared on resume. */
  readonly fingerprint: string;
  /** Names of a batch's fields. Default: those of a pack. */
  readonly fields?: readonly string[];
  /** How an image becomes an input in evaluation and use; stored in the model. Null: the samples are no images. */
  readonly preprocessing: FixedPreprocessing | null;
  /** Shuffled and augmented for training, in order and as `preprocessing` says for evaluation. */
  loaderOptions(phase: 'train' | 'eval', request: LoaderRequest): AnyLoaderOptions;
}

/** Images with one label each. */
export interface ImageTrainData extends TrainData {
  readonly preprocessing: FixedPreprocessing;
  loaderOptions(phase: 'train' | 'eval', request: LoaderRequest): LoaderOptions;
}

/** Fields of a batch from a pack. */
export const PACK_FIELDS = ['image', 'label', 'index'] as const;
