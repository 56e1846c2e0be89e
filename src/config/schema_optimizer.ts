/** `train.optimizer`: each optimizer with its settings. */
import { z } from 'zod';

const share = z.number().min(0).lt(1);
const betas = (first: number, second: number): z.ZodDefault<z.ZodTuple<[typeof share, typeof share], null>> =>
  z.tuple([share, share]).default([first, second]).describe('Decay rates of the running averages.');
const eps = (value: number): z.ZodDefault<z.ZodNumber> =>
  z.number().gt(0).default(value).describe('Added to the denominator.');
const momentum = (value: number): z.ZodDefault<z.ZodNumber> => share.default(value).describe('Momentum.');
const amsgrad = z.boolean().default(false).describe('Keep the largest second moment (Reddi et al. 2018).');
const decoupled = z
  .boolean()
  .default(false)
  .describe('Take weight decay off the weights (AdamW) instead of adding it to the gradient.');
const trustClip = z.boolean().default(false).describe('Let layers be slowed down only, never sped up.');
const alwaysAdapt = z
  .boolean()
  .default(false)
  .describe('Adapt the rate of parameters without weight decay, too.');

const optimizers = [
  z.strictObject({
    name: z.literal('sgd'),
    momentum: momentum(0.9),
    nesterov: z.boolean().default(true).describe('Nesterov momentum (needs `momentum` above 0).'),
  }),
  z.strictObject({ name: z.literal('adam'), betas: betas(0.9, 0.999), eps: eps(1e-8), amsgrad }),
  z.strictObject({ name: z.literal('adamw'), betas: betas(0.9, 0.999), eps: eps(1e-8), amsgrad }),
  z.strictObject({
    name: z.literal('rmsprop'),
    alpha: share.default(0.99).describe('Decay rate of the squared gradients.'),
    eps: eps(1e-8),
    momentum: momentum(0),
    centered: z.boolean().default(false).describe('Normalise by the variance of the gradients.'),
  }),
  z.strictObject({
    name: z.literal('adagrad'),
    lr_decay: z.number().min(0).default(0).describe('The rate of step i is divided by 1 + i · lr_decay.'),
    eps: eps(1e-10),
  }),
  z.strictObject({
    name: z.literal('radam'),
    betas: betas(0.9, 0.999),
    eps: eps(1e-8),
    decoupled_weight_decay: decoupled,
  }),
  z.strictObject({
    name: z.literal('nadam'),
    betas: betas(0.9, 0.999),
    eps: eps(1e-8),
    momentum_decay: z.number().min(0).default(4e-3).describe('How fast the momentum rises to its value.'),
    decoupled_weight_decay: decoupled,
  }),
  z.strictObject({ name: z.literal('lion'), betas: betas(0.9, 0.99) }),
  z.strictObject({
    name: z.literal('lamb'),
    betas: betas(0.9, 0.999),
    eps: eps(1e-6),
    max_grad_norm: z
      .number()
      .gt(0)
      .nullable()
      .default(1)
      .describe('Largest norm of all gradients together. `null`: no limit.'),
    trust_clip: trustClip,
    always_adapt: alwaysAdapt,
  }),
  z.strictObject({
    name: z.literal('lars'),
    momentum: momentum(0.9),
    nesterov: z.boolean().default(false).describe('Nesterov momentum (needs `momentum` above 0).'),
    trust_coeff: z.number().gt(0).default(0.001).describe('Rate of a layer relative to its norm.'),
    eps: eps(1e-8),
    trust_clip: trustClip,
    always_adapt: alwaysAdapt,
  }),
] as const;
const names = [
  'sgd',
  'adam',
  'adamw',
  'rmsprop',
  'adagrad',
  'radam',
  'nadam',
  'lion',
  'lamb',
  'lars',
] as const;
const optimizer = z.discriminatedUnion('name', optimizers);

export const optimizerSchema = z
  .union([z.enum(names).transform((name) => optimizer.parse({ name })), optimizer])
  .default(optimizer.parse({ name: 'sgd' }))
  .describe('Optimizer: its name, or a map with its name and settings. `sgd` if left out.');
