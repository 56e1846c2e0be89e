/** What the commands of `fornax data` do, once sharp may be loaded. */
import { openData, prepareDataset, type DataConfig, type Dataset, type Split } from '../data/dataset.js';
import { gib } from '../data/pack_plan.js';
import { prepareShapes, type ShapesSettings } from '../data/shapes.js';
import type { SplitSource } from '../data/source.js';
import { countClasses } from '../data/stratified.js';
import { runLongJob } from './long_job.js';
import { count, table } from './terminal.js';

const BROKEN_SHOWN = 20;

const WHAT_NOW = 'stopping; nothing incomplete is kept';

function printJson(record: Record<string, unknown>): void {
  process.stdout.write(JSON.stringify(record) + '\n');
}

export async function runPrepareShapes(
  flags: ShapesSettings & { out?: string; json?: boolean },
): Promise<void> {
  const result = await runLongJob({ json: flags.json ?? false, whatNow: WHAT_NOW }, ({ report, signal }) =>
    prepareShapes({
      out: flags.out,
      count: flags.count,
      size: flags.size,
      seed: flags.seed,
      signal,
      onProgress: (done, total) =>
        report({ type: 'data_progress', stage: 'Drawing shapes', split: 'all', done, total }),
    }),
  );
  if (flags.json) {
    printJson({ type: 'shapes', ...result });
    return;
  }
  const what = result.created ? 'Drew' : 'There already:';
  process.stdout.write(
    `${what} ${count(result.count)} images of ${result.classes.length} shapes in ${result.folder}\n`,
  );
}

export async function runPack(config: DataConfig, json: boolean): Promise<void> {
  const dataset = await runLongJob({ json, whatNow: WHAT_NOW }, ({ report, signal }) =>
    prepareDataset(config, {
      signal,
      onProgress: ({ split, done, total }) =>
        report({ type: 'data_progress', stage: 'Decoding images', split, done, total }),
      onWait: (owner) =>
        report({ type: 'info', message: `waiting for ${owner}, which is packing the same data` }),
    }),
  );
  if (json) printJson(packRecord(dataset));
  else process.stdout.write(describePack(dataset));
}

function splitsOf(dataset: Dataset): Split[] {
  return [dataset.train, dataset.val, dataset.test].filter((split) => split !== null);
}

function packRecord(dataset: Dataset): Record<string, unknown> {
  return {
    type: 'pack',
    classes: dataset.classes,
    channels: dataset.channels,
    mode: dataset.pack.mode,
    shorter_side: dataset.pack.shorterSide,
    bytes: dataset.pack.bytes,
    splits: splitsOf(dataset).map(({ name, samples, pack }) => ({ name, samples, pack })),
    broken: dataset.broken,
    warnings: dataset.warnings,
    fingerprint: dataset.fingerprint,
  };
}

function describePack(dataset: Dataset): string {
  const kept =
    dataset.pack.mode === 'original'
      ? 'at their size'
      : `shorter side at most ${dataset.pack.shorterSide} pixels`;
  const lines = [
    `${dataset.classes.length} classes, ${dataset.channels === 1 ? 'grayscale' : 'RGB'}, ${kept}, ${gib(dataset.pack.bytes)}`,
    table(
      splitsOf(dataset).map((split) => [split.name, count(split.samples), split.pack]),
      [1],
    ),
    ...dataset.warnings.map((warning) => `warning: ${warning}`),
  ];
  if (dataset.broken.length > 0) {
    lines.push(`${count(dataset.broken.length)} broken files were left out:`);
    lines.push(...dataset.broken.slice(0, BROKEN_SHOWN).map((file) => `  ${file.path}: ${file.reason}`));
    if (dataset.broken.length > BROKEN_SHOWN) {
      lines.push(`  … and ${count(dataset.broken.length - BROKEN_SHOWN)} more (all with --json)`);
    }
  }
  return lines.join('\n') + '\n';
}

export async function runInfo(
  dir: string | undefined,
  source: NonNullable<DataConfig['source']>,
  json: boolean,
): Promise<void> {
  const opened = await openData({ source, path: dir ?? null });
  const splits = await Promise.all(opened.source.splits.map(splitRecord));
  const { kind, location, classes, warnings } = opened.source;
  if (json) {
    printJson({ type: 'data', kind, location, classes, splits, warnings });
    return;
  }
  const rows = classes.map((name, label) => [
    name,
    ...splits.map((split) => count(split.class_counts[label]!)),
  ]);
  const lines = [
    `${location}: ${kind}, ${classes.length} classes`,
    table(
      [
        ['class', ...splits.map((split) => split.name)],
        ...rows,
        ['all', ...splits.map((s) => count(s.samples))],
      ],
      splits.map((_, i) => i + 1),
    ),
    ...splits.map((split) => `${split.name}: ${split.location}, ${split.sizes}`),
    ...warnings.map((warning) => `warning: ${warning}`),
  ];
  process.stdout.write(lines.join('\n') + '\n');
}

async function splitRecord(split: SplitSource) {
  const sizes = await split.sampleSizes();
  const range = (side: 'height' | 'width'): string => {
    // Not Math.min(...sizes): there may be more images than a call may have arguments.
    const least = sizes.reduce((low, size) => Math.min(low, size[side]), Infinity);
    const most = sizes.reduce((high, size) => Math.max(high, size[side]), 0);
    return least === most ? String(least) : `${least}–${most}`;
  };
  return {
    name: split.name,
    location: split.location,
    samples: split.labels.length,
    class_counts: countClasses(split.labels, split.classes.length),
    sizes:
      sizes.length === 0
        ? 'no readable image'
        : `${range('height')} × ${range('width')} pixels (height × width)`,
  };
}
