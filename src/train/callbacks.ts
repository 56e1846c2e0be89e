/**
 * Functions of a script that a training calls between native runs: at the ends of epochs, after evaluations and
 * checkpoints, and every so many steps. What they return is awaited; no step is computed meanwhile. They change
 * nothing of what is computed, unless they change the weights.
 */
import { ConfigError } from '../errors.js';
import type { Model } from '../model.js';
import { nearest } from '../nearest.js';
import type { CheckpointEvent, EvaluationEvent } from './events.js';
import { checkOptions } from './option_keys.js';

/** Where a training is, and what a callback can do. */
export interface CallbackContext {
  /** Optimizer steps done, and steps of the whole training. */
  readonly step: number;
  readonly totalSteps: number;
  /** The running epoch (at its end: the one that is done), 1-based. */
  readonly epoch: number;
  readonly epochs: number;
  /** Mean training loss of the epoch so far. */
  readonly loss: number;
  /** Of the last step. */
  readonly learningRate: number;
  /** With the weights as they are now. Batch norm and averages apart, they may be read and changed. */
  readonly model: Model;
  /** Writes figures, which must be finite, into the event log, and yields them as an event of type `scalars`. */
  log(values: Readonly<Record<string, number>>): void;
  /** Ends the training in good order: checkpoint, best weights, event `stopped` with this message. */
  stop(message?: string): void;
}

export interface EpochContext extends CallbackContext {
  /** It is the last one. */
  readonly last: boolean;
  /** Null where this epoch was not evaluated. */
  readonly evaluation: EvaluationEvent | null;
}

type Result = void | Promise<void>;

/** All are optional. What one throws ends the training with a checkpoint and that error. */
export interface Callbacks {
  /** After every so many optimizer steps. Each call costs a pause of the native run: not too often. */
  onSteps?: { every: number; call(context: CallbackContext): Result };
  /** An evaluation of an epoch is done. */
  onEvaluation?(event: EvaluationEvent, context: CallbackContext): Result;
  /** The epoch is trained, evaluated if it is due, and in the books; its checkpoint is not written yet. */
  onEpochEnd?(context: EpochContext): Result;
  /**
   * A checkpoint is on the disk. They are written while training goes on: called at the next place where callbacks
   * are, and for those of the end after the last step.
   */
  onCheckpoint?(event: CheckpointEvent): Result;
}

const NAMES = ['onSteps', 'onEvaluation', 'onEpochEnd', 'onCheckpoint'];

/** @throws ConfigError for an unknown name, or something that is no function. */
export function checkCallbacks(callbacks: readonly Callbacks[]): void {
  for (const callback of callbacks) {
    if (typeof callback !== 'object' || callback === null) {
      throw new ConfigError({
        what: `callbacks are an object with ${NAMES.join(', ')}, or a list of such`,
        where: 'callbacks',
      });
    }
    for (const [name, value] of Object.entries(callback) as [string, unknown][]) {
      if (value === undefined) continue;
      const where = `callbacks.${name}`;
      if (!NAMES.includes(name)) {
        const near = nearest(name, NAMES);
        const fix = near ? `did you mean '${near}'?` : `there are ${NAMES.join(', ')}`;
        throw new ConfigError({ what: `there is no callback '${name}'`, where, fix });
      }
      if (name !== 'onSteps') {
        if (typeof value === 'function') continue;
        throw new ConfigError({ what: 'a callback is a function', where });
      }
      if (typeof value === 'object' && value !== null) checkOptions(value, ['every', 'call'], 'onSteps');
      const { every, call } = (value ?? {}) as Partial<NonNullable<Callbacks['onSteps']>>;
      if (Number.isSafeInteger(every) && every! >= 1 && typeof call === 'function') continue;
      throw new ConfigError({
        what: 'onSteps takes { every, call }: a positive number of steps, and a function',
        where,
      });
    }
  }
}
