/** From the configuration to the options of the native training session. */
import type { Config } from '../config/schema.js';
import { toSnake } from '../config/case.js';
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { normalizeOf } from '../model/info.js';
import type { Model } from '../model.js';
import type {
  Modes,
  Normalize,
  OptimizerOptions,
  ParameterGroup,
  ScheduleOptions,
  TrainOptions,
} from '../native/contract.js';
import { nearest } from '../nearest.js';
import type { Amp } from './devices.js';

type TrainConfig = Config['train'];

/** A prefix is a whole path: `layer1` covers `layer1.0.conv1`, not `layer10`. */
export function isUnder(name: string, prefix: string): boolean {
  return name === prefix || name.startsWith(prefix + '.');
}

/**
 * Parameters that are trained, in groups of equal weight decay. Frozen ones are in none.
 *
 * @throws ConfigError if `frozen` names something the model does not have, or leaves nothing to train.
 */
export function parameterGroups(
  graph: Graph,
  train: Pick<TrainConfig, 'frozen' | 'weightDecay' | 'decayNormAndBias'>,
): ParameterGroup[] {
  const parameters = graph.parameters.filter(({ kind }) => kind === 'parameter');
  for (const prefix of train.frozen) {
    if (graph.parameters.some(({ name }) => isUnder(name, prefix))) continue;
    const paths = new Set<string>();
    for (const { name } of graph.parameters) {
      const parts = name.split('.');
      for (let i = 1; i <= parts.length; i++) paths.add(parts.slice(0, i).join('.'));
    }
    const near = nearest(prefix, paths);
    throw new ConfigError({
      what: `the model has no module or parameter '${prefix}'`,
      where: 'train.frozen',
      fix: near ? `did you mean '${near}'?` : 'see `model.summary()` for the paths',
    });
  }
  const trained = parameters.filter(({ name }) => !train.frozen.some((prefix) => isUnder(name, prefix)));
  if (trained.length === 0)
    throw new ConfigError({ what: 'no parameter is left to train', where: 'train.frozen' });
  const group = (members: typeof trained, weightDecay: number): ParameterGroup[] =>
    members.length === 0 ? [] : [{ parameters: members.map(({ name }) => name), weight_decay: weightDecay }];
  if (train.decayNormAndBias) return group(trained, train.weightDecay);
  return [
    ...group(
      trained.filter(({ shape }) => shape.length > 1),
      train.weightDecay,
    ),
    ...group(
      trained.filter(({ shape }) => shape.length <= 1),
      0,
    ),
  ];
}

/** Training modes; batch norm under a frozen prefix uses its running statistics. */
export function trainModes(frozen: readonly string[]): Modes {
  return {
    dropout: 'train',
    batch_norm: 'train',
    stochastic_depth: 'train',
    overrides: frozen.map((prefix) => ({ prefix, kind: 'batch_norm', mode: 'eval' })),
  };
}

/** The settings have the native names but for their case. */
export function optimizerOptions(optimizer: TrainConfig['optimizer']): OptimizerOptions {
  if ('nesterov' in optimizer && optimizer.momentum === 0) optimizer = { ...optimizer, nesterov: false };
  return toSnake(optimizer) as OptimizerOptions;
}

/** @param stepsPerEpoch optimizer steps */
export function scheduleOptions(
  train: Pick<TrainConfig, 'schedule' | 'lr' | 'epochs'>,
  stepsPerEpoch: number,
): ScheduleOptions {
  const { schedule, lr } = train;
  const total = train.epochs * stepsPerEpoch;
  const warmup = schedule.warmupSteps ?? Math.round(schedule.warmupEpochs * stepsPerEpoch);
  if (warmup >= total && warmup > 0) {
    throw new ConfigError({
      what: `the warm-up of ${warmup} steps is as long as the whole training (${total} steps)`,
      where: 'train.schedule',
      fix: 'shorten warmup_epochs or warmup_steps, or train longer',
    });
  }
  const { warmupEpochs: _epochs, warmupSteps: _steps, ...course } = schedule;
  const interval = 'per' in course && course.per === 'epoch' ? stepsPerEpoch : 1;
  const common = { warmup_steps: warmup, interval };
  switch (course.name) {
    case 'one_cycle':
      return { ...(toSnake(course) as Settings<'one_cycle'>), max_lr: lr, total_steps: total, ...common };
    case 'cosine':
    case 'polynomial': {
      const { per: _, ...settings } = course;
      return { ...(toSnake(settings) as Settings<'cosine'>), lr, total_steps: total, ...common };
    }
    case 'reduce_on_plateau': {
      const { metric, ...settings } = course;
      const mode = metric === 'loss' ? 'min' : 'max';
      return { ...(toSnake(settings) as Settings<'reduce_on_plateau'>), lr, mode, ...common };
    }
    case 'cosine_restarts': {
      const { name, period, periodFactor, minLr } = course;
      return { name, lr, min_lr: minLr, t_0: period, t_mult: periodFactor, ...common };
    }
    case 'constant':
      return { name: 'constant', lr, ...common };
    default: {
      const { per: _, ...settings } = course;
      return { ...(toSnake(settings) as Settings<'step'>), lr, ...common };
    }
  }
}

type Settings<Name extends ScheduleOptions['name']> = Extract<ScheduleOptions, { name: Name }>;

function teacherOptions(teacher: Model): NonNullable<TrainOptions['teacher']> {
  const normalize = normalizeOf(teacher.info.preprocessing);
  return { graph: teacher.native, ...(normalize ? { normalize } : {}) };
}

export function trainOptions(
  graph: Graph,
  train: TrainConfig,
  context: {
    device: string;
    amp: Amp;
    loss: Graph;
    stepsPerEpoch: number;
    normalize: Normalize | null;
    teacher?: Model | null | undefined;
  },
): TrainOptions {
  return {
    device: context.device,
    loss: context.loss,
    optimizer: optimizerOptions(train.optimizer),
    groups: parameterGroups(graph, train),
    schedule: scheduleOptions(train, context.stepsPerEpoch),
    amp: context.amp,
    channels_last: train.channelsLast === 'auto' ? true : train.channelsLast,
    cudnn_benchmark: train.cudnnBenchmark,
    tf32: train.tf32,
    flush_denormal: train.flushDenormal,
    ...(train.threads === 'auto' ? {} : { threads: train.threads }),
    seed: train.seed,
    modes: trainModes(train.frozen),
    ...(context.normalize ? { normalize: context.normalize } : {}),
    grad_accum: train.gradAccum,
    ...(train.clipNorm === null ? {} : { clip_norm: train.clipNorm }),
    ...(train.ema ? { ema: train.ema } : {}),
    ...(context.teacher ? { teacher: teacherOptions(context.teacher) } : {}),
  };
}
