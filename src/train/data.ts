/** What a trainer needs to know of its data. `prepareTrainData` (train_data.ts) makes it from a data set. */
import type { LoaderOptions } from '../native/contract.js';
import type { FixedPreprocessing } from '../model/info.js';

export interface LoaderRequest {
  batchSize: number;
  seed: number;
  /** Threads that assemble batches. Default: the loader's own. */
  threads?: number | undefined;
}

export interface TrainData {
  /** Class names by label. */
  readonly classes: readonly string[];
  readonly trainSamples: number;
  /** Null: there is nothing to evaluate on. */
  readonly evalSamples: number | null;
  /** Changes if the samples change; compared on resume. */
  readonly fingerprint: string;
  /** How a sample becomes an input in evaluation and use; stored in the model. */
  readonly preprocessing: FixedPreprocessing;
  /** Shuffled and augmented for training, in order and as `preprocessing` says for evaluation. */
  loaderOptions(phase: 'train' | 'eval', request: LoaderRequest): LoaderOptions;
}
