/** What to do where a run has its model already: nothing, and say so. */
import { existsSync, promises as fs } from 'node:fs';

import { parse } from 'yaml';

import type { Config } from '../config/schema.js';
import { TrainError } from '../errors.js';
import { readModelHeader } from '../model/file.js';
import type { Checkpoint } from './checkpoint.js';
import type { EvaluationMetrics } from './events.js';
import { comparedConfig, configDifferences, type ComparedConfig } from './resume.js';
import type { RunFolder } from './run_folder.js';
import { stopNow } from './stopping.js';

export interface ExistingRun {
  message: string;
  metrics: EvaluationMetrics | null;
}

/**
 * Null if there is something to train: no model yet, or a resume with more epochs than were trained.
 *
 * @throws TrainError if the model exists and `run.existing` is `fail`.
 */
export async function existingRun(
  config: Config,
  folder: RunFolder,
  checkpoint: Checkpoint | null,
  resuming: boolean,
): Promise<ExistingRun | null> {
  const { model } = folder.paths;
  if (!existsSync(model)) return null;
  const { info } = await readModelHeader(model);
  const longer = resuming && checkpoint !== null && checkpoint.state.epoch < config.train.epochs;
  // A run that was ended by a limit goes on once the limit is raised.
  const limit = longer ? stopNow(config, checkpoint.state.history, checkpoint.state.seconds) : null;
  if (longer && limit === null) return null;
  // It went on, and was then killed: it ends with the weights that it has by now.
  const { steps } = info.provenance;
  if (limit && typeof steps === 'number' && checkpoint!.state.step > steps) return null;
  const { top1, top5, loss, samples } = info.metrics;
  const metrics =
    typeof top1 === 'number' && typeof top5 === 'number'
      ? { top1, top5, loss: loss ?? null, samples: samples ?? 0 }
      : null;
  const score = metrics ? ` (top-1 ${(100 * (metrics.top1 ?? 0)).toFixed(1)} %)` : '';
  const lengthen = limit?.reason ?? 'epochs';
  const fix = `train anew with --force, train longer with --resume --set train.${lengthen}=…, or use another name`;
  if (config.run.existing === 'fail' && !resuming) {
    throw new TrainError({ what: `this run has its model already${score}`, where: model, fix });
  }
  const changed = await differences(folder, config);
  const note =
    changed.length > 0 ? `\nIts configuration differs from this one:\n  - ${changed.join('\n  - ')}` : '';
  const ended = limit
    ? `${limit.message}, and this run has its model`
    : 'Skipped: this run has its model already';
  return {
    message: `${ended}${score}: ${model}${note}\nTo change that: ${fix}`,
    metrics,
  };
}

const ALSO_TOLD = [
  ['data', 'path'],
  ['train', 'epochs'],
  ['train', 'early_stopping'],
  ['train', 'max_time'],
] as const;

async function differences(folder: RunFolder, config: Config): Promise<string[]> {
  try {
    const before = parse(await fs.readFile(folder.paths.config, 'utf8')) as ComparedConfig;
    const now = comparedConfig(config);
    const lines = configDifferences(before, now);
    // Free to change on resume, which this is not: other data, or another length, would be another model.
    for (const [section, key] of ALSO_TOLD) {
      const of = (value: ComparedConfig): string =>
        JSON.stringify((value[section] as Record<string, unknown> | undefined)?.[key] ?? null);
      if (of(before) !== of(now)) lines.push(`${section}.${key}: ${of(before)} → ${of(now)}`);
    }
    return lines;
  } catch {
    return []; // The folder was made by hand or by an older version: there is nothing to compare with.
  }
}
