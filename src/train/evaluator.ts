/** Evaluates the model under training on the run's validation images; keeps its native session between epochs. */
import { AbortedError } from '../errors.js';
import { evaluationSession, runEvaluation } from '../eval/run_evaluation.js';
import type { Model } from '../model.js';
import type { EvaluationResult, NativeGraph, NativeInference } from '../native/contract.js';
import type { TrainData } from './data.js';
import type { Report } from './events.js';

export interface EvaluatorOptions {
  model: Model;
  /** Other weights of the model, to be evaluated instead of its own. */
  weights?: NativeGraph | undefined;
  data: TrainData;
  device: string;
  batchSize: number;
  /** Threads of one operator. Default: all cores. */
  threads?: number | undefined;
  report: Report;
  signal?: AbortSignal | undefined;
}

export class Evaluator {
  private session: NativeInference | null = null;

  constructor(private readonly options: EvaluatorOptions) {}

  /**
   * The figures of the weights as they are now; null if the signal fired.
   *
   * @param epoch for progress events; null outside training.
   */
  async evaluate(epoch: number | null): Promise<EvaluationResult | null> {
    const { model, weights, data, device, threads, batchSize, report, signal } = this.options;
    this.session ??= evaluationSession(weights ?? model.native, {
      device,
      threads,
      normalize: data.preprocessing.normalize,
    });
    this.session.refresh();
    try {
      return await runEvaluation(this.session, data.loaderOptions('eval', { batchSize, seed: 0 }), {
        classes: data.classes.length,
        signal,
        onProgress: (done, total) => report({ type: 'evaluation_progress', epoch, done, total }),
      });
    } catch (error) {
      if (error instanceof AbortedError && signal?.aborted) return null;
      throw error;
    }
  }

  dispose(): void {
    this.session?.dispose();
    this.session = null;
  }
}
