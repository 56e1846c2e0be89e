/** The first thing a new user runs. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fornax, jsonLines } from './support/cli.js';
import { temporaryFolder } from './support/image_folder.js';

describe('fornax quickstart', () => {
  it('draws images, trains to 95 % top-1 or more, evaluates, predicts; a second time skips the training', async () => {
    await using root = await temporaryFolder();
    const options = {
      cwd: root.path,
      env: { FORNAX_CACHE: path.join(root.path, 'cache') },
      timeoutMs: 900_000,
    };
    const coloured = { ...options, env: { ...options.env, FORCE_COLOR: '1' } };
    const first = await fornax(['quickstart', '--device', 'cpu', '--json'], coloured);
    assert.equal(first.code, 0, first.stderr);
    assert.ok(!first.stdout.includes('\\u001b'), 'colours are for people');
    const records = jsonLines(first.stdout);
    assert.equal(records.filter((record) => record['heading'] === true).length, 4);
    assert.equal(records.filter(({ type }) => type === 'epoch').length, 6);
    const summary = records.at(-1)!;
    assert.equal(summary['type'], 'quickstart');
    assert.ok((summary['top1'] as number) >= 0.95);
    assert.equal(summary['label'], 'star');
    assert.ok(existsSync(String(summary['model'])));

    const second = await fornax(['quickstart', '--device', 'cpu'], options);
    assert.equal(second.code, 0, second.stderr);
    assert.match(second.stdout, /Skipped: this run has its model already/);
    assert.match(
      second.stdout,
      /^Everything works: top-1 \d+\.\d %\. What was made:\n {2}runs\/quickstart\/model/m,
    );
  });
});
