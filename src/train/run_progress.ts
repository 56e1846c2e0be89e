/** How far a run is and what came of it so far: the part of its state that is not tensors. */
import type { Config } from '../config/schema.js';
import type { BestRecord, CheckpointState, EpochRecord } from './checkpoint.js';
import type { EvaluationMetrics } from './events.js';
import { StepMeter } from './step_meter.js';

export class RunProgress {
  /** Epochs that are trained and evaluated. */
  epoch = 0;
  history: EpochRecord[] = [];
  best: BestRecord | null = null;
  /** Of the running epoch. */
  readonly meter = new StepMeter();

  constructor(private readonly checkpoint: Pick<Config['checkpoint'], 'monitor' | 'mode'>) {}

  /** Goes on where a checkpoint was written. */
  restore(state: CheckpointState): void {
    this.epoch = state.epoch;
    this.history = [...state.history];
    this.best = state.best;
    this.meter.beginEpoch(state.epoch_step, state.epoch_loss_sum);
  }

  /** What `restore` needs. */
  get state(): Pick<CheckpointState, 'epoch' | 'epoch_step' | 'epoch_loss_sum' | 'best' | 'history'> {
    return {
      epoch: this.epoch,
      epoch_step: this.meter.epochStep,
      epoch_loss_sum: this.meter.epochLossSum,
      best: this.best,
      history: this.history,
    };
  }

  /**
   * Closes the running epoch.
   *
   * @param metrics of its evaluation, if there was one.
   * @returns whether it is the best so far.
   */
  completeEpoch(step: number, lr: number, metrics: EvaluationMetrics | null): boolean {
    this.epoch++;
    const evaluation = metrics && {
      loss: metrics.loss,
      top1: metrics.top1,
      top5: metrics.top5,
      samples: metrics.samples,
    };
    this.history.push({ epoch: this.epoch, step, loss: this.meter.epochLoss, lr, evaluation });
    this.meter.beginEpoch(0, 0);
    const value = metrics ? metrics[this.checkpoint.monitor] : null;
    if (value === null || !this.isBetter(value)) return false;
    this.best = { step, epoch: this.epoch, value };
    return true;
  }

  private isBetter(value: number): boolean {
    if (Number.isNaN(value)) return false;
    if (this.best === null) return true;
    return this.checkpoint.mode === 'min' ? value < this.best.value : value > this.best.value;
  }
}
