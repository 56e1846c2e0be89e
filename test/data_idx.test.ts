import assert from 'node:assert/strict';
import { existsSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { DEBIAN_FASHION_MNIST, FASHION_MNIST_CLASSES, openIdx, readIdx } from '#fornax/data/idx.js';
import { DataError } from '#fornax/errors.js';
import { put, temporaryFolder } from './support/images.js';

/** An IDX file: magic number, dimensions, bytes. */
function idx(dims: number[], data: number[], type = 0x08): Buffer {
  const head = Buffer.alloc(4 + 4 * dims.length);
  head.set([0, 0, type, dims.length]);
  dims.forEach((size, i) => head.writeUInt32BE(size, 4 + 4 * i));
  return Buffer.concat([head, Buffer.from(data)]);
}

const pixels = Array.from({ length: 3 * 2 * 4 }, (_, i) => 10 * i);

function writeSet(options: { zip?: boolean; dot?: boolean } = {}): string {
  const folder = temporaryFolder();
  const pack = (data: Buffer): Buffer => (options.zip ? gzipSync(data) : data);
  const end = options.zip ? '.gz' : '';
  const join = options.dot ? '.' : '-';
  for (const prefix of ['train', 't10k']) {
    put(folder, `${prefix}-images${join}idx3-ubyte${end}`, pack(idx([3, 2, 4], pixels)));
    put(folder, `${prefix}-labels${join}idx1-ubyte${end}`, pack(idx([3], [2, 0, 1])));
  }
  return folder;
}

test('plain and gzip files, with a dash or a dot, give the same samples', async () => {
  for (const options of [{}, { zip: true }, { dot: true }, { zip: true, dot: true }]) {
    const source = await openIdx(writeSet(options));
    assert.deepEqual(source.classes, ['0', '1', '2']);
    assert.deepEqual([...source.train.labels], [2, 0, 1]);
    const image = await source.train.read(1, { channels: 1, shorterSide: null });
    assert.deepEqual([image.height, image.width, image.channels], [2, 4, 1]);
    assert.deepEqual([...image.data], pixels.slice(8, 16));
    assert.equal(source.test!.labels.length, 3);
  }
});

test('three channels repeat the gray value', async () => {
  const source = await openIdx(writeSet());
  const image = await source.train.read(0, { channels: 3, shorterSide: null });
  assert.deepEqual([...image.data.subarray(0, 9)], [0, 0, 0, 10, 10, 10, 20, 20, 20]);
  assert.equal(image.data.length, 24);
});

test('one of the files may be named instead of the folder', async () => {
  const folder = writeSet();
  const source = await openIdx(path.join(folder, 'train-images-idx3-ubyte'));
  assert.equal(source.location, folder);
});

test('identity follows the contents, not the compression', async () => {
  const [plain, zipped] = [await openIdx(writeSet()), await openIdx(writeSet({ zip: true }))];
  assert.equal(plain.train.identity, zipped.train.identity);
  const other = writeSet();
  put(other, 'train-labels-idx1-ubyte', idx([3], [2, 1, 1]));
  assert.notEqual((await openIdx(other)).train.identity, plain.train.identity);
});

test('damaged files are named with the reason', async () => {
  const folder = temporaryFolder();
  const cases: [Buffer, RegExp][] = [
    [idx([3, 2, 4], pixels.slice(1)), /says \[3, 2, 4\] = 24 bytes, but 23 follow/],
    [idx([2, 2, 4], pixels), /but 24 follow/],
    [idx([3], [1, 2, 3], 0x0d), /type 0xd/],
    [Buffer.from('PK\x03\x04'), /magic number/],
    [Buffer.alloc(0), /magic number/],
    [Buffer.from([0, 0, 8, 3, 0, 0]), /header is incomplete/],
    [gzipSync(idx([3], [1, 2, 3])).subarray(0, 20), /gzip, but damaged/],
    [idx([2 ** 31, 2 ** 31, 2 ** 31], []), /but 0 follow/],
  ];
  for (const [data, reason] of cases) {
    const file = put(folder, 'x-idx', data);
    await assert.rejects(readIdx(file), (error: unknown) => {
      assert.ok(error instanceof DataError);
      assert.match(error.what, reason);
      assert.equal(error.where, file);
      return true;
    });
  }
});

test('files that do not belong together are refused', async () => {
  const folder = writeSet();
  put(folder, 'train-labels-idx1-ubyte', idx([2], [0, 1]));
  await assert.rejects(openIdx(folder), /3 images, but 2 labels/);
  unlinkSync(path.join(folder, 'train-labels-idx1-ubyte'));
  await assert.rejects(
    openIdx(folder),
    /labels that belong to train-images-idx3-ubyte are missing[^]*fix: put the labels \(train-labels-idx1-ubyte\)/,
  );
  put(folder, 'train-labels-idx1-ubyte', idx([3, 2, 4], pixels));
  await assert.rejects(openIdx(folder), /expected images \[N, H, W\] and labels \[N\]/);
});

test('missing files say where to get them', async () => {
  await assert.rejects(openIdx(path.join(temporaryFolder(), 'no')), /IDX files are not there/);
  await assert.rejects(openIdx(temporaryFolder()), /no IDX training files/);
  const folder = writeSet();
  unlinkSync(path.join(folder, 't10k-images-idx3-ubyte'));
  unlinkSync(path.join(folder, 't10k-labels-idx1-ubyte'));
  const source = await openIdx(folder);
  assert.equal(source.test, null);
  assert.match(source.warnings[0]!, /no test files/);
});

// Where data is asked for, its absence is a failure (in openIdx, which names the package) and not a skip.
const noFashion =
  !existsSync(DEBIAN_FASHION_MNIST) &&
  process.env.FORNAX_REQUIRE_DATA !== '1' &&
  'needs the Debian package dataset-fashion-mnist';
test('needs data dataset-fashion-mnist: found where Debian puts it', { skip: noFashion }, async () => {
  const source = await openIdx(null);
  assert.deepEqual(source.classes, FASHION_MNIST_CLASSES);
  assert.deepEqual([source.train.labels.length, source.test!.labels.length], [60_000, 10_000]);
  const counts = new Array<number>(10).fill(0);
  for (const label of source.train.labels) counts[label]!++;
  assert.deepEqual(counts, new Array<number>(10).fill(6000));
  const boot = await source.train.read(0, { channels: 1, shorterSide: null });
  assert.equal(source.classes[source.train.labels[0]!], 'Ankle boot');
  // The first training image as every copy of the data set has it: mean 97.25.
  assert.equal(
    boot.data.reduce((sum, value) => sum + value, 0),
    76247,
  );
});
