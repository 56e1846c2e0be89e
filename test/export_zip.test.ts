/** The zip archives of `.pth` files: aligned, with the right checksums, written tensor by tensor. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { crc32 } from 'node:zlib';

import { ArgumentError, DisposedError } from '#fornax/errors.js';
import { zipChunks } from '#fornax/export/zip.js';
import { loadAddon } from '#fornax/native.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';
import { random } from './support/random.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

function bytes(count: number): Uint8Array {
  const draw = random(count);
  return Uint8Array.from({ length: count }, () => draw(256));
}

test('checksums are those of zip, for every length and layout', async () => {
  const data = [...Array(40).keys(), 4095, 100_003].map(bytes);
  const tensors = data.map((d) => Tensor.from(d, [d.length]).native);
  const sums = await loadAddon().tensorChecksums(tensors);
  assert.deepEqual(
    sums,
    data.map((d) => crc32(d)),
  );
  const matrix = Tensor.from(bytes(6), [2, 3]);
  const turned = matrix.call('aten::t');
  const [sum] = await loadAddon().tensorChecksums([turned.native]);
  assert.equal(sum, crc32(Uint8Array.from((turned.toArray() as number[][]).flat())));
});

test('pieces are written in order, tensors as their elements in rows', async () => {
  const file = path.join(root.path, 'pieces');
  const turned = Tensor.from(new Uint8Array([1, 2, 3, 4, 5, 6]), [2, 3]).call('aten::t');
  await loadAddon().writeTensors(file, [
    new Uint8Array([9]),
    turned.native,
    new Uint8Array([]),
    Tensor.zeros([0], { dtype: 'uint8' }).native,
    new Uint8Array([8, 7]),
  ]);
  assert.deepEqual([...(await fs.readFile(file))], [9, 1, 4, 2, 5, 3, 6, 8, 7]);
  assert.throws(() => loadAddon().writeTensors(file, ['text' as unknown as Uint8Array]), ArgumentError);
  turned.dispose();
  assert.throws(() => loadAddon().writeTensors(file, [turned.native]), DisposedError);
});

test('records begin at multiples of 64 bytes, and the directory finds them', async () => {
  const tensor = Tensor.from(bytes(100), [100]);
  const records = [
    { name: 'a', data: bytes(3) },
    { name: 'größe/x', data: bytes(0) },
    { name: 'b'.repeat(50), data: { tensor: tensor.native, length: 100, crc: crc32(bytes(100)) } },
    { name: 'c', data: bytes(64) },
  ];
  const file = path.join(root.path, 'archive.zip');
  await loadAddon().writeTensors(file, zipChunks(records));
  const zip = await fs.readFile(file);
  const end = zip.length - 22;
  assert.equal(zip.toString('latin1', end, end + 4), 'PK\x05\x06');
  assert.equal(zip.readUInt16LE(end + 10), records.length);
  let entry = zip.readUInt32LE(end + 16);
  assert.equal(entry + zip.readUInt32LE(end + 12), end);
  for (const { name, data } of records) {
    assert.equal(zip.toString('latin1', entry, entry + 4), 'PK\x01\x02');
    const expected = data instanceof Uint8Array ? data : bytes(100);
    assert.equal(zip.readUInt32LE(entry + 16), crc32(expected));
    assert.equal(zip.readUInt32LE(entry + 20), expected.length);
    assert.equal(zip.readUInt32LE(entry + 24), expected.length);
    const nameLength = zip.readUInt16LE(entry + 28);
    assert.equal(zip.toString('utf8', entry + 46, entry + 46 + nameLength), name);
    const local = zip.readUInt32LE(entry + 42);
    const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
    assert.equal(start % 64, 0);
    assert.deepEqual([...zip.subarray(start, start + expected.length)], [...expected]);
    entry += 46 + nameLength;
  }
});

test('what needs zip64 is refused', () => {
  const tensor = Tensor.zeros([1]).native;
  const large = { name: 'x', data: { tensor, length: 2 ** 31, crc: 0 } };
  assert.throws(() => zipChunks([large, large]), ArgumentError);
  const small = Array.from({ length: 65_535 }, (_, i) => ({ name: String(i), data: new Uint8Array() }));
  assert.throws(() => zipChunks(small), /export them as safetensors/);
});
