/** docs/config.md is made of the schema, and leaves nothing out. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { alternatives, jsonSchema, type JsonSchema } from '#fornax/config/json_schema.js';

import { configDocs } from '../scripts/config_docs.js';

const page = readFileSync(new URL('../../../docs/config.md', import.meta.url), 'utf8');

/** Every key that takes a value, with the name of the map that it is in: `train.optimizer(sgd).momentum`. */
function leavesOf(schema: JsonSchema, path: string): string[] {
  const maps = alternatives(schema)
    .flatMap((one) => (one.items ? alternatives(one.items) : [one]))
    .filter(({ properties }) => properties !== undefined);
  const below = maps.flatMap(({ properties = {} }) => {
    const { name, ...settings } = properties;
    const isNamed = name?.const !== undefined;
    const within = isNamed ? `${path}(${String(name.const)})` : path;
    return Object.entries(isNamed ? settings : properties).flatMap(([key, child]) =>
      leavesOf(child, within === '' ? key : `${within}.${key}`),
    );
  });
  const isSection = maps.length > 0 && schema.properties !== undefined;
  return isSection ? below : [path, ...below];
}

describe('docs/config.md', () => {
  it('is what the schema makes of it (node build/dev/scripts/config_docs.js)', async () => {
    assert.equal(page, await configDocs());
  });

  it('has every key that can be set, also below those that are null or a list', () => {
    const wanted = leavesOf(jsonSchema(), '');
    assert.ok(wanted.includes('train.swa.anneal_epochs') && wanted.includes('train.optimizer(sgd).momentum'));
    const documented: string[] = [];
    let prefix = '';
    for (const line of page.split('\n')) {
      const heading = /^##+ `?(.*?)`?$/.exec(line)?.[1];
      if (heading !== undefined) {
        const [, key, name] = /^(.*): \{ name: (\w+), … \}$/.exec(heading) ?? [];
        prefix = key ? `${key}(${name})` : heading.replace('[…]', '');
        continue;
      }
      const [, key, meaning] = /^\| `([\w.]+)` +\|.*\| (.*?) *\|$/.exec(line) ?? [];
      if (!key) continue;
      assert.notEqual(meaning, '', `${prefix} ${key} is not explained`);
      documented.push(
        prefix === '' || key === prefix || key.startsWith(`${prefix}.`) ? key : `${prefix}.${key}`,
      );
    }
    assert.deepEqual(
      wanted.filter((key) => !documented.includes(key)),
      [],
    );
  });
});
