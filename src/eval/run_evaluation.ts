/** One evaluation of a model on a loader: what training does after an epoch and `fornax eval` does once. */
import { AbortedError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import type {
  AnyLoaderOptions,
  EvaluationResult,
  Measures,
  NativeGraph,
  NativeInference,
} from '../native/contract.js';
import { loadAddon } from '../native.js';
import { crossEntropy } from '../losses/index.js';
import { inSmallerBatches } from './smaller_batches.js';

export interface EvaluationOptions {
  /** Number of classes: outputs of the model. 0: it is no classifier. */
  classes: number;
  /** Default: the plain cross entropy, whatever smoothing training uses; null: none. */
  loss?: Graph | null | undefined;
  /** Graphs over the model's outputs and the batch's fields, by the names of their figures. */
  metrics?: Readonly<Record<string, Graph>> | undefined;
  /** Also the area under the ROC curve, which keeps every score. Default false. */
  auroc?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  /** Told when memory ran out and the evaluation is begun anew in smaller batches. */
  onHalved?: ((from: number, to: number) => void) | undefined;
}

/**
 * Runs the model over one epoch of a loader; in smaller batches, where those of the options do not fit into memory.
 *
 * @throws AbortedError if `signal` fires; DeviceError if not even one image at a time fits.
 */
export function runEvaluation(
  session: NativeInference,
  loaderOptions: AnyLoaderOptions,
  options: EvaluationOptions,
): Promise<EvaluationResult | Measures> {
  return inSmallerBatches(
    loaderOptions,
    (smaller) => evaluateOnce(session, smaller, options),
    options.onHalved,
  );
}

async function evaluateOnce(
  session: NativeInference,
  loaderOptions: AnyLoaderOptions,
  options: EvaluationOptions,
): Promise<EvaluationResult | Measures> {
  const { signal, classes, loss = crossEntropy(), metrics } = options;
  if (signal?.aborted) throw new AbortedError('the evaluation was stopped before it began');
  const loader = new (loadAddon().Loader)(loaderOptions);
  const stop = (): void => session.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    loader.startEpoch(0);
    const common = {
      ...(loss ? { loss } : {}),
      ...(metrics ? { metrics } : {}),
      ...(options.onProgress ? { onProgress: options.onProgress } : {}),
    };
    if (classes === 0) return await session.evaluate(loader, common);
    return await session.evaluate(loader, { ...common, classes, auroc: options.auroc ?? false });
  } finally {
    signal?.removeEventListener('abort', stop);
    loader.dispose();
  }
}

/** A session for evaluating: float32, channels-last, on any device. */
export function evaluationSession(
  graph: NativeGraph,
  options: {
    device: string;
    normalize: { mean: number[]; std: number[] } | null;
    threads?: number | undefined;
  },
): NativeInference {
  return new (loadAddon().InferenceSession)(graph, {
    device: options.device,
    channels_last: true,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.normalize ? { normalize: options.normalize } : {}),
  });
}
