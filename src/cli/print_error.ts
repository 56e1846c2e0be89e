/** Errors on their way to a person (what, where, fix) or a machine (one JSON object on stderr), and exit codes. */
import { CommanderError } from 'commander';
import { AbortedError, ConfigError, FornaxError, UsageError } from '../errors.js';
import { paint } from './terminal.js';

export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130, terminated: 143 } as const;

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError || error instanceof ConfigError || error instanceof CommanderError) {
    return EXIT.usage;
  }
  return error instanceof AbortedError ? EXIT.interrupted : EXIT.failed;
}

/** The error as `--json` shows it. */
export function errorRecord(error: unknown): Record<string, unknown> {
  const message = error instanceof Error ? error.message : String(error);
  const record: Record<string, unknown> = { type: 'error', code: 'INTERNAL', what: message };
  if (error instanceof FornaxError) {
    record['code'] = error.code;
    record['what'] = error.what;
    if (error.where !== undefined) record['where'] = error.where;
    if (error.fix !== undefined) record['fix'] = error.fix;
    if ('problems' in error) record['problems'] = error.problems;
  } else if (error instanceof CommanderError) {
    record['code'] = 'FORNAX_USAGE';
    record['what'] = message.replace(/^error: /, '');
  } else if (error instanceof Error) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code === 'string') record['code'] = code;
    record['stack'] = error.stack;
  }
  return record;
}

function forPeople(error: unknown): string {
  const red = (text: string): string => paint(text, ['red', 'bold'], process.stderr);
  const dim = (text: string): string => paint(text, ['dim'], process.stderr);
  if (!(error instanceof FornaxError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `${red('Internal error')} (a bug in Fornax, or in what it runs on): ${text}\n`;
  }
  const name = error.name === 'AbortedError' ? 'stopped' : 'error';
  const lines = [`${red(`${name}:`)} ${error.what}`];
  if (error.where !== undefined) lines.push(`  ${dim('at:')}  ${error.where}`);
  if (error.fix !== undefined) lines.push(`  ${dim('fix:')} ${error.fix}`);
  if (process.env['FORNAX_DEBUG'] && error.stack) lines.push(dim(error.stack));
  return lines.join('\n') + '\n';
}

/** Prints to stderr. `usage` is commander's own text for a bad command line. */
export function printError(error: unknown, options: { json: boolean; usage?: string }): void {
  if (options.json) process.stderr.write(JSON.stringify(errorRecord(error)) + '\n');
  else process.stderr.write(error instanceof CommanderError ? (options.usage ?? '') : forPeople(error));
}
