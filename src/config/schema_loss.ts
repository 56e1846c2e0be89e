/** `train.loss`: the losses with their settings, alone or as a weighted sum. */
import { z } from 'zod';
import { path, share } from './schema_values.js';

const perClass = z.array(z.number().min(0)).min(1).nullable().default(null);
const ignoreIndex = z
  .int()
  .nullable()
  .default(null)
  .describe('Targets with this value do not count. `null`: all count.');
const labelSmoothing = z
  .number()
  .min(0)
  .lt(1)
  .nullable()
  .default(null)
  .describe('Label smoothing. `null`: `train.label_smoothing`.');
const mode = z
  .enum(['multiclass', 'binary'])
  .default('multiclass')
  .describe('One of several classes for every pixel, or yes or no.');
const region = {
  mode,
  smooth: z.number().min(0).default(0).describe('Added to numerator and denominator of the score.'),
  ignore_index: ignoreIndex,
};
const shared = {
  weight: z.number().gt(0).default(1).describe('Factor of this loss in the sum.'),
};

const crossEntropy = z.strictObject({
  name: z.literal('cross_entropy'),
  ...shared,
  label_smoothing: labelSmoothing,
  class_weights: perClass.describe(
    'Factor of each class, in the order of the classes (their names sorted); the mean is weighted too. `null`: all 1.',
  ),
  ignore_index: ignoreIndex,
});
const bce = z.strictObject({
  name: z.literal('bce'),
  ...shared,
  label_smoothing: labelSmoothing,
  pos_weight: perClass.describe('Factor of each class where it is the right one. `null`: all 1.'),
  ignore_index: ignoreIndex,
});
const focal = z.strictObject({
  name: z.literal('focal'),
  ...shared,
  alpha: share
    .nullable()
    .default(0.25)
    .describe('Weight of the right class, the others having 1 − `alpha`. `null`: no weights.'),
  gamma: z.number().min(0).default(2).describe('How strongly what is right already is discounted.'),
  ignore_index: ignoreIndex,
});
const dice = z.strictObject({ name: z.literal('dice'), ...shared, ...region });
const jaccard = z.strictObject({ name: z.literal('jaccard'), ...shared, ...region });
const tversky = z.strictObject({
  name: z.literal('tversky'),
  ...shared,
  ...region,
  alpha: z.number().min(0).default(0.5).describe('Weight of false positives.'),
  beta: z.number().min(0).default(0.5).describe('Weight of false negatives.'),
  gamma: z.number().gt(0).default(1).describe('Exponent of the loss.'),
});
const lovasz = z.strictObject({
  name: z.literal('lovasz'),
  ...shared,
  mode,
  per_image: z.boolean().default(false).describe('One loss for each image instead of one for the batch.'),
  ignore_index: ignoreIndex,
});
const mse = z.strictObject({ name: z.literal('mse'), ...shared });
const smoothL1 = z.strictObject({
  name: z.literal('smooth_l1'),
  ...shared,
  beta: z.number().min(0).default(1).describe('Error at which it turns from quadratic to linear.'),
});
const distillation = z.strictObject({
  name: z.literal('distillation'),
  ...shared,
  teacher: path
    .nullable()
    .default(null)
    .describe('Model file of the teacher, trained on the same classes. It is asked about every batch.'),
  temperature: z.number().gt(0).default(4).describe('Divides the logits of model and teacher.'),
});

const loss = z.discriminatedUnion('name', [
  crossEntropy,
  bce,
  focal,
  dice,
  jaccard,
  tversky,
  lovasz,
  mse,
  smoothL1,
  distillation,
]);
const name = z.enum(loss.options.map((option) => option.shape.name.value) as [LossName, ...LossName[]]);
export type LossName = z.output<typeof loss>['name'];

/** One loss by its name, or with settings. */
const term = z.union([name.transform((only) => loss.parse({ name: only })), loss]);

/** A name, a map or a list of both; parsed, always a list. */
export const lossSchema = z
  .union([
    name.transform((only) => [loss.parse({ name: only })]),
    loss.transform((one) => [one]),
    z.array(term).min(1),
  ])
  .default([loss.parse({ name: 'cross_entropy' })])
  .describe(
    'Loss: its name, a map with its name and settings, or a list of these, whose weighted sum it is. `cross_entropy` if left out. Images in folders of classes have labels, which `cross_entropy`, `bce` (each class a yes-or-no question of its own) and `focal` need; `dice`, `jaccard`, `tversky` and `lovasz` need masks, `mse` and `smooth_l1` numbers, which only the data of a script have (docs/api.md), `distillation` a `teacher`.',
  );
