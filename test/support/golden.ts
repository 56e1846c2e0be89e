/** Golden files in tests: running them, and copies with one thing changed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { readGolden } from '../conformance/golden_files.js';
import { runConformance, type ConformanceResult } from '../conformance/runner.js';

export { goldenFiles, goldenFolder } from '../conformance/golden_files.js';

export type Outcome = ConformanceResult & { lines: string[] };
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- spoilt at any depth
export type Json = any;

let folder: string | null = null;
after(() => {
  if (folder !== null) rmSync(folder, { recursive: true });
});

/** A path in a folder that is removed after the tests of the file. */
export function temporaryGolden(name: string): string {
  folder ??= mkdtempSync(join(tmpdir(), 'fornax-conformance-'));
  return join(folder, name);
}

/** Runs a golden file, or those of its cases that `only` names. */
export async function conform(file: string, only?: string[]): Promise<Outcome> {
  const lines: string[] = [];
  const result = await runConformance({
    files: [file],
    print: (line) => lines.push(line),
    ...(only ? { only } : {}),
  });
  return { ...result, lines };
}

/** A copy of a golden file with one thing changed. */
export function spoilt(name: string, change: (golden: Json) => void): string {
  const golden = readGolden(name) as Json;
  change(golden);
  const path = temporaryGolden(name);
  writeFileSync(path, JSON.stringify(golden));
  return path;
}

/**
 * Everything that a file of this kind holds results for, under the names of the runner's cases, taken from the file's
 * own keys: what a kind's module leaves out is missing among the cases that were run.
 */
const entries: Record<string, (golden: Json) => string[]> = {
  classification: ({ models }) => Object.keys(models),
  segmentation: ({ models }) => Object.keys(models),
  losses: ({ cases }) => Object.keys(cases),
  metrics: ({ classification, segmentation, ...rest }) => {
    const more = Object.keys(rest).filter((key) => !['kind', 'source', 'tolerance'].includes(key));
    return [
      ...(classification ? ['classification'] : []),
      ...(segmentation ? ['segmentation'] : []),
      ...more,
    ];
  },
  training: ({ cases, schedules, grad_scaler: scaler, bn_recompute: recompute }) => [
    ...Object.keys(cases),
    ...(schedules.cases as Json[]).map(({ settings }, i, all) => {
      const same = all.slice(0, i).filter((other) => other.settings.name === settings.name).length;
      return `schedules/${settings.name}${same > 0 ? `_${same + 1}` : ''}`;
    }),
    ...(scaler ? ['grad_scaler'] : []),
    ...(recompute ? ['bn_recompute'] : []),
  ],
  faces: ({ models, training, pipeline }) => [
    ...Object.keys(models).map((name) => `models/${name}`),
    ...Object.keys(training).flatMap((part) => {
      if (part === 'match') return (training.match as Json[]).map(({ image }) => `training/match/${image}`);
      if (part === 'losses') return Object.keys(training.losses).map((name) => `training/losses/${name}`);
      return [`training/${part}`];
    }),
    ...Object.keys(pipeline).map((name) => `pipeline/${name}`),
  ],
};

/** The entries of a golden file, as the runner names its cases. */
export function entriesOf(name: string): string[] {
  const golden = readGolden(name) as Json;
  return entries[golden.kind as string]!(golden);
}

/** The cases of an outcome that passed, by the lines it printed. */
export function passedOf({ lines }: Outcome): string[] {
  return lines.flatMap((line) => /^passed {2}\S+\.json (.*?): \d+ values/.exec(line)?.[1] ?? []);
}
