/** Training from a script. */
import { AbortedError, TrainError } from '../errors.js';
import type { Model } from '../model.js';
import type { BestRecord, EpochRecord } from './checkpoint.js';
import { EventQueue } from './event_queue.js';
import type { EvaluationMetrics, JobEvent, Report } from './events.js';
import type { LearningRateOptions, LearningRateResult } from './lr_sweep.js';
import type { RunProgress } from './run_progress.js';
import { runScript, sweepScript } from './script_run.js';
import { checkFitOptions, TrainerPlan, type TrainerOptions } from './trainer_options.js';

export { prepareData, type PrepareDataOptions } from './prepare_data.js';
export type { TrainerOptions } from './trainer_options.js';

export interface FitOptions {
  /** Finishes the current step, writes a checkpoint (if there is a folder) and ends the iteration. */
  signal?: AbortSignal;
  /** Go on from the newest checkpoint in the folder; `true`: there must be one. Default false. */
  resume?: boolean | 'auto';
  /** Go on from this checkpoint: an older one of the folder (newer ones are set aside), or one of another folder. */
  resumeFrom?: string;
}

/**
 * Trains a model: `for await (const event of trainer.fit()) …`. Leaving the loop early stops training after the
 * current step.
 */
export class Trainer {
  /** One entry per completed epoch. */
  history: EpochRecord[] = [];
  best: BestRecord | null = null;
  /** Of the newest evaluation. */
  metrics: EvaluationMetrics | null = null;
  interrupted = false;
  /** Why it ended before its last epoch, in good order. */
  stopped: 'early_stopping' | 'max_time' | 'callback' | null = null;
  private readonly plan: TrainerPlan;
  private running = false;

  /** @throws ConfigError listing every setting that is not valid. */
  constructor(options: TrainerOptions) {
    this.plan = new TrainerPlan(options);
  }

  /** The model that is trained, with the weights as they are now. */
  get model(): Model {
    return this.plan.options.model;
  }

  /**
   * Trains and yields what happens. Ends when training is done or was interrupted.
   *
   * @throws TrainError, DataError, DeviceError, ExecutionError from the iteration, or from leaving it, and what a
   *   callback throws.
   */
  async *fit(options: FitOptions = {}): AsyncGenerator<JobEvent, void, void> {
    checkFitOptions(options);
    this.claim();
    const left = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    const queue = new EventQueue<JobEvent>();
    const job = this.run((event) => queue.push(event), signal, options);
    const ended = job.then(
      () => queue.end(),
      (error: unknown) => queue.fail(error),
    );
    try {
      yield* queue;
    } finally {
      left.abort();
      await ended;
      this.running = false;
      // Who left the loop has not heard what became of the last checkpoint. Others get the same error again.
      await job.catch((error: unknown) => {
        if (!(error instanceof AbortedError)) throw error;
      });
    }
  }

  /**
   * Trains for a moment at growing learning rates and suggests one (`suggestion`). The model is as before
   * afterwards, and nothing is written.
   *
   * @throws ArgumentError for a range that is none; what `fit` throws before its first step; AbortedError.
   */
  async findLearningRate(
    options: LearningRateOptions & { signal?: AbortSignal; report?: Report } = {},
  ): Promise<LearningRateResult> {
    this.claim();
    try {
      return await sweepScript(this.plan, options);
    } finally {
      this.running = false;
    }
  }

  private claim(): void {
    if (this.running) throw new TrainError('this trainer is training already');
    this.running = true;
  }

  private async run(report: Report, signal: AbortSignal, options: FitOptions): Promise<void> {
    Object.assign(this, { history: [], best: null, metrics: null, interrupted: false, stopped: null });
    const books: Pick<RunProgress, 'history' | 'best'>[] = [];
    try {
      const { result, metrics } = await runScript(this.plan, {
        resume: options.resume ?? false,
        resumeFrom: options.resumeFrom,
        report: (event) => {
          if (event.type === 'evaluation') this.metrics = event;
          report(event);
        },
        signal,
        begun: (progress) => void books.push(progress),
      });
      this.interrupted = result.interrupted;
      this.stopped = result.stopped;
      if (!result.interrupted) this.metrics = metrics;
    } catch (error) {
      this.interrupted = signal.aborted;
      throw error;
    } finally {
      // Also of a training that failed: its epochs are trained, and perhaps in a checkpoint.
      for (const { history, best } of books) Object.assign(this, { history: [...history], best });
    }
  }
}
