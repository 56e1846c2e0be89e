/**
 * The config of a training run: every key with its meaning, range and default. Written in snake_case, as it stands
 * in YAML; `Config` (camelCase, nothing left to fill in except values that need the data or the device to decide)
 * is what the jobs read. docs/config.md and the JSON Schema are made from this file.
 */
import { z } from 'zod';
import type { Camel } from './case.js';

const auto = z.literal('auto');
const positiveInt = z.int().min(1);
const share = z.number().min(0).max(1);
const path = z.string().min(1);

const model = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .default('resnet18')
      .describe('Architecture, by its name in the model zoo (`fornax models` lists them).'),
    num_classes: z
      .union([auto, positiveInt])
      .default('auto')
      .describe('Outputs of the classifier. `auto`: as many as the data has classes.'),
    pretrained: path
      .nullable()
      .default(null)
      .describe(
        'Weights to start from: a model file or any safetensors file with the same names. A classifier of another size is drawn anew. `null`: all weights are drawn from `train.seed`.',
      ),
  })
  .describe('The network.');

const augment = z
  .strictObject({
    crop: z
      .enum(['auto', 'random_resized_crop', 'random_crop', 'resize_crop', 'none'])
      .default('auto')
      .describe(
        'How a training image comes to its size. `random_resized_crop`: a random part, scaled; `random_crop`: zero padding, then a random window of the input size (CIFAR; of larger images it shows a part); `resize_crop`: scaled, then the centre; `none`: images have the size already. `auto`: `random_crop` where all images have the input size and that is at most 64 pixels, else `random_resized_crop`.',
      ),
    scale: z
      .tuple([z.number().gt(0).max(1), z.number().gt(0).max(1)])
      .default([0.08, 1])
      .describe('`random_resized_crop`: smallest and largest share of the area.'),
    ratio: z
      .tuple([z.number().gt(0), z.number().gt(0)])
      .default([0.75, 1.3333])
      .describe('`random_resized_crop`: smallest and largest width / height.'),
    padding: z.int().min(0).max(512).default(4).describe('`random_crop`: pixels of padding on every side.'),
    hflip: share.default(0.5).describe('Probability of a horizontal flip.'),
  })
  .describe('Random changes to training images, made by the loader. Evaluation never uses them.');

const statistics = z.strictObject({
  mean: z.array(z.number()).min(1).max(3).describe('Per channel, for pixels scaled to 0…1.'),
  std: z.array(z.number().gt(0)).min(1).max(3).describe('Per channel, for pixels scaled to 0…1.'),
});

const data = z
  .strictObject({
    source: z
      .enum(['auto', 'folder', 'idx', 'shapes'])
      .default('auto')
      .describe(
        'Kind of data. `folder`: `<class>/<image>` folders; `idx`: the four files of MNIST or Fashion-MNIST, gzip or not; `shapes`: the generated sample set. `auto`: seen from what lies at `path`.',
      ),
    path: path
      .nullable()
      .default(null)
      .describe(
        'Folder of the data, relative to the working directory. May be left out for `idx` (where Debian’s package dataset-fashion-mnist puts it) and `shapes` (in the cache).',
      ),
    train: path
      .default('train')
      .describe(
        'Folder of the training images inside `path`. Where it does not exist, `path` itself holds the classes.',
      ),
    val: path
      .nullable()
      .default('auto')
      .describe(
        'Folder of the validation images inside `path`. `auto`: `val`, `valid`, `validation` or `test` if there is one, else a share of the training images. `null`: always a share.',
      ),
    val_fraction: z
      .number()
      .min(0)
      .lt(1)
      .default(0.1)
      .describe('Share of the training images held out, per class, where there is no validation folder.'),
    resolution: z
      .union([auto, z.int().min(8).max(4096), z.tuple([z.int().min(8).max(4096), z.int().min(8).max(4096)])])
      .default('auto')
      .describe(
        'Input size in pixels: one number, or `[height, width]`. `auto`: the size the model was made for.',
      ),
    channels: z
      .union([auto, z.literal(1), z.literal(3)])
      .default('auto')
      .describe('1: grayscale, 3: RGB. `auto`: 1 for `idx`, else 3.'),
    pack: z
      .enum(['auto', 'resized', 'original'])
      .default('auto')
      .describe(
        'How decoded images are kept in the pack: scaled down to twice the resolution, or at full size. `auto`: full size where the images are small and fit in 4 GiB, else scaled down.',
      ),
    on_broken: z
      .enum(['skip', 'fail'])
      .default('skip')
      .describe('Images that cannot be decoded: listed and left out, or an error.'),
    normalize: z
      .union([z.enum(['auto', 'imagenet', 'cifar10', 'fashion_mnist', 'half', 'none']), statistics])
      .default('auto')
      .describe(
        'Mean and standard deviation taken off the pixels, by name or as numbers (`half`: 0.5 and 0.5). `auto`: those of `model.pretrained` if it has any, else `imagenet` for colour and `half` for grayscale.',
      ),
    workers: z
      .union([auto, z.int().min(1).max(256)])
      .default('auto')
      .describe('Threads that assemble batches. They never change what is delivered.'),
    cache: path
      .nullable()
      .default(null)
      .describe('Folder for packs. `null`: `$FORNAX_CACHE`, else `~/.cache/fornax`.'),
    limit: positiveInt
      .nullable()
      .default(null)
      .describe('At most this many training images, chosen by `train.seed` (for a quick trial).'),
    augment: augment.prefault({}),
  })
  .describe('Where the images come from and how they are prepared.');

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

const train = z
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
    label_smoothing: z.number().min(0).lt(1).default(0).describe('Label smoothing of the cross entropy.'),
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
    frozen: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Module paths (`layer1`, `layer2.0`) whose parameters stay as they are and whose batch norm uses its running statistics.',
      ),
  })
  .describe('Optimisation.');

const deviceName = z
  .string()
  .regex(/^(auto|cpu|cuda(:\d+)?)$/, { error: 'expected auto, cpu, cuda or cuda:<number>' });
const deviceKeys = z.strictObject({
  train: deviceName.default('auto').describe('Where training runs.'),
  eval: deviceName.default('auto').describe('Where evaluation runs.'),
  export: deviceName.default('cpu').describe('Where exported models are checked.'),
});
const device = z
  .union([deviceName.transform((name) => ({ train: name, eval: name, export: name })), deviceKeys])
  .prefault({})
  .describe(
    'Device of each phase: `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:1`; one name for all, or a map.',
  );

const evaluation = z
  .strictObject({
    batch_size: z.int().min(1).max(65_536).default(128).describe('Images in a batch.'),
    every_epochs: positiveInt.default(1).describe('Evaluate after every so many epochs, and after the last.'),
  })
  .describe('Evaluation while training.');

const checkpoint = z
  .strictObject({
    every_epochs: positiveInt
      .default(1)
      .describe('Write a checkpoint after every so many epochs, and after the last.'),
    every_minutes: z
      .number()
      .gt(0)
      .nullable()
      .default(null)
      .describe('Also write one when so many minutes have passed, in the middle of an epoch.'),
    keep: positiveInt
      .default(2)
      .describe('How many of the newest checkpoints to keep; the best one is kept besides.'),
    monitor: z
      .enum(['top1', 'top5', 'loss'])
      .default('top1')
      .describe('Validation metric that decides which epoch is the best.'),
    mode: z
      .enum(['auto', 'min', 'max'])
      .default('auto')
      .describe('Whether less or more of it is better. `auto`: `min` for `loss`, else `max`.'),
  })
  .describe('What a run can be resumed from.');

const run = z
  .strictObject({
    dir: path.default('runs').describe('Folder of all runs.'),
    existing: z
      .enum(['skip', 'fail'])
      .default('skip')
      .describe(
        'When the run already has its model: leave it (and say so), or stop with an error. `--force` trains anew.',
      ),
  })
  .describe('Where results go.');

export const configSchema = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, { error: 'expected letters, digits, ".", "_" and "-"' })
      .max(100)
      .nullable()
      .default(null)
      .describe('Name of the run and of its folder in `run.dir`. `null`: `<model>-<data folder>`.'),
    model: model.prefault({}),
    data: data.prefault({}),
    train: train.prefault({}),
    device,
    eval: evaluation.prefault({}),
    checkpoint: checkpoint.prefault({}),
    run: run.prefault({}),
  })
  .describe('Config of a Fornax training run.');

/** What may be written in YAML. */
export type ConfigFile = z.input<typeof configSchema>;
type Parsed = Camel<z.output<typeof configSchema>>;

/** A checked config with every default filled in. `auto` is left only where data or device decide. */
export type Config = Omit<Parsed, 'name' | 'data' | 'train' | 'checkpoint'> & {
  name: string;
  data: Omit<Parsed['data'], 'resolution'> & {
    /** `[height, width]`, or `auto`: the model's own. */
    resolution: 'auto' | [number, number];
  };
  train: Omit<Parsed['train'], 'lr'> & { lr: number };
  checkpoint: Omit<Parsed['checkpoint'], 'mode'> & { mode: 'min' | 'max' };
};

/** The same in camelCase, for scripts: `train({ data: { path }, train: { batchSize: 32 } })`. */
export type ConfigInput = Camel<ConfigFile>;
export type OptimizerConfig = Config['train']['optimizer'];
export type ScheduleConfig = Config['train']['schedule'];
