/** Settings that go by figures of the evaluation, which only data with validation images have. */
import type { FixedTrain } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { RunFeature } from './run_features.js';

/** The first setting that would never have an effect without an evaluation; null: none. */
function needsEvaluation({ earlyStopping, schedule }: FixedTrain): string | null {
  if (earlyStopping !== null) return 'train.early_stopping';
  // As `loss` the plateau schedule takes the training loss where there is no other (epoch_end.ts).
  if (schedule.name === 'reduce_on_plateau' && schedule.metric !== 'loss') return 'train.schedule.metric';
  return null;
}

export const validationFeature: RunFeature = {
  prepare({ options, train }) {
    const where = options.data.evalSamples === null ? needsEvaluation(train) : null;
    if (where === null) return;
    throw new ConfigError({
      what: 'it goes by figures of the evaluation, and there are no validation images',
      where,
      fix: 'give validation images (data.val, data.val_fraction), or leave it out',
    });
  },
};
