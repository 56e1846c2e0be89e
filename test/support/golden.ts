/** Golden files in tests: running them, and copies with one thing changed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runConformance, type ConformanceResult } from '../conformance/runner.js';

export const goldenFolder = fileURLToPath(new URL('../../../../test/golden/', import.meta.url));

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
  const golden = JSON.parse(readFileSync(join(goldenFolder, name), 'utf8')) as Json;
  change(golden);
  const path = temporaryGolden(name);
  writeFileSync(path, JSON.stringify(golden));
  return path;
}
