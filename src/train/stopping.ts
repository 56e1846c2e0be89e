/** Whether a run ends before its last epoch. Functions of what a checkpoint holds, so that a resume agrees. */
import { parseDuration } from '../config/duration.js';
import type { Config } from '../config/schema.js';
import type { EpochRecord } from './checkpoint.js';
import { figure } from './evaluation_figures.js';

export type StopReason = 'early_stopping' | 'max_time' | 'callback';

export interface Stop {
  reason: StopReason;
  /** The whole line for people. */
  message: string;
}

type Limits = Pick<Config, 'checkpoint'> & { train: Pick<Config['train'], 'earlyStopping' | 'maxTime'> };

/** Seconds after which the run ends; Infinity without a limit. */
export function timeLimit(train: Limits['train']): number {
  return train.maxTime === null ? Infinity : (parseDuration(train.maxTime) ?? Infinity);
}

/**
 * Why the run should end now, or null.
 *
 * @param history completed epochs.
 * @param seconds of the run so far, over all its parts.
 */
export function stopNow(config: Limits, history: readonly EpochRecord[], seconds: number): Stop | null {
  if (seconds >= timeLimit(config.train)) {
    return { reason: 'max_time', message: `Stopped: train.max_time (${config.train.maxTime}) is over` };
  }
  return earlyStop(config, history);
}

/** Which figure early stopping watches, and whether less or more of it is better. */
export function watched(
  { monitor, mode }: NonNullable<Limits['train']['earlyStopping']>,
  checkpoint: Pick<Limits['checkpoint'], 'monitor' | 'mode'>,
): { monitor: string; mode: 'min' | 'max' } {
  const name = monitor === 'auto' ? checkpoint.monitor : monitor;
  if (mode !== 'auto') return { monitor: name, mode };
  if (name === checkpoint.monitor) return { monitor: name, mode: checkpoint.mode };
  return { monitor: name, mode: name === 'loss' ? 'min' : 'max' };
}

function earlyStop({ train, checkpoint }: Limits, history: readonly EpochRecord[]): Stop | null {
  if (train.earlyStopping === null) return null;
  const { patience, minDelta } = train.earlyStopping;
  const { monitor, mode } = watched(train.earlyStopping, checkpoint);
  const sign = mode === 'min' ? -1 : 1;
  let best = { score: -Infinity, epoch: 0 };
  let without = 0;
  for (const { epoch, evaluation } of history) {
    if (evaluation === null) continue;
    const value = figure(evaluation, monitor);
    const score = value === null || Number.isNaN(value) ? -Infinity : sign * value;
    if (score > best.score + minDelta || (best.epoch === 0 && score > -Infinity)) {
      best = { score, epoch };
      without = 0;
    } else {
      without++;
    }
  }
  if (without < patience) return null;
  const by = minDelta > 0 ? ` by more than ${minDelta}` : '';
  const reached = Number((sign * best.score).toPrecision(6));
  const since = best.epoch === 0 ? '' : ` (best ${reached} after epoch ${best.epoch})`;
  return {
    reason: 'early_stopping',
    message: `Stopped early: ${monitor} has not improved${by} in ${without} evaluation${without === 1 ? '' : 's'}${since}`,
  };
}
