/** The checksum of what is written, in both variants: the published vectors, and those of Node's own SHA-256. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, promises as fs, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { loadAddon } from '#fornax/native.js';
import { Tensor } from '#fornax/tensor.js';

import { bytesOf } from './support/digest_files.js';
import { temporaryFolder } from './support/image_folder.js';
import { random } from './support/random.js';

const child = fileURLToPath(new URL('./support/digest_child.js', import.meta.url));

const hasInstructions =
  existsSync('/proc/cpuinfo') && /^flags\b.*\bsha_ni\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));

/** FIPS 180-4's examples (csrc.nist.gov), and its test of a million letters. */
const VECTORS: [string, string][] = [
  ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  [
    'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  ],
  [
    'abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu',
    'cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1',
  ],
  ['a'.repeat(1_000_000), 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'],
];

test('published vectors', async () => {
  await using root = await temporaryFolder();
  const file = path.join(root.path, 'vector');
  for (const [text, expected] of VECTORS) {
    assert.equal(await loadAddon().writeTensors(file, [Buffer.from(text)]), expected);
    const letters = [...text.slice(0, 200)].map((letter) => Buffer.from(letter));
    const rest = Buffer.from(text.slice(200));
    assert.equal(await loadAddon().writeTensors(file, [...letters, rest]), expected, 'letter by letter');
  }
});

for (const [variant, env, skip] of [
  ["the processor's instructions", {}, hasInstructions ? false : 'the processor has no SHA instructions'],
  ['the portable variant', { ATEN_CPU_CAPABILITY: 'default' }, false],
] as const) {
  test(`${variant}: files of any length, in pieces of any length`, { skip }, async () => {
    await using root = await temporaryFolder();
    const draw = random(1);
    const lists = Array.from({ length: 200 }, (_, length) => [length]);
    for (let i = 0; i < 100; i++) lists.push(Array.from({ length: 1 + draw(6) }, () => draw(200)));
    lists.push([1 << 20], [(1 << 20) + 17, 300_001, 64]);
    const result = spawnSync(
      process.execPath,
      [child, JSON.stringify({ file: path.join(root.path, 'f'), lists })],
      { encoding: 'utf8', env: { ...process.env, ...env } },
    );
    assert.equal(result.status, 0, result.stderr);
    const digests = JSON.parse(result.stdout) as string[];
    assert.equal(digests.length, lists.length);
    for (const [i, list] of lists.entries()) {
      const expected = createHash('sha256');
      for (const length of list) expected.update(bytesOf(length));
      assert.equal(digests[i], expected.digest('hex'), list.join());
    }
  });
}

test('tensors in another order than their bytes are written, and summed, as rows', async () => {
  await using root = await temporaryFolder();
  const file = path.join(root.path, 'turned');
  const write = async (tensor: Tensor): Promise<Buffer> => {
    const digest = await loadAddon().writeTensors(file, [tensor.native]);
    const contents = await fs.readFile(file);
    assert.equal(digest, createHash('sha256').update(contents).digest('hex'));
    return contents;
  };
  // Several pieces with a rest, rows that are longer than a piece, one row, and a dimension that is repeated.
  for (const shape of [
    [150, 70, 3, 3],
    [3, 100_000],
    [1, 40, 50],
  ]) {
    const count = shape.reduce((product, length) => product * length, 1);
    const rows = Tensor.from(
      Float32Array.from({ length: count }, (_, i) => i),
      shape,
    );
    const order = shape.map((_, i) => shape.length - 1 - i);
    const turned = rows.call('aten::permute', order).call('aten::contiguous').call('aten::permute', order);
    assert.ok((await write(turned)).equals(await write(rows)), shape.join());
  }
  const repeated = Tensor.from([1, 2, 3], [3, 1]).call('aten::expand', [3, 2]);
  const contents = await write(repeated);
  assert.deepEqual([...new Float32Array(contents.buffer, contents.byteOffset, 6)], [1, 1, 2, 2, 3, 3]);
});
