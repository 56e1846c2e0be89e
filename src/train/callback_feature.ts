/** Calls the callbacks of a script at their places in a run. */
import { ConfigError } from '../errors.js';
import type { CallbackContext, Callbacks } from './callbacks.js';
import type { CheckpointEvent } from './events.js';
import type { OpenRun } from './open_run.js';
import type { RunFeature } from './run_features.js';
import type { EpochMoment, RunMoment } from './run_hooks.js';

export const callbackFeature: RunFeature = {
  attach(run) {
    const { callbacks = [] } = run.options;
    if (callbacks.length === 0) return;
    if (run.processes.world > 1) {
      throw new ConfigError({
        what: 'callbacks run in one process, and several train together',
        where: 'callbacks',
        fix: 'train in one process, or leave the callbacks out',
      });
    }
    const caller = new CallbackCaller(run, callbacks);
    for (const callback of callbacks) {
      const { onSteps } = callback;
      if (!onSteps) continue;
      run.hooks.add({
        everySteps: onSteps.every,
        onSteps: (moment) => caller.call(() => onSteps.call(caller.context(moment))),
      });
    }
    run.hooks.add({
      onEpochEnd: (moment) => caller.epochEnd(moment),
      onCheckpoint: (event) => void caller.checkpoints.push(event),
      onEnd: () => caller.tellCheckpoints(),
    });
  },
};

class CallbackCaller {
  /** Written, and not yet told to the callbacks. */
  readonly checkpoints: CheckpointEvent[] = [];

  constructor(
    private readonly run: OpenRun,
    private readonly callbacks: readonly Callbacks[],
  ) {}

  context({ step, epoch, loss, lr }: RunMoment & { loss?: number; lr?: number }): CallbackContext {
    const { run } = this;
    const { model, report } = run.options;
    return {
      step,
      epoch,
      totalSteps: run.totalSteps,
      epochs: run.train.epochs,
      loss: loss ?? run.progress.meter.epochLoss,
      // A schedule that has seen the evaluation gives the rate of the next step.
      learningRate: lr ?? run.session.learningRate(Math.max(0, step - 1)),
      model,
      log: (values) => {
        for (const [name, value] of Object.entries(values)) {
          // The log is JSON, which has no others.
          if (Number.isFinite(value)) continue;
          const found = typeof value === 'number' ? String(value) : typeof value;
          throw new ConfigError({ what: `'${name}' is no finite number: ${found}`, where: 'log' });
        }
        report({ type: 'scalars', step, epoch, values: { ...values } });
      },
      stop: (message = 'Stopped by a callback') => {
        run.stopRequest ??= { reason: 'callback', message };
      },
    };
  }

  async tellCheckpoints(): Promise<void> {
    for (const event of this.checkpoints.splice(0)) {
      for (const callback of this.callbacks) await callback.onCheckpoint?.(event);
    }
  }

  /** What the callbacks throw ends the run, but what was trained so far is not lost. */
  async call(work: () => void | Promise<void>): Promise<void> {
    const { run } = this;
    // A forward of the model in a callback must see the weights as they are now.
    run.options.model.changed();
    try {
      await this.tellCheckpoints();
      await work();
    } catch (error) {
      await run.checkpoints?.write('failed');
      await run.checkpoints?.done();
      throw error;
    }
  }

  async epochEnd({ step, epoch, last, loss, lr, evaluation }: EpochMoment): Promise<void> {
    const context = this.context({ step, epoch, loss, lr });
    await this.call(async () => {
      for (const callback of this.callbacks) {
        if (evaluation) await callback.onEvaluation?.(evaluation, context);
      }
      for (const callback of this.callbacks) {
        await callback.onEpochEnd?.({ ...context, last, evaluation });
      }
    });
  }
}
