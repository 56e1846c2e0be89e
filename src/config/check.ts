/** Rules between keys, which no single key can state. */
import type { z } from 'zod';
import { checkAverages } from './check_averages.js';
import { checkGroups } from './check_groups.js';
import { checkMetrics } from './check_metrics.js';
import { checkMixing } from './check_mixing.js';
import { checkModel } from './check_model.js';
import { checkDeterministic } from './check_deterministic.js';
import { checkPrecision } from './check_precision.js';
import { checkSchedule } from './check_schedule.js';
import { locate, showPath, type Located, type Path } from './located.js';
import type { Problem } from './problems.js';
import type { configSchema } from './schema.js';

type Parsed = z.output<typeof configSchema>;

/** @param metrics names of figures that a script adds to the evaluation. */
export function checkRules(config: Parsed, root: Located, metrics: readonly string[] = []): Problem[] {
  const problems: Problem[] = [];
  const refuse: Refuse = (path, message, hint, part = 'value') => {
    const where = locate(root, path, part);
    problems.push({ where, key: showPath(path), message, ...(hint ? { hint } : {}) });
  };
  checkModel(config.model, refuse);
  checkData(config, refuse);
  checkTrain(config, refuse);
  checkSchedule(config, refuse);
  checkAverages(config, refuse);
  checkMixing(config, refuse);
  checkGroups(config, refuse);
  checkMetrics(config, metrics, refuse);
  checkDeterministic(config, refuse);
  checkPrecision(config, refuse);
  return problems;
}

/** Notes a problem at the value, or at the key, of a path. */
export type Refuse = (path: Path, message: string, hint?: string, part?: 'key' | 'value') => void;

function checkData({ data }: Parsed, refuse: Refuse): void {
  if (data.path === null && (data.source === 'folder' || data.source === 'auto')) {
    refuse(
      ['data', 'path'],
      'missing; expected the folder of the images',
      'name it here, or give --data DIR on the command line',
    );
  }
  if (data.val !== null && data.val !== 'auto' && data.val === data.train) {
    refuse(['data', 'val'], `the training images ("${data.train}") cannot be the validation images too`);
  }
  for (const key of ['scale', 'ratio'] as const) {
    const [low, high] = data.augment[key];
    if (low > high) refuse(['data', 'augment', key], `expected [smallest, largest], got [${low}, ${high}]`);
  }
  if (typeof data.normalize === 'object') {
    const { mean, std } = data.normalize;
    const channels = data.channels === 'auto' ? mean.length : data.channels;
    for (const [key, values] of Object.entries({ mean, std })) {
      if (values.length !== 1 && values.length !== channels) {
        refuse(
          ['data', 'normalize', key],
          `expected one number for each channel (${channels}), got ${values.length}`,
        );
      }
    }
  }
}

function checkTrain({ train, device }: Parsed, refuse: Refuse): void {
  const { optimizer } = train;
  if ('nesterov' in optimizer && optimizer.nesterov && optimizer.momentum === 0) {
    refuse(
      ['train', 'optimizer', 'nesterov'],
      'Nesterov momentum needs a momentum above 0',
      'set nesterov: false',
    );
  }
  const smoothed = train.loss.some(({ name }) => name === 'cross_entropy' || name === 'bce');
  if (train.label_smoothing > 0 && !smoothed) {
    refuse(
      ['train', 'label_smoothing'],
      `${train.loss.map(({ name }) => name).join(' and ')} cannot smooth labels`,
      'leave it out, or use the loss cross_entropy or bce',
    );
  }
  if (train.amp === 'fp16' && device.train === 'cpu') {
    refuse(['train', 'amp'], 'fp16 needs CUDA, but device.train is cpu', 'use bf16, off or auto');
  }
  if (train.cuda_graphs === 'on' && device.train === 'cpu') {
    refuse(['train', 'cuda_graphs'], 'CUDA graphs need CUDA, but device.train is cpu', 'use auto or off');
  }
}
