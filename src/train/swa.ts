/** Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407) as the configuration asks for it. */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { ScheduleCommon, TrainOptions } from '../native/contract.js';

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

/** Whether weights have been averaged by a step: then the average is the model, however single epochs scored. */
export function swaBegun(
  train: Pick<TrainConfig, 'swa' | 'epochs'>,
  stepsPerEpoch: number,
  step: number,
): boolean {
  const swa = swaSteps(train, stepsPerEpoch);
  return swa !== null && step >= swa.start + swa.interval;
}

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
