import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fornax, jsonLines } from './support/cli.js';
import { classFolder, put, temporaryFolder } from './support/images.js';

test('fornax data prepare shapes draws the set once', async () => {
  const out = path.join(temporaryFolder(), 'set');
  const args = ['data', 'prepare', 'shapes', '--out', out, '--count', '60', '--size', '16', '--seed', '2'];
  const first = await fornax(args);
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stdout, /Drew 60 images of 6 shapes/);
  assert.equal(readdirSync(path.join(out, 'train')).length, 6);
  assert.match((await fornax(args)).stdout, /There already: 60 images/);
  const other = await fornax(['data', 'prepare', 'shapes', '--out', out, '--count', '72']);
  assert.equal(other.code, 1);
  assert.match(other.stderr, /count 60 already, asked for was 72/);
  assert.equal((await fornax(['data', 'prepare', 'shapes', '--count', 'many'])).code, 2);
  for (const [flag, value] of [
    ['--count', '1'],
    ['--size', '3'],
  ] as const) {
    const { code, stderr } = await fornax(['data', 'prepare', 'shapes', flag, value]);
    assert.equal(code, 1);
    assert.match(stderr, /must be a whole number from \d+ to \d+, is \d[^]*fix: choose at least \d+/);
  }
});

test('fornax data pack decodes into the cache and names broken files', async () => {
  const [root, cache] = [temporaryFolder(), temporaryFolder()];
  await classFolder(root, { a: 10, b: 10 });
  const bad = put(root, 'b/bad.jpg', 'no image');
  const { stdout, stderr, code } = await fornax([
    'data',
    'pack',
    root,
    '--cache',
    cache,
    '--val-fraction',
    '0.2',
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /2 classes, RGB, at their size/);
  assert.match(stdout, /train +16 /);
  assert.match(stdout, /val +4 /);
  assert.ok(stdout.includes(`${bad}: it is text, not an image`));
  const json = await fornax([
    'data',
    'pack',
    root,
    '--cache',
    cache,
    '--pack',
    'resized',
    '--pack-size',
    '4',
    '--json',
  ]);
  const record = jsonLines(json.stdout).find((line) => line.type === 'pack')!;
  assert.equal(record.mode, 'resized');
  assert.equal(record.shorter_side, 4);
  const refused = await fornax(['data', 'pack', root, '--cache', cache, '--on-broken', 'fail']);
  assert.equal(refused.code, 1);
  assert.ok(refused.stderr.includes(bad));
});

test('fornax data pack refuses bad settings with exit code 2', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 2, b: 2 });
  for (const flags of [
    ['--pack', 'encoded'],
    ['--pack-size', '0'],
    ['--resolution', '0'],
    ['--val-fraction', '1'],
    ['--channels', '2'],
    ['--val', 'nowhere'],
  ]) {
    const { code, stderr } = await fornax(['data', 'pack', root, ...flags]);
    assert.equal(code, 2, `${flags.join(' ')}: ${stderr}`);
  }
  assert.equal((await fornax(['data', 'pack', path.join(root, 'nowhere')])).code, 1);
});

test('fornax data info counts without writing anything', async () => {
  const [root, cache] = [temporaryFolder(), path.join(temporaryFolder(), 'cache')];
  await classFolder(path.join(root, 'train'), { a: 3, b: 2 });
  await classFolder(path.join(root, 'test'), { a: 1, b: 1 });
  const { stdout, stderr, code } = await fornax(['data', 'info', root], { env: { FORNAX_CACHE: cache } });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /class +train +val/);
  assert.match(stdout, /a +3 +1/);
  assert.match(stdout, /8 × 10 pixels/);
  assert.ok(!existsSync(cache));
  const [record] = jsonLines((await fornax(['data', 'info', root, '--json'])).stdout);
  assert.deepEqual(record!.classes, ['a', 'b']);
});
