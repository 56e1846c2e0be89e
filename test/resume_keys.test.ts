/** Every key of the config says whether a run may be resumed with another value, and is held to it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { z } from 'zod';

import { defineConfig } from '#fornax/config/load.js';
import { RESUME_KEYS, resumeClass } from '#fornax/config/resume_keys.js';
import { configSchema } from '#fornax/config/schema.js';
import { comparedConfig, configDifferences } from '#fornax/train/resume.js';

interface Schema {
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
}

/** `section.key` of all keys; of a section without keys of its own its name. */
function schemaKeys(): string[] {
  const root = z.toJSONSchema(configSchema, { io: 'input' }) as Schema;
  return Object.entries(root.properties!).flatMap(([section, schema]) => {
    const object = schema.properties ? schema : schema.anyOf?.find(({ properties }) => properties);
    return Object.keys(object?.properties ?? {})
      .map((key) => `${section}.${key}`)
      .concat(object ? [] : section);
  });
}

test('every key of the schema is in the list', () => {
  const keys = schemaKeys();
  assert.ok(keys.length > 60 && keys.includes('train.lr'), 'the schema was not walked');
  const missing = keys.filter((key) => resumeClass(key) === undefined);
  assert.deepEqual(
    missing,
    [],
    `say in src/config/resume_keys.ts whether a run may be resumed with another ${missing.join(', another ')}`,
  );
});

test('every key of the list is in the schema', () => {
  const keys = schemaKeys();
  const stale = Object.keys(RESUME_KEYS).filter(
    (key) => !keys.some((known) => known === key || known.startsWith(`${key}.`)),
  );
  assert.deepEqual(stale, [], `src/config/resume_keys.ts names keys that no config has`);
});

test('a compared key that differs is named with both values, a free one is not', () => {
  const before = comparedConfig(defineConfig({ name: 'a', data: { source: 'shapes' } }));
  const keys = schemaKeys();
  for (const key of keys) {
    const [section, name] = key.split('.') as [string, string | undefined];
    const now = structuredClone(before) as Record<string, Record<string, unknown>>;
    const holder = name === undefined ? (now as Record<string, unknown>) : now[section]!;
    const leaf = name ?? section;
    const was = JSON.stringify(holder[leaf]);
    holder[leaf] = 'another';
    const lines = configDifferences(before, now).filter((line) => line.startsWith(`${key}: `));
    if (resumeClass(key) === 'free') assert.deepEqual(lines, [], key);
    else assert.ok(lines[0]?.endsWith(' → "another"'), `${key} was ${was}: ${lines.join('; ')}`);
  }
});

test('a key that nobody knows is compared', () => {
  assert.equal(resumeClass('train.invented'), undefined);
  assert.deepEqual(
    configDifferences({ train: {} }, { train: { invented: 1 } }).filter((line) => /invented/.test(line)),
    ['train.invented: (not set) → 1'],
  );
});
