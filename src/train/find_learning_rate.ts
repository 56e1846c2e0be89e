/** `fornax lr-find`: which learning rate a configuration should train with. */
import type { Config } from '../config/schema.js';
import type { Report } from './events.js';
import { requireClassifier } from './job_checks.js';
import { sweepLearningRates, type LearningRateOptions, type LearningRateResult } from './lr_sweep.js';
import { PreparedJob } from './prepared_job.js';

/**
 * Prepares data, model, teacher and loss as a training would, and tries learning rates. No run folder is made.
 *
 * @throws what a training would throw before its first step; AbortedError.
 */
export async function findLearningRate(
  config: Config,
  options: LearningRateOptions & { report?: Report; signal?: AbortSignal } = {},
): Promise<LearningRateResult> {
  requireClassifier(config);
  const { report = () => undefined, signal, ...sweep } = options;
  using job = await PreparedJob.prepare(config, null, { ...(signal && { signal }) }, report);
  const { model, data, teacher, loss } = job;
  return await sweepLearningRates({ model, data, teacher, loss, config, report, signal }, sweep);
}
