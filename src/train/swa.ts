/** Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407) as the configuration asks for it. */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { NativeTrain, ScheduleCommon, TrainOptions } from '../native/contract.js';
import type { RunFeature } from './run_features.js';
import type { RunState } from './run_state.js';

type TrainConfig = Config['train'];

/** Batches for the statistics of batch norm where `train.bn_recompute` does not say. */
const RECOMPUTE_BATCHES = 200;

/** Whether an average of the weights is evaluated and becomes the model. */
export function isAveraged(train: Pick<TrainConfig, 'ema' | 'swa'>): boolean {
  return train.ema !== null || train.swa !== null;
}

/** Batches from which batch norm is recomputed after training; null: not at all. */
export function recomputedBatches(
  train: Pick<TrainConfig, 'bnRecompute'>,
  result: { swaBegun: boolean },
): number | null {
  return train.bnRecompute ?? (result.swaBegun ? RECOMPUTE_BATCHES : null);
}

/** When weights are taken into the average, in optimizer steps. */
export function swaSteps(
  { swa, epochs }: Pick<TrainConfig, 'swa' | 'epochs'>,
  stepsPerEpoch: number,
): (NonNullable<TrainOptions['swa']> & { interval: number }) | null {
  if (!swa) return null;
  const startEpochs = swa.start < 1 ? Math.floor(swa.start * epochs) : swa.start;
  const start = Math.round(startEpochs * stepsPerEpoch);
  const interval = swa.intervalSteps ?? swa.interval * stepsPerEpoch;
  const total = epochs * stepsPerEpoch;
  if (start + interval > total) {
    throw new ConfigError({
      what: `no weights would be averaged: the first ones are those of step ${start + interval}, and training has ${total} steps`,
      where: 'train.swa',
      fix: 'let start be earlier, make the interval shorter, or train longer',
    });
  }
  return { start, interval };
}

/** Weights in the session's mean, an int64 scalar. */
const COUNT = 'swa_count';

/**
 * Whether weights have been averaged: then the average is the model, however single epochs scored. The session is
 * asked, as a step that would have been averaged may have been left out (`train.nan_watch`).
 */
export function swaBegun(session: Pick<NativeTrain, 'snapshot'>, train: Pick<TrainConfig, 'swa'>): boolean {
  if (!train.swa) return false;
  const snapshot = session.snapshot({ share: true });
  try {
    return Number(snapshot[COUNT]!.toTypedArray()[0]) > 0;
  } finally {
    for (const tensor of Object.values(snapshot)) tensor.dispose();
  }
}

/** Optimizer steps done, of runs whose session is open. */
const stepsDone = new WeakMap<RunState, () => number>();

/** Once weights may be in the average its start stays: `swa.start` as a share would move in a run that is extended. */
export const swaFeature: RunFeature = {
  prepare({ state, session: { swa, schedule } }) {
    if (!swa) return;
    state.register({
      key: 'swa',
      save: () => {
        const done = stepsDone.get(state)?.() ?? 0;
        return done >= swa.start + (swa.interval ?? 1) ? { start: swa.start } : undefined;
      },
      restore: (saved) => {
        const { start } = saved as { start: number };
        swa.start = start;
        if (schedule.swa) schedule.swa.start = start;
      },
    });
  },
  attach({ state, session }) {
    stepsDone.set(state, () => session.stepCount);
  },
};

/** The rate while averaging; undefined where the schedule goes on. */
export function swaRate(
  train: Pick<TrainConfig, 'swa' | 'epochs'>,
  stepsPerEpoch: number,
): ScheduleCommon['swa'] {
  const steps = swaSteps(train, stepsPerEpoch);
  const { swa } = train;
  if (!steps || swa?.lr == null) return undefined;
  return {
    start: steps.start,
    lr: swa.lr,
    anneal_steps: Math.round(swa.annealEpochs * stepsPerEpoch),
    anneal: swa.anneal,
  };
}
