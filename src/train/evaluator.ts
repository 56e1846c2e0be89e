/** Evaluates the model under training on the run's validation images; keeps its native session between epochs. */
import { AbortedError } from '../errors.js';
import { evaluationSession, runEvaluation } from '../eval/run_evaluation.js';
import type { Model } from '../model.js';
import type { Graph } from '../graph/format.js';
import type { NativeGraph, NativeInference } from '../native/contract.js';
import type { TrainData } from './data.js';
import { figuresOf } from './evaluation_figures.js';
import { evaluationLoss } from './evaluation_loss.js';
import type { EvaluationMetrics, Report } from './events.js';

export interface EvaluatorOptions {
  model: Model;
  /** Other weights of the model, to be evaluated instead of its own. */
  weights?: NativeGraph | undefined;
  data: TrainData;
  /** The loss of the training, which is evaluated where the data have no classes. */
  loss?: Graph | undefined;
  /** Further figures of a script, by their names. */
  metrics?: Readonly<Record<string, Graph>> | undefined;
  device: string;
  batchSize: number;
  /** Threads of one operator. Default: all cores. */
  threads?: number | undefined;
  report: Report;
  signal?: AbortSignal | undefined;
}

export type Evaluation = EvaluationMetrics & { seconds: number };

export class Evaluator {
  private session: NativeInference | null = null;
  /** Smaller once memory ran out. */
  private batchSize: number;

  constructor(private readonly options: EvaluatorOptions) {
    this.batchSize = options.batchSize;
  }

  /**
   * The figures of the weights as they are now; null if the signal fired.
   *
   * @param epoch for progress events; null outside training.
   */
  async evaluate(epoch: number | null): Promise<Evaluation | null> {
    const { model, weights, data, loss, metrics, device, threads, report, signal } = this.options;
    const { batchSize } = this;
    this.session ??= evaluationSession(weights ?? model.native, {
      device,
      threads,
      normalize: data.preprocessing?.normalize ?? null,
    });
    this.session.refresh();
    try {
      const result = await runEvaluation(this.session, data.loaderOptions('eval', { batchSize, seed: 0 }), {
        classes: data.classes.length,
        loss: evaluationLoss(model.graph, data, loss ?? null),
        metrics,
        signal,
        onProgress: (done, total) => report({ type: 'evaluation_progress', epoch, done, total }),
        onHalved: (from, to) => this.halve(from, to),
      });
      return { ...figuresOf(result), seconds: result.seconds };
    } catch (error) {
      if (error instanceof AbortedError && signal?.aborted) return null;
      throw error;
    }
  }

  private halve(from: number, to: number): void {
    this.batchSize = to;
    const own = Object.keys(this.options.metrics ?? {}).length > 0;
    const changed = own ? '; a metric that gives one number for a batch is a mean over these now' : '';
    const message = `out of memory in evaluation: batch ${from} → ${to}, begun anew${changed}`;
    this.options.report({ type: 'warning', message });
  }

  dispose(): void {
    this.session?.dispose();
    this.session = null;
  }
}
