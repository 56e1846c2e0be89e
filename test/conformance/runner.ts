/** Runs golden files and counts: passed, failed, unknown. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { Comparison } from './comparison.js';
import { Fields, MalformedGolden } from './fields.js';
import { type GoldenCase, Unsupported } from './kind.js';
import { kinds } from './kinds.js';

export interface ConformanceOptions {
  files: string[];
  /** Names of cases, or of blocks (`schedules`). Default: all. */
  only?: string[];
  /** What cannot be run is not a failure. */
  allowUnknown?: boolean;
  print: (line: string) => void;
}

export interface ConformanceResult {
  passed: number;
  failed: number;
  unknown: number;
  ok: boolean;
}

/** How many misses of a case are printed. */
const shownMisses = 5;

export async function runConformance(options: ConformanceOptions): Promise<ConformanceResult> {
  const run = new ConformanceRun(options);
  for (const file of options.files) await run.file(file);
  return run.finish();
}

class ConformanceRun {
  private passed = 0;
  private failed = 0;
  private unknown = 0;
  private readonly unusedNames: Set<string>;

  constructor(private readonly options: ConformanceOptions) {
    this.unusedNames = new Set(options.only);
  }

  async file(path: string): Promise<void> {
    const name = basename(path);
    let fields: Fields;
    let cases: GoldenCase[];
    try {
      fields = readGolden(path);
      const kind = fields.text('kind');
      if (!Object.hasOwn(kinds, kind)) {
        this.report(
          'unknown',
          name,
          `the kind '${kind}' cannot be run; known: ${Object.keys(kinds).join(', ')}`,
        );
        return;
      }
      cases = (await kinds[kind]!())(fields);
    } catch (error) {
      this.report('failed', name, (error as Error).message);
      return;
    }
    if (cases.length === 0) this.report('failed', name, 'the file has no case');
    const below = cases.map((one) => `${one.fields.where}.`);
    const strange = fields.unreadPaths().filter((field) => !below.some((prefix) => field.startsWith(prefix)));
    if (strange.length > 0) this.report('failed', name, unknownFields(strange));
    for (const one of cases) if (this.isWanted(one.name)) await this.case(name, one);
  }

  finish(): ConformanceResult {
    const { passed, unknown, options } = this;
    for (const name of this.unusedNames) this.report('failed', name, 'no file has a case of this name');
    const { failed } = this;
    options.print(`${passed} passed, ${failed} failed, ${unknown} unknown`);
    return { passed, failed, unknown, ok: failed === 0 && (unknown === 0 || options.allowUnknown === true) };
  }

  private isWanted(name: string): boolean {
    const { only } = this.options;
    if (!only) return true;
    const wanted = only.filter((one) => name === one || name.startsWith(`${one}/`));
    for (const one of wanted) this.unusedNames.delete(one);
    return wanted.length > 0;
  }

  private async case(file: string, { name, fields, run }: GoldenCase): Promise<void> {
    const label = `${file} ${name}`;
    const comparison = new Comparison();
    try {
      await run(comparison);
    } catch (error) {
      if (error instanceof Unsupported) this.report('unknown', label, error.message);
      else this.report('failed', label, describe(error));
      return;
    }
    const unread = fields.unreadPaths();
    if (unread.length > 0) comparison.misses.push({ what: 'the file', message: unknownFields(unread) });
    if (comparison.count === 0) comparison.misses.push({ what: 'the case', message: 'nothing was compared' });
    const { count, largest, misses } = comparison;
    const text =
      `${count} values, largest error ${largest.share.toPrecision(2)} of its tolerance ` +
      `(${largest.error.toExponential(1)}, ${largest.what})`;
    this.report(misses.length === 0 ? 'passed' : 'failed', label, text);
    for (const { what, message } of misses.slice(0, shownMisses))
      this.options.print(`    ${what}: ${message}`);
    if (misses.length > shownMisses) this.options.print(`    and ${misses.length - shownMisses} more`);
  }

  private report(verdict: 'passed' | 'failed' | 'unknown', label: string, text: string): void {
    this[verdict]++;
    this.options.print(`${verdict.padEnd(7)} ${label}: ${text}`);
  }
}

function readGolden(path: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new MalformedGolden(path, `cannot be read: ${(error as Error).message}`);
  }
  return new Fields(value, basename(path));
}

function unknownFields(paths: string[]): string {
  const shown = paths.slice(0, shownMisses).join(', ');
  return `fields that are not compared: ${shown}${paths.length > shownMisses ? `, … (${paths.length})` : ''}`;
}

/** The error without its stack if it is one made for people. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const expected = error instanceof MalformedGolden || 'code' in error;
  return (expected ? error.message : (error.stack ?? error.message)).replaceAll('\n', '\n    ');
}
