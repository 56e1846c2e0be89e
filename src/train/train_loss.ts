/** The loss of a run: what `train.loss` describes, over the outputs of the model and the fields of the data. */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import {
  BinaryCrossEntropyLoss,
  CrossEntropyLoss,
  DiceLoss,
  DistillationLoss,
  FocalLoss,
  JaccardLoss,
  LovaszLoss,
  MSELoss,
  SmoothL1Loss,
  TverskyLoss,
  weightedSum,
  type LossTerm,
} from '../losses/index.js';
import type { Model } from '../model.js';
import type { Module } from '../nn/index.js';
import { isMixed } from './mixing.js';

type TrainConfig = Config['train'];
type LossConfig = TrainConfig['loss'][number];
/** Fields of a batch beside the image: class indices per image or pixel, numbers, logits of a teacher. */
export type TargetField = 'label' | 'mask' | 'target' | 'teacher';

const contents: Record<TargetField, string> = {
  label: 'labels',
  mask: 'masks',
  target: 'numbers as targets',
  teacher: 'the logits of a teacher',
};

/** What a loss compares with; of several, the first that the data have. */
const needs: Record<LossConfig['name'], readonly TargetField[]> = {
  cross_entropy: ['label', 'mask'],
  bce: ['label', 'mask'],
  focal: ['label', 'mask'],
  dice: ['mask'],
  jaccard: ['mask'],
  tversky: ['mask'],
  lovasz: ['mask'],
  mse: ['target'],
  smooth_l1: ['target'],
  distillation: ['teacher'],
};

function ignoring(index: number | null): { ignoreIndex?: number } {
  return index === null ? {} : { ignoreIndex: index };
}

/** @param mixed the labels are shares of the classes [N, C] instead of classes [N] */
function moduleOf(loss: LossConfig, defaultSmoothing: number, mixed: boolean): Module {
  switch (loss.name) {
    case 'cross_entropy':
      return new CrossEntropyLoss({
        labelSmoothing: loss.labelSmoothing ?? defaultSmoothing,
        ...(loss.classWeights === null ? {} : { classWeights: loss.classWeights }),
        ...ignoring(loss.ignoreIndex),
      });
    case 'bce':
      return new BinaryCrossEntropyLoss({
        mode: mixed ? 'multilabel' : 'multiclass',
        labelSmoothing: loss.labelSmoothing ?? defaultSmoothing,
        ...(loss.posWeight === null ? {} : { posWeight: loss.posWeight }),
        ...ignoring(loss.ignoreIndex),
      });
    case 'focal':
      return new FocalLoss({
        ...(mixed && { mode: 'multilabel', soft: true }),
        alpha: loss.alpha,
        gamma: loss.gamma,
        ...ignoring(loss.ignoreIndex),
      });
    case 'dice':
      return new DiceLoss({ mode: loss.mode, smooth: loss.smooth, ...ignoring(loss.ignoreIndex) });
    case 'jaccard':
      return new JaccardLoss({ mode: loss.mode, smooth: loss.smooth, ...ignoring(loss.ignoreIndex) });
    case 'tversky': {
      const { mode, smooth, alpha, beta, gamma } = loss;
      return new TverskyLoss({ mode, smooth, alpha, beta, gamma, ...ignoring(loss.ignoreIndex) });
    }
    case 'lovasz':
      return new LovaszLoss({ mode: loss.mode, perImage: loss.perImage, ...ignoring(loss.ignoreIndex) });
    case 'mse':
      return new MSELoss();
    case 'smooth_l1':
      return new SmoothL1Loss({ beta: loss.beta });
    case 'distillation':
      return new DistillationLoss({ temperature: loss.temperature });
  }
}

/** The field a loss compares with. @throws ConfigError where the data have none */
function fieldOf({ name }: LossConfig, fields: readonly TargetField[]): TargetField {
  const field = needs[name].find((wanted) => fields.includes(wanted));
  if (field !== undefined) return field;
  const fitting = Object.entries(needs).filter(([, of]) => of.some((wanted) => fields.includes(wanted)));
  throw new ConfigError({
    what: `the loss '${name}' needs ${contents[needs[name][0]!]}, which these data do not have`,
    where: 'train.loss',
    fix: `they have ${fields.map((f) => contents[f]).join(' and ')}, for ${fitting.map(([of]) => of).join(', ')}`,
  });
}

function checkClasses(loss: LossConfig, classes: number): void {
  const given =
    loss.name === 'cross_entropy'
      ? { key: 'class_weights', values: loss.classWeights }
      : loss.name === 'bce'
        ? { key: 'pos_weight', values: loss.posWeight }
        : { key: '', values: null };
  const { key, values } = given;
  if (values === null || values.length === classes) return;
  throw new ConfigError({
    what: `${key} of ${loss.name} has ${values.length} values for ${classes} classes`,
    where: 'train.loss',
    fix: 'give one for each class, in the order of the classes',
  });
}

export interface LossContext {
  /** What the data have beside the image. */
  fields: readonly TargetField[];
  /** Classes that the model tells apart. */
  classes: number;
}

/** Of images with labels, and a teacher if there is one. */
export function labelled(classes: readonly string[], teacher: Model | null): LossContext {
  return { fields: teacher ? ['label', 'teacher'] : ['label'], classes: classes.length };
}

/**
 * The graph of `train.loss` for a model. Auxiliary outputs (of GoogLeNet, Inception and segmenters) get the same
 * loss, weighted by `train.aux_weight`.
 *
 * @throws ConfigError if the data or the model do not have what the loss needs
 */
export function trainLoss(
  model: Graph,
  train: Pick<TrainConfig, 'loss' | 'labelSmoothing' | 'auxWeight'> &
    Partial<Pick<TrainConfig, 'mixup' | 'cutmix'>>,
  { fields, classes }: LossContext,
): Graph {
  const own = model.outputs.filter(({ auxiliary }) => !auxiliary);
  const main = own.length === 1 ? own[0] : own.find(({ name }) => name === 'output');
  if (main === undefined) {
    throw new ConfigError({
      what: `train.loss compares one output, but the model has ${own.map(({ name }) => name).join(', ')}`,
      where: 'train.loss',
      fix: 'give the Trainer a `loss` of your own, made with traceLoss()',
    });
  }
  const mixed = isMixed({ mixup: 0, cutmix: 0, ...train });
  const terms = model.outputs.flatMap(({ name, auxiliary }): LossTerm[] => {
    const factor = auxiliary ? train.auxWeight : name === main.name ? 1 : 0;
    if (factor === 0) return [];
    return train.loss.map((loss) => {
      checkClasses(loss, classes);
      const inputs = [name, fieldOf(loss, fields)];
      return { loss: moduleOf(loss, train.labelSmoothing, mixed), inputs, weight: loss.weight * factor };
    });
  });
  return weightedSum(terms);
}
