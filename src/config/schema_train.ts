/** The section `train` of a config. */
import { z } from 'zod';
import { groupKeys } from './schema_groups.js';
import { cudaGraphsKeys } from './schema_cuda_graphs.js';
import { deterministicKeys } from './schema_deterministic.js';
import { lossSchema } from './schema_loss.js';
import { mixingKeys } from './schema_mixing.js';
import { nanWatchKeys } from './schema_nan_watch.js';
import { optimizerSchema } from './schema_optimizer.js';
import { precisionKeys } from './schema_precision.js';
import { scheduleSchema } from './schema_schedule.js';
import { stoppingKeys } from './schema_stopping.js';
import { swaKeys } from './schema_swa.js';
import { batchKeys } from './schema_memory.js';
import { auto } from './schema_values.js';

export const trainSchema = z
  .strictObject({
    epochs: z.int().min(1).max(100_000).default(10).describe('Passes over the training images.'),
    ...batchKeys,
    lr: z
      .union([auto, z.number().gt(0)])
      .default('auto')
      .describe(
        'Peak learning rate. `auto`: 0.1 per 256 images of an optimizer step (`batch_size` × `grad_accum`) for `sgd`, ten times that for `lars`; 0.0001 for `lion`, 0.01 for `adagrad`, 0.005 for `lamb`, 0.001 for the others.',
      ),
    optimizer: optimizerSchema,
    weight_decay: z
      .number()
      .min(0)
      .default(5e-4)
      .describe(
        'Weight decay (decoupled for `adamw` and `lion`, in the gradient or the update for the others).',
      ),
    decay_norm_and_bias: z
      .boolean()
      .default(true)
      .describe(
        '`false`: one-dimensional parameters (biases, scales of normalisation layers) are not decayed.',
      ),
    schedule: scheduleSchema,
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
        'Mixed precision. `auto`: bf16 on GPUs from compute capability 8.0 on, fp16 on older ones; on a CPU with bf16 arithmetic each convolution and matrix product in what is faster there, as measured before the first step. `fp16` needs CUDA.',
      ),
    ...precisionKeys,
    channels_last: z
      .union([auto, z.boolean()])
      .default('auto')
      .describe('Memory layout of images and convolutions. `auto`: on.'),
    ...deterministicKeys,
    ...cudaGraphsKeys,
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
    grad_accum: z
      .int()
      .min(1)
      .max(4096)
      .default(1)
      .describe(
        'Batches per optimizer step. Every image counts alike, also where an epoch ends with fewer batches or a smaller one.',
      ),
    clip_norm: z
      .number()
      .gt(0)
      .nullable()
      .default(null)
      .describe('Largest norm of all gradients together; larger ones are scaled down. `null`: no limit.'),
    clip_value: z
      .number()
      .gt(0)
      .nullable()
      .default(null)
      .describe(
        'Largest absolute value of a single number in the gradients; larger ones are cut off there, after `clip_norm`. `null`: no limit.',
      ),
    ema: z
      .strictObject({
        decay: z
          .number()
          .min(0)
          .lt(1)
          .default(0.9999)
          .describe('Share of the average that stays, at each step.'),
        warmup: z.boolean().default(true).describe('Smaller at first: at step n at most 1 − (1 + n)^(−2/3).'),
      })
      .nullable()
      .default(null)
      .describe(
        'Exponential moving average of the weights: it is evaluated and becomes the model. `null`: none; `{}`: with the defaults.',
      ),
    bn_recompute: z
      .int()
      .min(1)
      .nullable()
      .default(null)
      .describe(
        'Training batches (200 are enough) from which the statistics of batch norm are computed anew at the end, with dropout off. `null`: those of training stay.',
      ),
    sync_batch_norm: z
      .boolean()
      .default(true)
      .describe(
        'With several processes: batch norm takes its statistics over the batches of all of them together.',
      ),
    ...groupKeys,
    ...mixingKeys,
    ...nanWatchKeys,
    ...swaKeys,
    ...stoppingKeys,
    frozen: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Module paths (`layer1`, `layer2.0`) whose parameters stay as they are and whose batch norm uses its running statistics.',
      ),
  })
  .describe('Optimisation.');
