/** Losses that are no numbers any more. */
import { TrainError } from '../errors.js';
import type { StepsEvent } from '../native/contract.js';
import type { Amp } from './devices.js';

/**
 * @param epoch the running one, 1-based.
 * @returns what to end the run with, or null.
 */
export function badLoss(steps: StepsEvent, { epoch, amp }: { epoch: number; amp: Amp }): TrainError | null {
  const { losses, lr, step } = steps;
  const bad = losses.findIndex((loss) => !Number.isFinite(loss));
  // With a gradient scaler single infinite losses are skipped steps; otherwise the weights are lost already.
  const scaled = amp === 'fp16' && losses.some((loss) => Number.isFinite(loss));
  if (bad < 0 || scaled) return null;
  return new TrainError({
    what: `the loss became ${losses[bad]} at step ${step - losses.length + bad + 1}`,
    where: `epoch ${epoch}, learning rate ${lr}`,
    fix: 'lower train.lr, lengthen the warm-up, set train.clip_norm, or check the images; the last checkpoint is sound (--resume)',
  });
}
