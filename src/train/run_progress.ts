/** How far a run is and what came of it so far: the part of its state that is not tensors. */
import type { Config } from '../config/schema.js';
import type { BestRecord, CheckpointState, EpochRecord } from './checkpoint.js';
import { figure, figuresOf } from './evaluation_figures.js';
import type { EvaluationMetrics } from './events.js';
import { StepMeter } from './step_meter.js';

/** For events: the steps that a gradient scaler has skipped, where there is one. */
export function skippedSteps({ meter }: { meter: { skipped: number | null } }): { skippedSteps?: number } {
  return meter.skipped === null ? {} : { skippedSteps: meter.skipped };
}

export class RunProgress {
  /** Epochs that are trained and evaluated. */
  epoch = 0;
  history: EpochRecord[] = [];
  best: BestRecord | null = null;
  /** Of the running epoch. */
  readonly meter = new StepMeter();

  /** Steps of epochs whose checkpoints are not there. */
  private gone: ReadonlySet<number> = new Set();
  /** Seconds of the run's earlier parts. */
  private earlierSeconds = 0;
  private readonly started = performance.now();

  constructor(
    private readonly checkpoint: Pick<
      Config['checkpoint'],
      'monitor' | 'mode' | 'keepBest' | 'keepEveryEpochs' | 'everyEpochs' | 'everySteps'
    >,
  ) {}

  /** Of the run, over all its parts. */
  get seconds(): number {
    return this.earlierSeconds + (performance.now() - this.started) / 1000;
  }

  /**
   * Goes on where a checkpoint was written.
   *
   * @param present steps of the checkpoints that are there. Epochs without one can no longer become the model: those of
   *   another run that this one goes on from, or better ones that were set aside.
   */
  restore(state: CheckpointState, present: ReadonlySet<number>): void {
    this.epoch = state.epoch;
    this.history = [...state.history];
    this.gone = new Set(state.history.map(({ step }) => step).filter((step) => !present.has(step)));
    this.best = state.best;
    if (state.best && this.gone.has(state.best.step)) {
      const [next] = this.scored();
      this.best = next ? { step: next.step, epoch: next.epoch, value: next.value } : null;
    }
    this.earlierSeconds = state.seconds;
    this.meter.beginEpoch({
      step: state.epoch_step,
      lossSum: state.epoch_loss_sum,
      ...(state.epoch_losses !== undefined && { losses: state.epoch_losses }),
      samples: state.epoch_samples,
      seconds: state.epoch_seconds,
    });
    this.meter.skipped = state.skipped_steps ?? null;
  }

  /** What `restore` needs. */
  get state(): Pick<
    CheckpointState,
    | 'epoch'
    | 'epoch_step'
    | 'epoch_loss_sum'
    | 'epoch_losses'
    | 'skipped_steps'
    | 'epoch_samples'
    | 'epoch_seconds'
    | 'best'
    | 'history'
    | 'seconds'
  > {
    return {
      epoch: this.epoch,
      epoch_step: this.meter.epochStep,
      epoch_loss_sum: this.meter.epochLossSum,
      epoch_losses: this.meter.epochLosses,
      ...(this.meter.skipped !== null && { skipped_steps: this.meter.skipped }),
      epoch_samples: this.meter.epochSamples,
      epoch_seconds: this.meter.epochSeconds,
      best: this.best,
      history: this.history,
      seconds: this.seconds,
    };
  }

  /** Evaluated epochs that can become the model, best first. */
  private scored(): { step: number; epoch: number; value: number }[] {
    const { monitor, mode } = this.checkpoint;
    const sign = mode === 'min' ? 1 : -1;
    return (
      this.history
        .map(({ step, epoch, evaluation }) => ({ step, epoch, value: figure(evaluation, monitor) ?? NaN }))
        .filter(({ step, value }) => Number.isFinite(value) && !this.gone.has(step))
        // Of equal ones the first counts, as for `best`.
        .sort((a, b) => sign * (a.value - b.value) || a.step - b.step)
    );
  }

  /** Steps whose checkpoints are kept whatever comes after them: the best ones, and those of every n-th epoch. */
  get keptSteps(): ReadonlySet<number> {
    const { keepBest, keepEveryEpochs } = this.checkpoint;
    const regular = this.history.filter(
      ({ epoch }) => keepEveryEpochs !== null && epoch % keepEveryEpochs === 0,
    );
    return new Set([...this.scored().slice(0, keepBest), ...regular].map(({ step }) => step));
  }

  /**
   * Whether a checkpoint is written at a step in every course of the run: after the epochs that ask for one or are
   * among the best so far, and at every so many steps within an epoch. Others (of an interruption, of the clock) are
   * there in some courses only.
   *
   * @param step optimizer steps done: where the run is now.
   * @param stepsPerEpoch of these.
   * @param epochs of the whole run.
   */
  isRegular(step: number, stepsPerEpoch: number, epochs: number): boolean {
    const { everyEpochs, everySteps } = this.checkpoint;
    const { epochStep } = this.meter;
    if (epochStep > 0) return everySteps !== null && step % everySteps === 0 && epochStep < stepsPerEpoch;
    if (step === 0) return false;
    return this.epoch % everyEpochs === 0 || this.epoch === epochs || this.keptSteps.has(step);
  }

  /**
   * Closes the running epoch.
   *
   * @param metrics of its evaluation, if there was one.
   * @returns whether it is the best so far.
   */
  completeEpoch(step: number, lr: number, metrics: EvaluationMetrics | null): boolean {
    this.epoch++;
    const evaluation = metrics && figuresOf(metrics);
    this.history.push({ epoch: this.epoch, step, loss: this.meter.epochLoss, lr, evaluation });
    this.meter.beginEpoch();
    const value = figure(metrics, this.checkpoint.monitor);
    if (value === null || !this.isBetter(value)) return false;
    this.best = { step, epoch: this.epoch, value };
    return true;
  }

  private isBetter(value: number): boolean {
    if (!Number.isFinite(value)) return false;
    if (this.best === null) return true;
    return this.checkpoint.mode === 'min' ? value < this.best.value : value > this.best.value;
  }
}
