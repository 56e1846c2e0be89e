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

/** Weight of the newest event in the moving average of the speed. */
const SMOOTHING = 0.2;

/** Follows one training run. Speeds are smoothed over the events of about the last seconds. */
export class StepMeter {
  private secondsPerStep: number | null = null;
  /** Seconds per optimizer step spent outside steps so far: evaluation and checkpoints between epochs. */
  private overhead = 0;
  epochLossSum = 0;
  epochStep = 0;
  epochSamples = 0;
  epochSeconds = 0;

  beginEpoch(epochStep: number, lossSum: number): void {
    this.epochStep = epochStep;
    this.epochLossSum = lossSum;
    this.epochSamples = 0;
    this.epochSeconds = 0;
  }

  /** Time between epochs, so that the ETA counts it. */
  addOverhead(secondsPerEpoch: number): void {
    this.overhead = secondsPerEpoch;
  }

  /** Mean loss of the epoch so far. */
  get epochLoss(): number {
    return this.epochStep === 0 ? 0 : this.epochLossSum / this.epochStep;
  }

  take(raw: NativeSteps, at: EpochPosition): StepsEvent {
    const steps = raw.losses.length;
    for (const loss of raw.losses) this.epochLossSum += loss;
    this.epochStep += steps;
    this.epochSamples += raw.samples;
    this.epochSeconds += raw.seconds;
    if (steps > 0) {
      const now = raw.seconds / steps;
      this.secondsPerStep =
        this.secondsPerStep === null ? now : (1 - SMOOTHING) * this.secondsPerStep + SMOOTHING * now;
    }
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
      loss: steps === 0 ? this.epochLoss : raw.losses.reduce((sum, loss) => sum + loss, 0) / steps,
      losses: raw.losses,
      epochLoss: this.epochLoss,
      lr: raw.lr,
      samples: raw.samples,
      samplesPerSecond: raw.seconds > 0 ? raw.samples / raw.seconds : 0,
      waitShare: raw.seconds > 0 ? Math.min(1, raw.wait_seconds / raw.seconds) : 0,
      memory: raw.memory,
      etaSeconds: left * (this.secondsPerStep ?? 0) + epochsLeft * this.overhead,
      ...(raw.scale === undefined ? {} : { scale: raw.scale }),
      ...(raw.skipped === undefined ? {} : { skipped: raw.skipped }),
    };
  }
}
