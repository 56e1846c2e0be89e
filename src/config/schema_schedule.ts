/** `train.schedule`: each course of the learning rate with its settings. */
import { z } from 'zod';

const warmup = {
  warmup_epochs: z.number().min(0).default(0).describe('Epochs of linear warm-up (fractions are allowed).'),
  warmup_steps: z
    .int()
    .min(0)
    .nullable()
    .default(null)
    .describe('The same in steps; goes before `warmup_epochs`.'),
};
const per = (unit: 'epoch' | 'step'): z.ZodDefault<z.ZodEnum<{ epoch: 'epoch'; step: 'step' }>> =>
  z.enum(['epoch', 'step']).default(unit).describe('When the rate changes, and what the numbers here count.');
const gamma = z.number().gt(0).max(1).describe('Factor on the rate.');
const minLr = z.number().min(0).default(0).describe('Learning rate at the end.');
const momentum = z.number().min(0).lt(1);

const schedules = [
  z.strictObject({ name: z.literal('constant'), ...warmup }),
  z.strictObject({
    name: z.literal('step'),
    ...warmup,
    step_size: z.int().min(1).default(30).describe('The rate falls after every so many epochs (steps).'),
    gamma: gamma.default(0.1),
    per: per('epoch'),
  }),
  z.strictObject({
    name: z.literal('multistep'),
    ...warmup,
    milestones: z
      .array(z.int().min(0))
      .min(1)
      .describe('Epochs (steps) after the warm-up at which the rate falls.'),
    gamma: gamma.default(0.1),
    per: per('epoch'),
  }),
  z.strictObject({
    name: z.literal('exponential'),
    ...warmup,
    gamma: gamma.default(0.95),
    per: per('epoch'),
  }),
  z.strictObject({
    name: z.literal('polynomial'),
    ...warmup,
    power: z.number().gt(0).default(1).describe('1: along a line.'),
    min_lr: minLr,
    per: per('step'),
  }),
  z.strictObject({ name: z.literal('cosine'), ...warmup, min_lr: minLr, per: per('step') }),
  z.strictObject({
    name: z.literal('cosine_restarts'),
    ...warmup,
    period: z.int().min(1).default(10).describe('Epochs (steps) of the first period.'),
    period_factor: z
      .int()
      .min(1)
      .default(1)
      .describe('Each later period is so many times as long as the one before.'),
    min_lr: z.number().min(0).default(0).describe('Learning rate at the end of each period.'),
    per: per('epoch'),
  }),
  z.strictObject({
    name: z.literal('one_cycle'),
    ...warmup,
    pct_start: z
      .number()
      .gt(0)
      .lt(1)
      .default(0.3)
      .describe('Share of the steps in which the rate rises to `train.lr`.'),
    div_factor: z.number().min(1).default(25).describe('The rate starts at `train.lr` / `div_factor`.'),
    final_div_factor: z
      .number()
      .min(1)
      .default(1e4)
      .describe('The rate ends at its start / `final_div_factor`.'),
    anneal: z.enum(['cos', 'linear']).default('cos').describe('Along a cosine or a line.'),
    three_phase: z
      .boolean()
      .default(false)
      .describe('Fall to the start as fast as rise, then to the end (`pct_start` at most 0.5).'),
    cycle_momentum: z
      .boolean()
      .default(false)
      .describe('Move momentum (the first beta) against the rate, between the two below.'),
    base_momentum: momentum.default(0.85).describe('Momentum where the rate is highest.'),
    max_momentum: momentum.default(0.95).describe('Momentum where the rate is lowest.'),
  }),
  z.strictObject({
    name: z.literal('reduce_on_plateau'),
    ...warmup,
    metric: z
      .enum(['loss', 'top1'])
      .default('loss')
      .describe('What must get better, in each evaluation; without validation images the training loss.'),
    factor: z.number().gt(0).lt(1).default(0.1).describe('Factor on the rate.'),
    patience: z.int().min(0).default(10).describe('Evaluations without improvement that are forgiven.'),
    threshold: z.number().min(0).default(1e-4).describe('What counts as better, as a share of the best.'),
    threshold_mode: z.enum(['rel', 'abs']).default('rel').describe('`abs`: the threshold is a difference.'),
    cooldown: z.int().min(0).default(0).describe('Evaluations after a fall in which nothing is counted.'),
    min_lr: minLr,
  }),
] as const;
const names = [
  'constant',
  'step',
  'exponential',
  'polynomial',
  'cosine',
  'cosine_restarts',
  'one_cycle',
  'reduce_on_plateau',
] as const;
const schedule = z.discriminatedUnion('name', schedules);

export const scheduleSchema = z
  .union([z.enum(names).transform((name) => schedule.parse({ name })), schedule])
  .default(schedule.parse({ name: 'cosine', warmup_epochs: 0 }))
  .describe(
    'Course of the learning rate: its name, or a map with its name and settings. `cosine` if left out.',
  );
