/** The `settings` of a golden training run as options of a native session. What is not named is torch's default. */
import { crossEntropy } from '#fornax/losses/index.js';
import type {
  NativeGraph,
  OptimizerOptions,
  ParameterGroup,
  ScheduleOptions,
  TrainOptions,
} from '#fornax/native/contract.js';
import type { Fields } from './fields.js';
import { Unsupported } from './kind.js';

/** Weight decay where none is given, by torch.optim and timm. */
const defaultDecay: Record<string, number> = { adamw: 0.01, lamb: 0.01 };

type Reader = (fields: Fields, key: string) => unknown;

const number: Reader = (fields, key) => fields.number(key);
const boolean: Reader = (fields, key) => fields.boolean(key, false);
const numberOrNull: Reader = (fields, key) => (fields.raw(key) === null ? null : fields.number(key));
const betas: Reader = (fields, key) => {
  const values = fields.numbers(key);
  if (values.length !== 2) throw fields.wrong(key, 'two numbers');
  return values;
};

/** The settings of each optimizer, by the names that torch and timm share with the native core. */
const optimizerSettings: Record<OptimizerOptions['name'], Record<string, Reader>> = {
  sgd: { momentum: number, dampening: number, nesterov: boolean },
  adam: { betas, eps: number, amsgrad: boolean },
  adamw: { betas, eps: number, amsgrad: boolean },
  rmsprop: { alpha: number, eps: number, momentum: number, centered: boolean },
  adagrad: { lr_decay: number, initial_accumulator_value: number, eps: number },
  radam: { betas, eps: number, decoupled_weight_decay: boolean },
  nadam: { betas, eps: number, momentum_decay: number, decoupled_weight_decay: boolean },
  lion: { betas },
  lamb: {
    betas,
    eps: number,
    max_grad_norm: numberOrNull,
    bias_correction: boolean,
    grad_averaging: boolean,
    trust_clip: boolean,
    always_adapt: boolean,
    decoupled_decay: boolean,
  },
  lars: {
    momentum: number,
    nesterov: boolean,
    trust_coeff: number,
    eps: number,
    trust_clip: boolean,
    always_adapt: boolean,
  },
};

/** What some optimizer has. */
const OTHERS = new Set(Object.values(optimizerSettings).flatMap((settings) => Object.keys(settings)));

function optimizerOptions(fields: Fields, name: string): OptimizerOptions {
  if (!Object.hasOwn(optimizerSettings, name)) throw new Unsupported(`there is no optimizer '${name}' yet`);
  const options: Record<string, unknown> = { name };
  const known = optimizerSettings[name as OptimizerOptions['name']];
  const foreign = fields.keys().find((key) => !Object.hasOwn(known, key) && OTHERS.has(key));
  if (foreign !== undefined) throw new Unsupported(`${name} has no '${foreign}'`);
  for (const [key, read] of Object.entries(known)) {
    if (fields.has(key)) options[key] = read(fields, key);
  }
  return options as OptimizerOptions;
}

/** A schedule by torch's names of its settings; `lr` is the optimizer's rate. */
export function scheduleOptions(fields: Fields, lr: number): ScheduleOptions {
  const name = fields.text('name');
  const warmed = /^linear_warmup_(\w+)$/.exec(name);
  if (!warmed) return courseOptions(fields, name, lr, 0);
  const warmup = fields.integer('warmup_steps');
  return {
    ...courseOptions(fields, warmed[1]!, lr, warmup),
    warmup_steps: warmup,
    warmup_start: fields.number('start_factor'),
  };
}

/** @param before steps of warm-up, which the native `total_steps` include */
function courseOptions(fields: Fields, name: string, lr: number, before: number): ScheduleOptions {
  const minLr = (): number => fields.number('eta_min', 0);
  switch (name) {
    case 'constant':
      return { name, lr };
    case 'step':
      return { name, lr, step_size: fields.integer('step_size', 1), gamma: fields.number('gamma', 0.1) };
    case 'multistep':
      return { name, lr, milestones: fields.numbers('milestones'), gamma: fields.number('gamma', 0.1) };
    case 'exponential':
      return { name, lr, gamma: fields.number('gamma') };
    case 'polynomial':
      return {
        name,
        lr,
        total_steps: before + (fields.has('total_iters') ? fields.integer('total_iters', 1) : 5),
        power: fields.number('power', 1),
      };
    case 'cosine': {
      const period = fields.has('t_max') ? 't_max' : 'T_max';
      return { name, lr, total_steps: before + fields.integer(period, 1), min_lr: minLr() };
    }
    case 'cosine_restarts':
      return {
        name,
        lr,
        t_0: fields.integer('T_0', 1),
        t_mult: fields.has('T_mult') ? fields.integer('T_mult', 1) : 1,
        min_lr: minLr(),
      };
    case 'one_cycle':
      return oneCycle(fields, before);
    case 'reduce_on_plateau':
      return plateau(fields, lr);
    default:
      throw new Unsupported(`there is no schedule '${name}' yet`);
  }
}

function oneCycle(fields: Fields, before: number): ScheduleOptions {
  return {
    name: 'one_cycle',
    max_lr: fields.number('max_lr'),
    total_steps: before + fields.integer('total_steps', 1),
    pct_start: fields.number('pct_start', 0.3),
    div_factor: fields.number('div_factor', 25),
    final_div_factor: fields.number('final_div_factor', 1e4),
    anneal: choice(fields, 'anneal_strategy', ['cos', 'linear']),
    three_phase: fields.boolean('three_phase', false),
    cycle_momentum: fields.boolean('cycle_momentum', true),
    base_momentum: fields.number('base_momentum', 0.85),
    max_momentum: fields.number('max_momentum', 0.95),
  };
}

function plateau(fields: Fields, lr: number): ScheduleOptions {
  return {
    name: 'reduce_on_plateau',
    lr,
    mode: choice(fields, 'mode', ['min', 'max']),
    factor: fields.number('factor', 0.1),
    patience: fields.number('patience', 10),
    threshold: fields.number('threshold', 1e-4),
    threshold_mode: choice(fields, 'threshold_mode', ['rel', 'abs']),
    cooldown: fields.number('cooldown', 0),
    min_lr: fields.number('min_lr', 0),
    eps: fields.number('eps', 1e-8),
  };
}

/** One of the values; the first where the file has none. */
function choice<const T extends string>(fields: Fields, key: string, values: readonly [T, ...T[]]): T {
  if (!fields.has(key)) return values[0];
  const found = values.find((value) => value === fields.text(key));
  if (found === undefined) throw fields.wrong(key, values.join(' or '));
  return found;
}

/** Every parameter in one group; with `no_decay`, those of one dimension in another without weight decay. */
function parameterGroups(model: NativeGraph, decay: number, noDecay: boolean): ParameterGroup[] {
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const exempt = parameters.filter(({ tensor }) => noDecay && tensor.shape.length === 1);
  const groups = [
    { parameters: parameters.filter((p) => !exempt.includes(p)).map((p) => p.name), weight_decay: decay },
    { parameters: exempt.map((p) => p.name), weight_decay: 0 },
  ];
  return groups.filter((group) => group.parameters.length > 0);
}

function emaOptions(fields: Fields): NonNullable<TrainOptions['ema']> {
  return { decay: fields.number('decay'), warmup: fields.boolean('warmup', false) };
}

export interface RunSettings {
  options: TrainOptions;
  /** Samples of a micro-batch, where the file says so. */
  batchSize: number | null;
  accumulate: number;
}

/** @throws Unsupported for what the native session cannot do, MalformedGolden for what makes no sense */
export function runSettings(settings: Fields, model: NativeGraph): RunSettings {
  const optimizer = settings.child('optimizer');
  const name = optimizer.text('name');
  const native = optimizerOptions(optimizer, name);
  const lr = optimizer.number('lr');
  const decay = optimizer.number('weight_decay', defaultDecay[name] ?? 0);
  const accumulate = settings.has('accumulate') ? settings.integer('accumulate', 1) : 1;
  let schedule: ScheduleOptions = { name: 'constant', lr };
  if (settings.has('schedule')) {
    schedule = scheduleOptions(settings.child('schedule'), lr);
  }
  return {
    options: {
      device: 'cpu',
      loss: crossEntropy({ labelSmoothing: settings.number('label_smoothing', 0) }),
      optimizer: native,
      groups: parameterGroups(model, decay, settings.boolean('no_decay', false)),
      schedule,
      grad_accum: accumulate,
      ...(settings.has('ema') ? { ema: emaOptions(settings.child('ema')) } : {}),
      ...(settings.has('clip_norm') ? { clip_norm: settings.number('clip_norm') } : {}),
      ...(settings.has('clip_value') ? { clip_value: settings.number('clip_value') } : {}),
    },
    batchSize: settings.has('batch_size') ? settings.integer('batch_size', 1) : null,
    accumulate,
  };
}
