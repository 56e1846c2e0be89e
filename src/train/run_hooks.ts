/** What features do at fixed places of a run, such as calling a script's callbacks. One list, called in order. */
import { ArgumentError } from '../errors.js';
import type { CheckpointEvent, EvaluationEvent } from './events.js';

/** Where the run is: between two steps. */
export interface RunMoment {
  /** Optimizer steps done. */
  step: number;
  /** The running epoch, 1-based. */
  epoch: number;
}

export interface EpochMoment extends RunMoment {
  /** It is the run's last epoch. */
  last: boolean;
  /** Mean training loss of the epoch. */
  loss: number;
  /** Learning rate of its last step: the schedule may have seen the evaluation since. */
  lr: number;
  /** As it was reported; null where this epoch was not evaluated. */
  evaluation: EvaluationEvent | null;
}

/**
 * All processes of a training call their hooks at the same places, while no step is computed. What a hook throws
 * ends the run with that error.
 */
export interface RunHook {
  /** Call `onSteps` whenever the number of steps is a multiple of this. The native run is cut there. */
  everySteps?: number;
  onSteps?(moment: RunMoment): void | Promise<void>;
  /** The epoch is evaluated and in the books; its checkpoint is not written yet. */
  onEpochEnd?(moment: EpochMoment): void | Promise<void>;
  /** A checkpoint is on the disk; the next steps may be under way. Must not throw. */
  onCheckpoint?(event: CheckpointEvent): void;
  /** The training has ended in good order, or was interrupted, and its last checkpoint is on the disk. */
  onEnd?(): void | Promise<void>;
}

export class RunHooks {
  private readonly hooks: RunHook[] = [];

  /** @throws ArgumentError if `everySteps` is not a positive integer. */
  add(hook: RunHook): void {
    const { everySteps } = hook;
    if (everySteps !== undefined && !(Number.isSafeInteger(everySteps) && everySteps > 0)) {
      throw new ArgumentError(`everySteps must be a positive integer, not ${String(everySteps)}`);
    }
    this.hooks.push(hook);
  }

  /** Steps from `step` to the next place where a hook is due; Infinity without such. */
  stepsUntilDue(step: number): number {
    const intervals = this.hooks.flatMap(({ everySteps }) => everySteps ?? []);
    return Math.min(Infinity, ...intervals.map((interval) => interval - (step % interval)));
  }

  async steps(moment: RunMoment): Promise<void> {
    for (const hook of this.hooks) {
      if (hook.everySteps !== undefined && moment.step % hook.everySteps === 0) await hook.onSteps?.(moment);
    }
  }

  checkpoint(event: CheckpointEvent): void {
    for (const hook of this.hooks) hook.onCheckpoint?.(event);
  }

  async end(): Promise<void> {
    for (const hook of this.hooks) await hook.onEnd?.();
  }

  async epochEnd(moment: EpochMoment): Promise<void> {
    for (const hook of this.hooks) await hook.onEpochEnd?.(moment);
  }
}
