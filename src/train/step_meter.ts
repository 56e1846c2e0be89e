/** Makes the figures a person wants to see out of the native session's raw ones. */
import type { StepsEvent as NativeSteps } from '../native/contract.js';
import type { StepsEvent } from './events.js';

export interface EpochPosition {
  /** 1-based. */
  epoch: number;
  epochs: number;
  stepsPerEpoch: number;
  totalSteps: number;
}

/** How long an interval counts in the speed that the ETA goes by: after so many seconds by a third (1/e). */
const MEMORY_SECONDS = 20;
/** Weight of the newest epoch's end in the moving average of their length. */
const NEWEST_OVERHEAD = 0.5;

/** Follows one training run. The ETA goes by the average speed of about the last half minute. */
export class StepMeter {
  /** Seconds and steps so far, each interval's share decayed by the time since. */
  private decayed = { seconds: 0, steps: 0 };
  /** Seconds an epoch spends outside of steps: evaluation and checkpoint. Null before the first one. */
  private overhead: number | null = null;
  /** Of the losses that are finite, and how many these are: a step that a gradient scaler skips may have none. */
  epochLossSum = 0;
  epochLosses = 0;
  epochStep = 0;
  epochSamples = 0;
  epochSeconds = 0;
  /** Steps of the run that a gradient scaler has skipped; null without one. */
  skipped: number | null = null;

  /** @param done what of the epoch was done in an earlier part of the run. */
  beginEpoch(
    done: Partial<Record<'step' | 'lossSum' | 'losses' | 'samples' | 'seconds', number>> = {},
  ): void {
    this.epochStep = done.step ?? 0;
    this.epochLossSum = done.lossSum ?? 0;
    this.epochLosses = done.losses ?? this.epochStep;
    this.epochSamples = done.samples ?? 0;
    this.epochSeconds = done.seconds ?? 0;
  }

  /** Time between epochs, so that the ETA counts it. */
  addOverhead(secondsPerEpoch: number): void {
    this.overhead =
      this.overhead === null
        ? secondsPerEpoch
        : (1 - NEWEST_OVERHEAD) * this.overhead + NEWEST_OVERHEAD * secondsPerEpoch;
  }

  /** Mean of the epoch's finite losses so far: 0 before the first step, NaN where none is finite. */
  get epochLoss(): number {
    return this.epochStep === 0 ? 0 : this.epochLossSum / this.epochLosses;
  }

  /** A step that was left out: the epoch's mean stays that of the others. */
  leaveOut(): void {
    this.epochStep++;
  }

  take(raw: NativeSteps, at: EpochPosition): StepsEvent {
    const steps = raw.losses.length;
    const finite = raw.losses.filter((loss) => Number.isFinite(loss));
    for (const loss of finite) this.epochLossSum += loss;
    this.epochLosses += finite.length;
    this.skipped = raw.skipped ?? this.skipped;
    this.epochStep += steps;
    this.epochSamples += raw.samples;
    this.epochSeconds += raw.seconds;
    const keep = Math.exp(-raw.seconds / MEMORY_SECONDS);
    this.decayed.seconds = keep * this.decayed.seconds + raw.seconds;
    this.decayed.steps = keep * this.decayed.steps + steps;
    const secondsPerStep = this.decayed.steps > 0 ? this.decayed.seconds / this.decayed.steps : 0;
    const left = Math.max(0, at.totalSteps - raw.step);
    const epochsLeft = at.epochs - at.epoch + 1;
    return {
      type: 'steps',
      epoch: at.epoch,
      epochs: at.epochs,
      step: raw.step,
      totalSteps: at.totalSteps,
      epochStep: this.epochStep,
      stepsPerEpoch: at.stepsPerEpoch,
      loss: steps === 0 ? this.epochLoss : finite.reduce((sum, loss) => sum + loss, 0) / finite.length,
      losses: raw.losses,
      epochLoss: this.epochLoss,
      lr: raw.lr,
      samples: raw.samples,
      samplesPerSecond: raw.seconds > 0 ? raw.samples / raw.seconds : 0,
      waitShare: raw.seconds > 0 ? Math.min(1, raw.wait_seconds / raw.seconds) : 0,
      memory: raw.memory,
      memoryPeak: raw.memory_peak ?? 0,
      memoryReserved: raw.memory_reserved ?? 0,
      etaSeconds: left * secondsPerStep + epochsLeft * (this.overhead ?? 0),
      ...(raw.repeated === undefined ? {} : { repeated: raw.repeated }),
      ...(raw.scale === undefined ? {} : { scale: raw.scale }),
      ...(raw.skipped === undefined ? {} : { skipped: raw.skipped }),
    };
  }
}
