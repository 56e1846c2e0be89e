/** Mixup and CutMix as the configuration asks for them; the mixing itself is native (native/train/batch/mixing.h). */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { Graph, GraphArg } from '../graph/format.js';
import type { TrainOptions } from '../native/contract.js';
import type { RunFeature } from './run_features.js';
import type { TrainingRunOptions } from './training_run_types.js';

type TrainConfig = Config['train'];

/** The field whose classes become shares. */
const LABEL = 'label';
/** Operators that take the index of a class and nothing else. */
const NEED_CLASSES =
  /^aten::(one_hot|nll_loss\w*|gather|index\w*|embedding|take_along_dim|multi_margin_loss)\b/;

/** Whether batches are mixed: then labels are shares of the classes. */
export function isMixed(train: Pick<TrainConfig, 'mixup' | 'cutmix'>): boolean {
  return train.mixup > 0 || train.cutmix > 0;
}

function holds(argument: GraphArg, slot: number): boolean {
  if (Array.isArray(argument)) return argument.some((each) => holds(each, slot));
  return typeof argument === 'object' && argument !== null && 'slot' in argument && argument.slot === slot;
}

/** @throws ConfigError if a loss of one's own takes the label for the index of a class */
function requireShares(loss: Graph): void {
  const label = loss.inputs.find(({ name }) => name === LABEL);
  const taker = loss.nodes.find(({ op, args }) => NEED_CLASSES.test(op) && label && holds(args, label.slot));
  if (!taker) return;
  throw new ConfigError({
    what: `the loss takes \`${LABEL}\` for the index of a class (${taker.op}), but mixup and cutmix make shares of the classes of it, float32 [N, classes]`,
    where: 'train.mixup',
    fix: 'use crossEntropy() or another loss of soft targets, or leave mixup and cutmix out',
  });
}

function mixingOptions(
  train: TrainConfig,
  classes: number,
  stepsPerEpoch: number,
): NonNullable<TrainOptions['mix']> {
  const { mixup, cutmix, mixProb, mixSwitchProb, mixEpochs } = train;
  return {
    classes,
    label: LABEL,
    mixup,
    cutmix,
    prob: mixProb,
    switch_prob: mixSwitchProb,
    ...(mixEpochs !== null && { steps: mixEpochs * stepsPerEpoch }),
  };
}

/**
 * Lets a session mix its batches, if the configuration asks for it.
 *
 * @param session to be opened; changed in place.
 * @throws ConfigError for data, a model or a loss that cannot be mixed.
 */
export function mixBatches(
  session: TrainOptions,
  train: TrainConfig,
  { data, model }: Pick<TrainingRunOptions, 'data' | 'model'>,
  stepsPerEpoch: number,
): void {
  if (!isMixed(train)) return;
  const refuse = (what: string): ConfigError =>
    new ConfigError({
      what,
      where: train.mixup > 0 ? 'train.mixup' : 'train.cutmix',
      fix: 'leave them out',
    });
  if (data.fields?.includes(LABEL) === false || data.classes.length === 0) {
    throw refuse('mixup and cutmix need images with one label each, which these data do not have');
  }
  const { inputs } = model.graph;
  if (inputs.length !== 1) {
    const names = inputs.map(({ name }) => name).join(', ');
    throw refuse(`mixup and cutmix mix one image, but the model has the inputs ${names}`);
  }
  const { name, rank = 4 } = inputs[0]!;
  if (rank !== 4) {
    throw refuse(
      `mixup and cutmix mix images [N, C, H, W], but the input ${name} of the model has ${rank} dimensions`,
    );
  }
  requireShares(session.loss);
  session.mix = mixingOptions(train, data.classes.length, stepsPerEpoch);
}

export const mixingFeature: RunFeature = {
  prepare: ({ options, train, stepsPerEpoch, session }) => mixBatches(session, train, options, stepsPerEpoch),
};
