/**
 * The config of a training run: every key with its meaning, range and default. Written in snake_case, as it stands
 * in YAML; `Config` (camelCase, nothing left to fill in except values that need the data or the device to decide)
 * is what the jobs read. docs/config.md and the JSON Schema are made from this.
 */
import { z } from 'zod';
import type { Camel } from './case.js';
import { dataSchema } from './schema_data.js';
import { distSchema } from './schema_dist.js';
import { memorySchema } from './schema_memory.js';
import { trainSchema } from './schema_train.js';
import { auto, metricName, path, positiveInt } from './schema_values.js';

/** Which options there are, and what they take, the architecture says: src/config/check_model.ts. */
const optionValue = z.union([z.boolean(), z.number(), z.string(), z.null(), z.array(z.number())]);

const model = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .default('resnet18')
      .describe('Architecture, by its name in the model zoo (`fornax models` lists them).'),
    options: z
      .record(z.string(), optionValue)
      .default({})
      .describe(
        'Options of the architecture by their names, such as `width` or `dropout`: `fornax models show NAME` and docs/models.md list them.',
      ),
    num_classes: z
      .union([auto, positiveInt])
      .default('auto')
      .describe('Outputs of the classifier. `auto`: as many as the data has classes.'),
    pretrained: path
      .nullable()
      .default(null)
      .describe(
        'Weights to start from: a file (safetensors, .pth, TorchScript), an address with `#sha256=…`, or the name of published weights (`imagenet1k_v1`, `default`; docs/weights.md). A classifier of another size is drawn anew. `null`: all weights are drawn from `train.seed`.',
      ),
    weights_dir: path
      .nullable()
      .default(null)
      .describe(
        'Folder in which the files of published weights are looked for before they are fetched. `null`: `$FORNAX_WEIGHTS`.',
      ),
    pretrained_strict: z
      .boolean()
      .default(true)
      .describe(
        'Whether names and shapes of `pretrained` must match, but for the number of classes; `false`: what fits is loaded, the rest is listed.',
      ),
  })
  .describe('The network.');

const deviceName = z
  .string()
  .regex(/^(auto|cpu|cuda(:\d+)?)$/, { error: 'expected auto, cpu, cuda or cuda:<number>' });
const deviceKeys = z.strictObject({
  train: deviceName.default('auto').describe('Where training runs.'),
  eval: deviceName.default('auto').describe('Where evaluation runs.'),
  export: deviceName
    .default('cpu')
    .describe('Where `fornax export` runs the model to check what it has written.'),
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
      .describe(
        'Write a checkpoint after every so many epochs, and after the last; the best ones are written besides.',
      ),
    every_minutes: z
      .number()
      .gt(0)
      .nullable()
      .default(null)
      .describe('Also write one when so many minutes have passed, in the middle of an epoch.'),
    every_steps: positiveInt
      .nullable()
      .default(null)
      .describe('Also write one after every so many optimizer steps, in the middle of an epoch.'),
    keep: z
      .int()
      .min(2)
      .default(2)
      .describe('How many of the newest checkpoints to keep; the best ones are kept besides.'),
    keep_best: positiveInt.default(1).describe('How many of the best checkpoints, by `monitor`, to keep.'),
    keep_every_epochs: positiveInt
      .nullable()
      .default(null)
      .describe('Write a checkpoint after every so many epochs and keep it for good. `null`: none.'),
    monitor: metricName
      .default('auto')
      .describe(
        'Validation metric that decides which epoch is the best: `top1`, `top5`, `loss`, or a metric of a script. `auto`: `top1`, for data without classes `loss`.',
      ),
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
    data: dataSchema.prefault({}),
    train: trainSchema.prefault({}),
    device,
    memory: memorySchema.prefault({}),
    dist: distSchema.prefault({}),
    eval: evaluation.prefault({}),
    checkpoint: checkpoint.prefault({}),
    run: run.prefault({}),
  })
  .describe('Config of a Fornax training run.');

/** What may be written in YAML. */
export type ConfigFile = z.input<typeof configSchema>;
type Parsed = Camel<z.output<typeof configSchema>>;

/** A checked config with every default filled in. `auto` is left only where data or device decide. */
export type Config = Omit<Parsed, 'name' | 'data' | 'train' | 'memory' | 'checkpoint'> & {
  name: string;
  data: Omit<Parsed['data'], 'resolution'> & {
    /** `[height, width]`, or `auto`: the model's own. */
    resolution: 'auto' | [number, number];
  };
  /** Of a batch size that is `auto`, and a rate that goes by it, the run decides: src/train/batch_size.ts. */
  train: Parsed['train'];
  memory: Omit<Parsed['memory'], 'budget'> & {
    /** Bytes; null: no budget. */
    budget: number | null;
  };
  checkpoint: Omit<Parsed['checkpoint'], 'mode'> & { mode: 'min' | 'max' };
};

/** The section `train` where nothing is left to decide. */
export type FixedTrain = Omit<Config['train'], 'batchSize' | 'lr'> & { batchSize: number; lr: number };

/** The same in camelCase, for scripts: `train({ data: { path }, train: { batchSize: 32 } })`. */
export type ConfigInput = Camel<ConfigFile>;
