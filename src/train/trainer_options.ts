/** What a Trainer is told, and what a training takes of it. */
import { defineConfig } from '../config/load.js';
import type { ConfigInput } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import type { Model } from '../model.js';
import { checkCallbacks, type Callbacks } from './callbacks.js';
import { PACK_FIELDS, type TrainData } from './data.js';
import { checkOptions, requireOption } from './option_keys.js';
import { traceMetrics, type Metric } from './script_metrics.js';
import { checkReads, traceFunction, type Readable, type TracedFunction } from './traced.js';
import { trainLoss, type TargetField } from './train_loss.js';
import type { FitOptions } from './trainer.js';
import type { RunConfig } from './training_run_types.js';

/** The sections of a configuration that a training has, in camelCase, and what they act on. */
export interface TrainerOptions extends Pick<
  ConfigInput,
  'train' | 'device' | 'memory' | 'eval' | 'checkpoint'
> {
  /** Trained in place. */
  model: Model;
  /** From `prepareData` (images) or `memoryData` (arrays). */
  data: TrainData;
  /**
   * Over the model's outputs and the batch's fields: a function that is traced, or a graph (`traceLoss`). Or what
   * `train.loss` takes: a name, settings, or a list of them. Default: `train.loss`.
   */
  loss?: Graph | TracedFunction | NonNullable<ConfigInput['train']>['loss'];
  /**
   * Figures of the evaluation besides loss and accuracy: functions that are traced, or graphs, over the model's
   * outputs and the batch's fields. Each gives a number for a batch or one for each sample, and is averaged over the
   * samples. `checkpoint.monitor` and `train.earlyStopping.monitor` may name them.
   */
  metrics?: Readonly<Record<string, Metric>>;
  /** Called between steps, in this order. */
  callbacks?: Callbacks | readonly Callbacks[];
  /**
   * A model whose logits the loss compares with, as the batch's field `teacher`: for `{ name: 'distillation' }` in
   * `train.loss`, or a loss of your own. It stays as it is.
   */
  teacher?: Model;
  /**
   * Folder for checkpoints and the event log (`events.jsonl`). Without it there are none, and the last weights are
   * kept instead of the best.
   */
  folder?: string;
}

/** Every option, so that a mistyped one is found. */
const KEYS = {
  model: true,
  data: true,
  loss: true,
  metrics: true,
  callbacks: true,
  teacher: true,
  folder: true,
  train: true,
  device: true,
  memory: true,
  eval: true,
  checkpoint: true,
} satisfies Record<keyof TrainerOptions, true>;

function isGraph(value: object): value is Graph {
  return 'nodes' in value && 'inputs' in value && 'outputs' in value;
}

/** @throws ConfigError for an option that there is not, and where one that is needed is not there. */
function checkTrainerOptions(options: TrainerOptions): void {
  const several = Object.keys(options ?? {}).find((key) => /^(nproc|processes|world_?size)$/i.test(key));
  if (several !== undefined) {
    throw new ConfigError({
      what: 'a Trainer trains in the process of its script',
      where: several,
      fix: 'several processes are started by `fornax train --nproc N` or torchrun, and trained with trainJob()',
    });
  }
  checkOptions(options, Object.keys(KEYS), 'a Trainer');
  const { model, data, loss, metrics, teacher, folder } = options as Partial<
    Record<keyof TrainerOptions, unknown>
  >;
  requireOption(isObject(model) && 'graph' in model, 'model', 'a Model');
  requireOption(isObject(data) && 'loaderOptions' in data, 'data', 'what prepareData or memoryData gives');
  requireOption(loss !== null, 'loss', 'a function, a graph, or what train.loss takes');
  requireOption(metrics === undefined || isObject(metrics), 'metrics', 'an object of functions or graphs');
  requireOption(teacher === undefined || (isObject(teacher) && 'graph' in teacher), 'teacher', 'a Model');
  requireOption(folder === undefined || typeof folder === 'string', 'folder', 'a path');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** @throws ConfigError for an option of `fit` that there is not, or that is something else. */
export function checkFitOptions(options: FitOptions): void {
  checkOptions(options, ['signal', 'resume', 'resumeFrom'], 'fit');
  const { signal, resume, resumeFrom } = options as Partial<Record<keyof FitOptions, unknown>>;
  requireOption(signal === undefined || signal instanceof AbortSignal, 'signal', 'an AbortSignal');
  requireOption(
    [undefined, true, false, 'auto'].includes(resume as boolean),
    'resume',
    "true, false or 'auto'",
  );
  requireOption(
    resumeFrom === undefined || typeof resumeFrom === 'string',
    'resumeFrom',
    'the path of a checkpoint',
  );
}

/** The options of a Trainer, checked. */
export class TrainerPlan {
  readonly config: RunConfig;
  readonly callbacks: readonly Callbacks[];
  /** Null: `train.loss` says it. */
  private readonly ownLoss: Graph | TracedFunction | null;

  /** @throws ConfigError listing every setting that is not valid. */
  constructor(readonly options: TrainerOptions) {
    checkTrainerOptions(options);
    const { device, memory, eval: evaluation, checkpoint, loss, metrics = {}, callbacks = [] } = options;
    let { train } = options;
    const own = typeof loss === 'function' || (typeof loss === 'object' && isGraph(loss)) ? loss : null;
    if (loss !== undefined && own === null) {
      if (train?.loss !== undefined) {
        throw new ConfigError({
          what: 'the loss is given twice',
          where: 'loss',
          fix: 'leave train.loss out',
        });
      }
      train = { ...train, loss: loss as NonNullable<ConfigInput['train']>['loss'] };
    }
    // The data is given as an object; its section is only there because a configuration has one.
    const config = defineConfig(
      { train, device, memory, eval: evaluation, checkpoint, data: { source: 'shapes' } },
      { metrics: Object.keys(metrics), classes: options.data.classes.length > 0 },
    );
    this.config = {
      train: config.train,
      device: config.device,
      memory: config.memory,
      eval: config.eval,
      checkpoint: config.checkpoint,
    };
    this.ownLoss = own;
    this.callbacks = Array.isArray(callbacks)
      ? (callbacks as readonly Callbacks[])
      : [callbacks as Callbacks];
    checkCallbacks(this.callbacks);
  }

  /** Whether the teacher that `train.loss` names has to be opened. */
  get namesTeacher(): boolean {
    return this.ownLoss === null && this.options.teacher === undefined;
  }

  private readable(teacher: Model | null): Readable {
    const { model, data } = this.options;
    const asked = teacher?.graph.outputs.map(({ name }) => `teacher.${name}`) ?? [];
    return {
      outputs: model.graph.outputs.map(({ name }) => name),
      fields: [...(data.fields ?? PACK_FIELDS), ...(teacher ? ['teacher', ...asked] : [])],
    };
  }

  /** @throws ConfigError if it reads what is not there. */
  lossGraph(teacher: Model | null): Graph {
    const { model, data } = this.options;
    const readable = this.readable(teacher);
    const own = this.ownLoss;
    if (typeof own === 'function') return traceFunction(own, readable, { output: 'loss', where: 'loss' });
    if (own !== null) {
      checkReads(own, readable, 'loss');
      return own;
    }
    const targets: TargetField[] = ['label', 'mask', 'target', 'teacher'];
    const fields = targets.filter((name) => readable.fields.includes(name));
    if (fields.length === 0) {
      throw new ConfigError({
        what: `train.loss compares with a field label, mask or target, and the data have ${readable.fields.join(', ')}`,
        where: 'loss',
        fix: 'give the Trainer a `loss` of your own: ({ output, … }) => …',
      });
    }
    return trainLoss(model.graph, this.config.train, { fields, classes: data.classes.length });
  }

  /** @throws ConfigError if one reads what is not there. */
  metricGraphs(): Record<string, Graph> {
    return traceMetrics(this.options.metrics ?? {}, this.readable(null));
  }
}
