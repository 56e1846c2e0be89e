/** Whether training goes on: what clocks and signals say, agreed on by all processes. */
import type { OpenRun } from './open_run.js';
import { timeLimit } from './stopping.js';

export interface Outlook {
  aborted: boolean;
  /** By rank 0's clock; Infinity without a limit. */
  secondsLeft: number;
}

/** Called by all processes at the same place; the same for all of them. */
export async function outlookOf({
  train,
  options,
  progress,
  processes,
}: Pick<OpenRun, 'train' | 'options' | 'progress' | 'processes'>): Promise<Outlook> {
  const all = await processes.gather({
    aborted: options.signal?.aborted ?? false,
    seconds: progress.seconds,
  });
  return { aborted: all.some(({ aborted }) => aborted), secondsLeft: timeLimit(train) - all[0]!.seconds };
}
