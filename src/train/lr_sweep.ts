/** A short training at exponentially growing learning rates, after which the model is as it was. */
import { Processes } from '../dist/processes.js';
import { fixedTrain } from '../config/fixed_train.js';
import { AbortedError, ArgumentError, TrainError } from '../errors.js';
import type { Model } from '../model.js';
import type { StepsEvent } from '../native/contract.js';
import type { Tensor } from '../tensor.js';
import { chooseBatchSize } from './batch_size.js';
import {
  suggestLearningRates,
  Sweep,
  type LearningRateSuggestions,
  type SweepPoint,
} from './lr_suggestion.js';
import { OpenRun } from './open_run.js';
import { chooseAndReportDevices } from './run_devices.js';
import { checkOptions } from './option_keys.js';
import { RunProgress } from './run_progress.js';
import type { RunConfig, TrainingRunOptions } from './training_run_types.js';

export interface LearningRateOptions {
  /** First and last rate. Default 1e-7 and 10. */
  minLr?: number;
  maxLr?: number;
  /** Optimizer steps. Default 100. */
  steps?: number;
  /** End once the averaged loss is four times its minimum. Default true. */
  stopWhenDiverged?: boolean;
}

export interface LearningRateResult {
  /** To be used as `train.lr`: `suggestions.valley`. Null where the sweep is too short to tell. */
  suggestion: number | null;
  suggestions: LearningRateSuggestions | null;
  /** In order; without what came after the loss had exploded. */
  points: SweepPoint[];
  diverged: boolean;
  minLr: number;
  maxLr: number;
  /** Planned. */
  steps: number;
  /** What `train.batch_size` says, or came to. */
  batchSize: number;
}

type SweepRun = Pick<TrainingRunOptions, 'model' | 'data' | 'loss' | 'teacher' | 'report' | 'signal'> & {
  config: RunConfig;
};

/** How often the native session reports: the end of a sweep is no later than that. */
const EVENT_INTERVAL_MS = 50;

/**
 * Trains as the configuration says (precision, accumulation, groups, frozen modules), but for the schedule. Nothing
 * is evaluated and nothing written; the weights and statistics of the model are put back at the end.
 *
 * @throws ArgumentError for a range that is none; TrainError if the first loss is not finite; AbortedError.
 */
export async function sweepLearningRates(
  run: SweepRun,
  options: LearningRateOptions = {},
): Promise<LearningRateResult> {
  checkOptions(options, ['minLr', 'maxLr', 'steps', 'stopWhenDiverged'], 'the search for a learning rate');
  const { minLr = 1e-7, maxLr = 10, steps = 100, stopWhenDiverged = true } = options;
  if (!(minLr > 0 && maxLr > minLr && Number.isFinite(maxLr))) {
    throw new ArgumentError(`the rates must grow from above 0: ${minLr} to ${maxLr}`);
  }
  if (!(Number.isSafeInteger(steps) && steps >= 20)) {
    throw new ArgumentError(`a sweep needs at least 20 steps, not ${steps}`);
  }
  const { model, data, loss, teacher, report, signal } = run;
  const sizing = { model, data, loss, teacher, begun: null, report, signal };
  const config = await chooseBatchSize(run.config, sizing);
  const saved = copyState(model);
  const sweep = new Sweep(stopWhenDiverged);
  try {
    await train({ ...run, config }, { minLr, maxLr, steps }, sweep);
  } finally {
    model.loadState(saved);
    for (const tensor of Object.values(saved)) tensor.dispose();
  }
  if (signal?.aborted) throw new AbortedError('the search for a learning rate was stopped');
  if (sweep.points.length === 0) {
    throw new TrainError({
      what: `the loss is not finite at the first step, with a learning rate of ${minLr}`,
      fix: 'check the images, the loss and the pretrained weights',
    });
  }
  const suggestions = suggestLearningRates(sweep.points, steps);
  const { points, diverged } = sweep;
  return {
    suggestion: suggestions?.valley ?? null,
    ...{ suggestions, points, diverged, minLr, maxLr, steps },
    batchSize: fixedTrain(config.train).batchSize,
  };
}

function copyState(model: Model): Record<string, Tensor> {
  return Object.fromEntries(
    model.state().map(({ name, tensor }) => {
      using cpu = tensor.to({ device: 'cpu' });
      return [name, cpu.call('aten::clone')];
    }),
  );
}

/**
 * The configuration with the rates of the sweep, and without what belongs to a whole training.
 *
 * @param stepsPerEpoch optimizer steps.
 */
export function sweepConfig(
  config: RunConfig,
  { minLr, maxLr, steps }: Required<Range>,
  stepsPerEpoch: number,
): RunConfig {
  const { headLr } = config.train;
  return {
    ...config,
    train: {
      ...config.train,
      lr: minLr,
      // A rate of its own keeps its ratio to the others.
      headLr: typeof headLr === 'number' ? `${headLr / fixedTrain(config.train).lr}x` : headLr,
      schedule: {
        name: 'exponential',
        gamma: (maxLr / minLr) ** (1 / (steps - 1)),
        per: 'step',
        warmupEpochs: 0,
        warmupSteps: null,
      },
      // No more steps than are tried: by their number precision is measured or not.
      epochs: Math.ceil(steps / stepsPerEpoch),
      ema: null,
      swa: null,
      bnRecompute: null,
      earlyStopping: null,
      maxTime: null,
      // Losses that explode are the end of a sweep, not a fault.
      nanWatch: { ...config.train.nanWatch, policy: 'off' },
    },
  };
}

type Range = Pick<LearningRateOptions, 'minLr' | 'maxLr' | 'steps'>;

async function train(run: SweepRun, range: Required<Range>, sweep: Sweep): Promise<void> {
  const { report, signal, model } = run;
  const { batchSize, gradAccum } = fixedTrain(run.config.train);
  const stepsPerEpoch = Math.max(1, Math.ceil(run.data.trainSamples / batchSize / gradAccum));
  const config = sweepConfig(run.config, range, stepsPerEpoch);
  const open = await OpenRun.open(
    {
      options: { ...run, config, store: null },
      processes: Processes.alone,
      devices: chooseAndReportDevices(config, false, report),
      progress: new RunProgress(config.checkpoint),
    },
    null,
  );
  const { session, loader } = open;
  const stop = (): void => session.stop();
  signal?.addEventListener('abort', stop, { once: true });
  let failure: unknown = null;
  const take = (event: StepsEvent): void => {
    try {
      event.losses.forEach((loss, i) => {
        // The gradient scaler's first attempts are too large: those steps were skipped.
        if (open.devices.amp === 'fp16' && !Number.isFinite(loss) && sweep.points.length === 0) return;
        sweep.add(session.learningRate(event.step - event.losses.length + i), loss);
      });
      report({
        type: 'lr_find_progress',
        done: event.step,
        total: range.steps,
        lr: event.lr,
        loss: event.losses.at(-1)!,
      });
    } catch (error) {
      failure = error;
    }
    if (sweep.diverged || failure !== null) session.stop();
  };
  try {
    for (let epoch = 0; session.stepCount < range.steps && !sweep.diverged && !signal?.aborted; epoch++) {
      loader.startEpoch(epoch);
      const steps = range.steps - session.stepCount;
      await session.run(loader, { steps, event_interval_ms: EVENT_INTERVAL_MS, onEvent: take });
      if (failure !== null) throw failure as Error;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    open.dispose();
    model.changed();
  }
}
