/** What `fornax lr-find` does, once the addon may be loaded. */
import path from 'node:path';

import { toSnake } from '../config/case.js';
import { loadConfig } from '../config/load.js';
import { findPlace } from '../dist/place.js';
import { UsageError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import { writeError } from '../io/write_error.js';
import type { LogChart } from '../plot/chart.js';
import { svgChart } from '../plot/svg_chart.js';
import { terminalChart } from '../plot/terminal_chart.js';
import { findLearningRate } from '../train/find_learning_rate.js';
import type { LearningRateResult } from '../train/lr_sweep.js';
import { runLongJob } from './long_job.js';
import type { LrFindFlags } from './lr_find.js';
import { paint, rate } from './terminal.js';
import { overridesOf } from './train.js';

/** @returns the exit code */
export async function runLrFind(files: string[], flags: LrFindFlags): Promise<number> {
  const json = flags.json ?? false;
  if (flags.min >= flags.max) {
    throw new UsageError({ what: `--min (${flags.min}) must be below --max (${flags.max})` });
  }
  if (flags.plot !== undefined && path.extname(flags.plot).toLowerCase() !== '.svg') {
    throw new UsageError({ what: `the plot is written as SVG, not ${flags.plot}`, fix: '--plot rates.svg' });
  }
  if (findPlace()) {
    throw new UsageError({
      what: 'a learning rate is looked for in one process',
      fix: 'unset RANK and WORLD_SIZE; for N processes, multiply train.batch_size by N meanwhile',
    });
  }
  const config = loadConfig({ files, sets: flags.set ?? [], overrides: overridesOf(flags) });
  const result = await runLongJob({ json, whatNow: 'stopping' }, ({ report, signal }) =>
    findLearningRate(config, {
      minLr: flags.min,
      maxLr: flags.max,
      steps: flags.steps,
      stopWhenDiverged: flags.stop,
      report,
      signal,
    }),
  );
  const title = `${config.model.name}, ${config.train.optimizer.name}, batches of ${result.batchSize}`;
  const record = { type: 'learning_rate', ...(toSnake(result) as object) };
  if (flags.plot !== undefined) await write(flags.plot, svgChart(chartOf(result, title)));
  if (flags.out !== undefined) await write(flags.out, JSON.stringify(record, null, 2) + '\n');
  process.stdout.write(json ? JSON.stringify(record) + '\n' : describe(result, title, flags));
  // Without a suggestion the search has failed, whatever it has drawn.
  return Number(process.exitCode ?? 0) || (result.suggestion === null ? 1 : 0);
}

async function write(file: string, content: string): Promise<void> {
  try {
    await writeFileAtomic(path.resolve(file), content);
  } catch (error) {
    throw writeError(error, file);
  }
}

function chartOf({ points, suggestions }: LearningRateResult, title: string): LogChart {
  return {
    title,
    xLabel: 'learning rate',
    yLabel: 'training loss',
    x: points.map(({ lr }) => lr),
    y: points.map(({ smoothed }) => smoothed),
    scatter: points.map(({ loss }) => loss),
    marks: suggestions
      ? Object.entries(suggestions).map(([name, value]: [string, number]) => ({
          x: value,
          label: `${name} ${rate(value)}`,
        }))
      : [],
  };
}

function describe(result: LearningRateResult, title: string, flags: LrFindFlags): string {
  const { points, suggestion, suggestions, diverged, steps } = result;
  const ended = diverged
    ? `The loss exploded at a learning rate of ${rate(points.at(-1)!.lr)}, after ${points.length} of ${steps} steps.`
    : `The loss did not explode up to a learning rate of ${rate(points.at(-1)!.lr)}.`;
  const lines = [terminalChart(chartOf(result, title)), '', ended];
  if (suggestion === null || suggestions === null) {
    lines.push(
      'Too few steps went well to suggest a learning rate: begin lower (--min), or take more (--steps).',
    );
  } else {
    lines.push(
      `${paint(`Suggested learning rate: ${rate(suggestion)}`, ['bold', 'green'])} (valley: the middle of the longest descent; steepest at ${rate(suggestions.steep)})`,
      `Use it with --set train.lr=${rate(suggestion)}`,
    );
  }
  for (const file of [flags.plot, flags.out]) if (file !== undefined) lines.push(`Written: ${file}`);
  return lines.join('\n') + '\n';
}
