/** Rules of `train.schedule`: what the native schedules refuse, said with its file and line. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

export function checkSchedule({ train }: z.output<typeof configSchema>, refuse: Refuse): void {
  const { schedule } = train;
  if (schedule.warmup_steps === null && schedule.warmup_epochs >= train.epochs) {
    refuse(
      ['train', 'schedule', 'warmup_epochs'],
      `expected less than train.epochs (${train.epochs}), got ${schedule.warmup_epochs}`,
    );
  }
  if ('min_lr' in schedule && train.lr !== 'auto' && schedule.min_lr > train.lr) {
    refuse(
      ['train', 'schedule', 'min_lr'],
      `expected at most train.lr (${train.lr}), got ${schedule.min_lr}`,
    );
  }
  if (schedule.name !== 'one_cycle') return;
  const { pct_start: start, three_phase: threePhase } = schedule;
  if (threePhase && start > 0.5) {
    refuse(
      ['train', 'schedule', 'pct_start'],
      `expected at most 0.5 with three_phase, whose first two phases are as long as each other, got ${start}`,
      'lower it, or set three_phase: false',
    );
  }
  const { cycle_momentum: moves, base_momentum: least, max_momentum: most } = schedule;
  if (moves && least > most) {
    refuse(['train', 'schedule', 'base_momentum'], `expected at most max_momentum (${most}), got ${least}`);
  }
}
