/**
 * Settings that go by figures of the evaluation: which figures there are depends on the data and on the loss. What was
 * asked for and cannot be is refused before the first step.
 */
import type { FixedTrain } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import { figure } from './evaluation_figures.js';
import { evaluationLoss } from './evaluation_loss.js';
import type { RunFeature } from './run_features.js';
import { watched } from './stopping.js';
import type { TrainingRunOptions } from './training_run_types.js';

/** The first setting that would never have an effect without an evaluation; null: none. */
function needsEvaluation({ earlyStopping, schedule }: FixedTrain): string | null {
  if (earlyStopping !== null) return 'train.early_stopping';
  // As `loss` the plateau schedule takes the training loss where there is no other (epoch_end.ts).
  if (schedule.name === 'reduce_on_plateau' && schedule.metric !== 'loss') return 'train.schedule.metric';
  return null;
}

/** Why no evaluation of this training has a figure; null: it has. Metrics of a script are there. */
function whyMissing(name: string, { model, data, loss }: TrainingRunOptions): string | null {
  if (name === 'top1' || name === 'top5') {
    return data.classes.length > 0 ? null : `the data have no classes, and so no ${name}`;
  }
  if (name !== 'loss' || evaluationLoss(model.graph, data, loss) !== null) return null;
  return 'the data have no classes, and the loss asks a teacher, which an evaluation does not have';
}

/** Settings with the figures they go by. */
function watching(
  train: FixedTrain,
  checkpoint: TrainingRunOptions['config']['checkpoint'],
): { where: string; name: string }[] {
  const { earlyStopping, schedule } = train;
  return [
    { where: 'checkpoint.monitor', name: checkpoint.monitor },
    ...(earlyStopping
      ? [{ where: 'train.early_stopping', name: watched(earlyStopping, checkpoint).monitor }]
      : []),
    ...(schedule.name === 'reduce_on_plateau'
      ? [{ where: 'train.schedule.metric', name: schedule.metric }]
      : []),
  ];
}

/** What happens without the loss of an evaluation, where a setting is `loss` by default; null: it is refused. */
function withoutLoss(where: string): string | null {
  if (where === 'checkpoint.monitor') return 'no epoch is the best, and the last weights are kept';
  return where === 'train.schedule.metric' ? 'the schedule goes by the training loss' : null;
}

function checkFigures(options: TrainingRunOptions, train: FixedTrain): void {
  const { checkpoint } = options.config;
  for (const { where, name } of watching(train, checkpoint)) {
    const why = whyMissing(name, options);
    if (why === null) continue;
    const instead = name === 'loss' ? withoutLoss(where) : null;
    if (instead === null) {
      throw new ConfigError({
        what: `it goes by the validation figure ${name}, which there is not: ${why}`,
        where,
        fix: 'name a metric of your own, or leave it out',
      });
    }
    options.report({ type: 'warning', message: `${where}: ${why}; ${instead}` });
  }
  if (options.data.classes.length === 0 && checkpoint.monitor === 'loss' && !whyMissing('loss', options)) {
    const which = checkpoint.mode === 'min' ? 'least' : 'largest';
    options.report({
      type: 'info',
      message: `Data without classes: the best epoch is the one with the ${which} validation loss`,
    });
  }
}

export const validationFeature: RunFeature = {
  prepare({ options, train }) {
    if (options.data.evalSamples !== null) return checkFigures(options, train);
    const where = needsEvaluation(train);
    if (where === null) return;
    throw new ConfigError({
      what: 'it goes by figures of the evaluation, and there are no validation images',
      where,
      fix: 'give validation images (data.val, data.val_fraction), or leave it out',
    });
  },
  /** A figure that is there, but not a number, is told once: nothing goes by it. */
  attach({ hooks, options, train }) {
    const told = new Set<string>();
    hooks.add({
      onEpochEnd({ evaluation, epoch }) {
        if (evaluation === null) return;
        for (const { where, name } of watching(train, options.config.checkpoint)) {
          const value = figure(evaluation, name);
          if (Number.isFinite(value) || told.has(where) || whyMissing(name, options)) continue;
          told.add(where);
          const message = `${where}: ${name} is ${value ?? 'missing'} after epoch ${epoch}, which counts as no improvement`;
          options.report({ type: 'warning', message });
        }
      },
    });
  },
};
