/**
 * What events.jsonl holds of a job: every event that stays true, and the losses at fixed intervals of steps. The
 * native session reports steps whenever some time has passed; logged like that, no two runs had the same log.
 */
import type { DoneEvent, JobEvent, StepsEvent } from './events.js';
import { eventRecord } from './events.js';

const STEPS_PER_RECORD = 10;

/** Losses that wait for their record; null: not finite, or of a step that was left out. */
export interface RunLogState {
  pending: (number | null)[];
}

export class RunLog {
  private pending: (number | null)[] = [];
  /** The last step whose loss was taken. */
  private step = 0;
  private stepsPerEpoch = Infinity;

  /**
   * @param append writes one record.
   * @param learningRate of a step (0-based), a function of the schedule alone.
   */
  constructor(
    private readonly append: (record: Record<string, unknown>) => void,
    private readonly learningRate: (step: number) => number,
  ) {}

  get state(): RunLogState {
    return { pending: [...this.pending] };
  }

  set state(state: RunLogState) {
    this.pending = [...state.pending];
  }

  write(event: JobEvent): void {
    switch (event.type) {
      case 'steps':
        return this.steps(event);
      // Progress is for people watching; checkpoints and the end are logged before what they tell of is
      // committed (see `checkpoint` and `done`).
      case 'data_progress':
      case 'lr_find_progress':
      case 'evaluation_progress':
      case 'checkpoint':
      case 'done':
        return;
      case 'start':
        this.step = event.firstStep;
        this.stepsPerEpoch = event.stepsPerEpoch;
        return this.append(eventRecord(event));
      case 'not_finite':
        this.append(eventRecord(event));
        // Counted on without a report of its own.
        if (event.action === 'rollback' && event.step > this.step) this.take(event.step, event.epoch, null);
        return;
      default:
        this.append(eventRecord(event));
    }
  }

  /** Logs a checkpoint that is about to be written, so that the log it covers contains it. */
  checkpoint(step: number, epoch: number, reason: string): void {
    this.append({ type: 'checkpoint', time: new Date().toISOString(), step, epoch, reason });
  }

  /** Logs the end before the model file is there: where that is, the log is whole. */
  done(event: DoneEvent): void {
    this.append(eventRecord(event));
  }

  private steps(event: StepsEvent): void {
    const first = event.step - event.losses.length;
    event.losses.forEach((loss, i) =>
      this.take(first + i + 1, event.epoch, Number.isFinite(loss) ? loss : null),
    );
  }

  /** A step's loss; writes the record that it completes. */
  private take(step: number, epoch: number, loss: number | null): void {
    this.step = step;
    this.pending.push(loss);
    if (step % STEPS_PER_RECORD !== 0 && step % this.stepsPerEpoch !== 0) return;
    const finite = this.pending.filter((value) => value !== null);
    this.append({
      type: 'steps',
      time: new Date().toISOString(),
      epoch,
      step,
      loss: finite.length === 0 ? null : finite.reduce((sum, value) => sum + value, 0) / finite.length,
      losses: this.pending,
      lr: this.learningRate(step - 1),
    });
    this.pending = [];
  }
}
