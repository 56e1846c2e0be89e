/** Configs in files, and the problems that loading them finds. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { loadConfig, type ConfigSources } from '#fornax/config/load.js';
import { ConfigProblemsError, type Problem } from '#fornax/config/problems.js';
import { ConfigError } from '#fornax/errors.js';

export const folder = mkdtempSync(join(tmpdir(), 'fornax-config-'));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
/** Writes a config to a file of its own. */
export function yaml(text: string): string {
  const file = join(folder, `${++files}.yaml`);
  writeFileSync(file, text);
  return file;
}

/** The problems of a config that is refused, each as `line:column key: message (hint)`. */
export function problems(sources: ConfigSources): string[] {
  try {
    loadConfig(sources);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, 'FORNAX_CONFIG');
    assert.ok(error instanceof ConfigProblemsError, error.message);
    return error.problems.map(show);
  }
  throw new Error('the config was accepted');
}

function show({ where, key, message, hint }: Problem): string {
  const place = where.line === undefined ? where.file : `${where.line}:${where.column}`;
  return `${place} ${key ? `${key}: ` : ''}${message}${hint ? ` (${hint})` : ''}`;
}
