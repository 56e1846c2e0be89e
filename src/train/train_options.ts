/** From the configuration to the options of the native training session. */
import { fixedTrain } from '../config/fixed_train.js';
import type { Config, FixedTrain } from '../config/schema.js';
import { toSnake } from '../config/case.js';
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { normalizeOf } from '../model/info.js';
import type { Model } from '../model.js';
import type { Normalize, OptimizerOptions, ScheduleOptions, TrainOptions } from '../native/contract.js';
import { processOptions } from './deterministic.js';
import type { Amp } from './devices.js';
import { frozenPaths, parameterGroups, trainModes } from './parameter_groups.js';
import { swaRate, swaSteps } from './swa.js';

type TrainConfig = FixedTrain;

/** The rate stays: nothing of the schedule matters. */
export const CONSTANT_SCHEDULE = { name: 'constant', warmupEpochs: 0, warmupSteps: null } as const;

/** The settings have the native names but for their case. */
export function optimizerOptions(optimizer: TrainConfig['optimizer']): OptimizerOptions {
  if ('nesterov' in optimizer && optimizer.momentum === 0) optimizer = { ...optimizer, nesterov: false };
  return toSnake(optimizer) as OptimizerOptions;
}

/** @param stepsPerEpoch optimizer steps */
export function scheduleOptions(
  train: Pick<TrainConfig, 'schedule' | 'lr' | 'epochs'> & Partial<Pick<TrainConfig, 'swa'>>,
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
  // Of a rate that goes by the batch (`auto`) the config's own rules do not know yet.
  if ('minLr' in schedule && schedule.minLr > lr) {
    throw new ConfigError({
      what: `expected at most the learning rate (${lr}), got ${schedule.minLr}`,
      where: 'train.schedule.min_lr',
      fix: 'lower it, or raise train.lr',
    });
  }
  const { warmupEpochs: _epochs, warmupSteps: _steps, ...course } = schedule;
  const interval = 'per' in course && course.per === 'epoch' ? stepsPerEpoch : 1;
  const swa = swaRate({ swa: null, ...train }, stepsPerEpoch);
  const common = { warmup_steps: warmup, interval, ...(swa && { swa }) };
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
  settings: Config['train'],
  context: {
    device: string;
    amp: Amp;
    loss: Graph;
    stepsPerEpoch: number;
    normalize: Normalize | null;
    teacher?: Model | null | undefined;
  },
): TrainOptions {
  const train = fixedTrain(settings);
  const swa = swaSteps(train, context.stepsPerEpoch);
  return {
    device: context.device,
    loss: context.loss,
    optimizer: optimizerOptions(train.optimizer),
    groups: parameterGroups(graph, train),
    schedule: scheduleOptions(train, context.stepsPerEpoch),
    amp: context.amp,
    channels_last: train.channelsLast === 'auto' ? true : train.channelsLast,
    ...processOptions(train, context.device),
    tf32: train.tf32,
    flush_denormal: train.flushDenormal,
    ...(train.threads === 'auto' ? {} : { threads: train.threads }),
    seed: train.seed,
    modes: trainModes(frozenPaths(graph, train)),
    ...(context.normalize ? { normalize: context.normalize } : {}),
    grad_accum: train.gradAccum,
    ...(train.clipNorm === null ? {} : { clip_norm: train.clipNorm }),
    ...(train.clipValue === null ? {} : { clip_value: train.clipValue }),
    ...(train.ema ? { ema: train.ema } : {}),
    ...(swa ? { swa } : {}),
    ...(context.teacher ? { teacher: teacherOptions(context.teacher) } : {}),
  };
}
