/** Batch-norm statistics of finished weights, computed anew from training images. */
import { AbortedError, DeviceError } from '../errors.js';
import { evaluationSession } from '../eval/run_evaluation.js';
import { isOutOfMemory } from '../eval/smaller_batches.js';
import type { Graph, Mode, ModeKind } from '../graph/format.js';
import type { Model } from '../model.js';
import type { AnyLoaderOptions, Normalize, RecomputeResult } from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { Report } from './events.js';

export interface RecomputeOptions {
  /** Batches at most. */
  batches: number;
  device: string;
  normalize: Normalize | null;
  loader: AnyLoaderOptions;
  /** Module paths whose batch norms keep their statistics. */
  frozen?: readonly string[];
  report: Report;
  signal?: AbortSignal | undefined;
}

/** Modules of a graph with a mode of this kind, by their paths. */
function modulesOf(graph: Graph, kinds: readonly ModeKind[]): Set<string> {
  const isOfKind = (argument: unknown): boolean =>
    typeof argument === 'object' &&
    argument !== null &&
    'mode' in argument &&
    kinds.includes((argument as { mode: ModeKind & Mode }).mode);
  return new Set(graph.nodes.filter(({ args }) => args.some(isOfKind)).map(({ path }) => path));
}

/** Whether a model has batch norms at all. */
export function hasBatchNorm(graph: Graph): boolean {
  return modulesOf(graph, ['batch_norm']).size > 0;
}

/**
 * Replaces the statistics of every batch norm by those of the population (PreciseBN): each layer normalises by its
 * own batches meanwhile, dropout and stochastic depth are off. Images are drawn and augmented as in training.
 *
 * @throws AbortedError if the signal fires: then the model is as it was.
 */
export async function recomputeBatchNorm(model: Model, options: RecomputeOptions): Promise<RecomputeResult> {
  const { batches, device, normalize, report, signal } = options;
  if (signal?.aborted) throw new AbortedError('recomputing batch norm was stopped before it began');
  const frozen = options.frozen ?? [];
  const layers = [...modulesOf(model.graph, ['batch_norm'])].filter(
    (path) => !frozen.some((prefix) => path === prefix || path.startsWith(prefix + '.')),
  );
  const inactive = modulesOf(model.graph, ['dropout', 'stochastic_depth']);
  const loader = new (loadAddon().Loader)(options.loader);
  const session = evaluationSession(model.native, { device, normalize });
  const stop = (): void => session.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const used = Math.min(batches, loader.batches);
    report({
      type: 'info',
      message:
        `Recomputing BatchNorm statistics: ${layers.length} layers, ` +
        `dropout off (${inactive.size} layers), ${used} batches`,
    });
    loader.startEpoch(0);
    return await session.recomputeBatchNorm(loader, {
      batches,
      frozen: [...frozen],
      onProgress: (done, total) => report({ type: 'evaluation_progress', epoch: null, done, total }),
    });
  } catch (error) {
    if (!isOutOfMemory(error)) throw error;
    const { what, where, cause } = error;
    // Not in smaller ones: the statistics are those of batches of this size.
    const fix = `use a batch of less than ${options.loader.batch_size} images (train.batch_size; --batch-size)`;
    throw new DeviceError({ what, fix, ...(where ? { where } : {}), cause });
  } finally {
    signal?.removeEventListener('abort', stop);
    session.dispose();
    loader.dispose();
    model.changed();
  }
}
