/** The section `train` of a config, with its optimizers and schedules. */
import { z } from 'zod';
import { lossSchema } from './schema_loss.js';
import { stoppingKeys } from './schema_stopping.js';
import { auto } from './schema_values.js';

const sgd = z.strictObject({
  name: z.literal('sgd'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('Momentum.'),
  nesterov: z.boolean().default(true).describe('Nesterov momentum (needs `momentum` above 0).'),
});
const adamw = z.strictObject({
  name: z.literal('adamw'),
  betas: z
    .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
    .default([0.9, 0.999])
    .describe('Decay rates of the two moments.'),
  eps: z.number().gt(0).default(1e-8).describe('Added to the denominator.'),
});
const optimizer = z.discriminatedUnion('name', [sgd, adamw]);

const warmup = {
  warmup_epochs: z.number().min(0).default(0).describe('Epochs of linear warm-up (fractions are allowed).'),
  warmup_steps: z
    .int()
    .min(0)
    .nullable()
    .default(null)
    .describe('The same in steps; goes before `warmup_epochs`.'),
};
const constant = z.strictObject({ name: z.literal('constant'), ...warmup });
const cosine = z.strictObject({
  name: z.literal('cosine'),
  ...warmup,
  min_lr: z.number().min(0).default(0).describe('Learning rate at the end.'),
});
const oneCycle = z.strictObject({
  name: z.literal('one_cycle'),
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
});
const schedule = z.discriminatedUnion('name', [constant, cosine, oneCycle]);

export const trainSchema = z
  .strictObject({
    epochs: z.int().min(1).max(100_000).default(10).describe('Passes over the training images.'),
    batch_size: z.int().min(1).max(65_536).default(64).describe('Images in a batch.'),
    lr: z
      .union([auto, z.number().gt(0)])
      .default('auto')
      .describe(
        'Peak learning rate. `auto`: 0.1 per 256 images of an optimizer step (`batch_size` × `grad_accum`) for `sgd`, 0.001 for `adamw`.',
      ),
    optimizer: z
      .union([z.enum(['sgd', 'adamw']).transform((name) => optimizer.parse({ name })), optimizer])
      .default(optimizer.parse({ name: 'sgd' }))
      .describe('Optimizer: its name, or a map with its name and settings. `sgd` if left out.'),
    weight_decay: z
      .number()
      .min(0)
      .default(5e-4)
      .describe('Weight decay (in the gradient for `sgd`, decoupled for `adamw`).'),
    decay_norm_and_bias: z
      .boolean()
      .default(true)
      .describe(
        '`false`: one-dimensional parameters (biases, scales of normalisation layers) are not decayed.',
      ),
    schedule: z
      .union([
        z.enum(['constant', 'cosine', 'one_cycle']).transform((name) => schedule.parse({ name })),
        schedule,
      ])
      .default(schedule.parse({ name: 'cosine', warmup_epochs: 0 }))
      .describe(
        'Course of the learning rate: its name, or a map with its name and settings. `cosine` if left out.',
      ),
    loss: lossSchema,
    label_smoothing: z
      .number()
      .min(0)
      .lt(1)
      .default(0)
      .describe('Label smoothing of `cross_entropy` and `bce`, unless they name their own.'),
    aux_weight: z
      .number()
      .min(0)
      .default(0.4)
      .describe('Factor of the loss of auxiliary outputs, for models that have such; 0 leaves it out.'),
    amp: z
      .enum(['auto', 'off', 'bf16', 'fp16'])
      .default('auto')
      .describe(
        'Mixed precision. `auto`: bf16 on GPUs from compute capability 8.0 on, fp16 on older ones, off on a CPU. `fp16` needs CUDA.',
      ),
    channels_last: z
      .union([auto, z.boolean()])
      .default('auto')
      .describe('Memory layout of images and convolutions. `auto`: on.'),
    cudnn_benchmark: z.boolean().default(true).describe('Let cuDNN measure its algorithms (CUDA only).'),
    tf32: z.boolean().default(true).describe('TensorFloat-32 for float32 matrix products (CUDA only).'),
    flush_denormal: z
      .boolean()
      .default(true)
      .describe('Treat denormal numbers as zero (CPU only; without it a step can take ten times as long).'),
    threads: z
      .union([auto, z.int().min(1).max(1024)])
      .default('auto')
      .describe('Threads of one operator on the CPU. `auto`: one per core.'),
    seed: z
      .int()
      .min(0)
      .default(0)
      .describe('Seed of the weights, the order of the images, augmentation and dropout.'),
    grad_accum: z.int().min(1).max(4096).default(1).describe('Batches per optimizer step.'),
    clip_norm: z
      .number()
      .gt(0)
      .nullable()
      .default(null)
      .describe('Largest norm of all gradients together; larger ones are scaled down. `null`: no limit.'),
    ...stoppingKeys,
    frozen: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Module paths (`layer1`, `layer2.0`) whose parameters stay as they are and whose batch norm uses its running statistics.',
      ),
  })
  .describe('Optimisation.');
