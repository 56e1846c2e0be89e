/** Packing: what a pack holds, when it is made anew, which samples are left out, and the space that it needs. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs, readdirSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { packSplit, type PackProgress } from '#fornax/data/pack.js';
import { openPack, packsFolder } from '#fornax/data/pack_cache.js';
import { candidates, choose, defaultPackSize, requireSpace } from '#fornax/data/pack_plan.js';
import { scanFolder } from '#fornax/data/folder.js';
import { AbortedError, ConfigError, DataError } from '#fornax/errors.js';
import { readHeader } from '#fornax/io/safetensors_header.js';
import { classFolder, plainFile, put, temporaryFolder } from './support/images.js';
import { contents, options, rgb } from './support/packing.js';
import { syntheticSplit } from './support/synthetic_split.js';

test('a pack holds every image in order, with label and size', async () => {
  const root = temporaryFolder();
  for (const [name, height, width] of [
    ['a/1.png', 3, 5],
    ['a/2.png', 7, 2],
    ['b/1.png', 1, 1],
  ] as const) {
    put(root, name, await plainFile(height, width, [height, width, 9]));
  }
  const pack = await packSplit(await scanFolder(root), rgb, options(temporaryFolder()));
  const samples = await contents(pack);
  assert.deepEqual(
    samples.map(({ label, size }) => [label, ...size]),
    [
      [0, 3, 5],
      [0, 7, 2],
      [1, 1, 1],
    ],
  );
  for (const { size, pixels } of samples) {
    assert.equal(pixels.length, size[0]! * size[1]! * 3);
    assert.deepEqual([...pixels.subarray(0, 3)], [size[0], size[1], 9]);
  }
  assert.deepEqual((await fs.readFile(path.join(pack.folder, 'samples.txt'), 'utf8')).split('\n'), [
    'a/1.png',
    'a/2.png',
    'b/1.png',
    '',
  ]);
});

test('shards are sound safetensors whose tensors are aligned and whose pixels begin on a page', async () => {
  const pack = await packSplit(
    syntheticSplit({ samples: 10, size: [3, 3] }),
    rgb,
    options(temporaryFolder(), { shardBytes: 100 }),
  );
  assert.deepEqual(
    pack.manifest.shards.map(({ samples }) => samples),
    [4, 4, 2],
  );
  for (const shard of pack.shards) {
    const header = await readHeader(shard.pixels.path); // refuses holes, overlaps and wrong lengths
    assert.deepEqual(
      header.tensors.map(({ name }) => name),
      ['pixels', 'offsets', 'sizes', 'labels'],
    );
    assert.ok(header.tensors.every(({ offset }) => offset % 8 === 0));
    assert.equal(shard.pixels.offset % 4096, 0);
    assert.equal(header.metadata.classes, '["even","odd"]');
    assert.equal(header.metadata.channels, '3');
  }
  const samples = await contents(pack);
  assert.deepEqual(
    samples.map(({ pixels }) => pixels[0]),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  assert.ok(
    samples.every(({ pixels }) => pixels.length === 27 && pixels.every((value) => value === pixels[0])),
  );
});

test('large images go past the write buffer unharmed', async () => {
  const pack = await packSplit(
    syntheticSplit({ samples: 5, size: [1500, 1000] }),
    rgb,
    options(temporaryFolder()),
  );
  const samples = await contents(pack);
  samples.forEach(({ pixels }, i) => assert.ok(pixels.length === 4_500_000 && pixels.every((v) => v === i)));
});

test('resized packs scale the shorter side down, never up, and keep to their channels', async () => {
  const root = temporaryFolder();
  put(root, 'a/large.png', await plainFile(40, 60, [255, 0, 0]));
  put(root, 'a/small.png', await plainFile(8, 6, [255, 0, 0]));
  const pack = await packSplit(
    await scanFolder(root),
    { channels: 1, shorterSide: 20 },
    options(temporaryFolder()),
  );
  const samples = await contents(pack);
  assert.deepEqual(
    samples.map(({ size }) => size),
    [
      [20, 30],
      [8, 6],
    ],
  );
  assert.ok(samples.every(({ size, pixels }) => pixels.length === size[0]! * size[1]!));
  assert.ok(samples.every(({ pixels }) => pixels.every((value) => value === 76)));
});

test('a current pack is used again without reading a sample', async () => {
  const cache = temporaryFolder();
  let reads = 0;
  const split = () => syntheticSplit({ samples: 6, onRead: () => void reads++ });
  const first = await packSplit(split(), rgb, options(cache));
  const second = await packSplit(split(), rgb, options(cache));
  assert.equal(reads, 6);
  assert.equal(second.folder, first.folder);
});

test('a stale pack is rebuilt and removed', async () => {
  const cache = temporaryFolder();
  const old = await packSplit(syntheticSplit({ samples: 4 }), rgb, options(cache));
  const fresh = await packSplit(syntheticSplit({ samples: 6, identity: 'state-2' }), rgb, options(cache));
  assert.equal(fresh.manifest.samples, 6);
  assert.ok(!existsSync(old.folder));
});

test('other settings and other data do not displace a pack', async () => {
  const cache = temporaryFolder();
  const split = syntheticSplit({ samples: 4 });
  const first = await packSplit(split, rgb, options(cache));
  await packSplit(split, { channels: 1, shorterSide: null }, options(cache));
  await packSplit(split, { channels: 3, shorterSide: 2 }, options(cache));
  await packSplit({ ...split, classes: ['odd', 'even'] }, rgb, options(cache));
  await packSplit(syntheticSplit({ samples: 4, location: '/synthetic/val' }), rgb, options(cache));
  assert.ok(await openPack(first.folder, first.manifest.key));
  assert.equal(readdirSync(packsFolder(cache)).length, 5);
});

test('editing an image of a folder leads to a new pack', async () => {
  const [root, cache] = [temporaryFolder(), temporaryFolder()];
  await classFolder(root, { a: 2 });
  const before = await packSplit(await scanFolder(root), rgb, options(cache));
  put(root, 'a/000.png', await plainFile(8, 12, [77, 77, 77]));
  const after = await packSplit(await scanFolder(root), rgb, options(cache));
  assert.notEqual(after.folder, before.folder);
  const samples = await contents(after);
  assert.equal(samples[0]!.pixels[0], 77);
});

test('a damaged pack is rebuilt', async () => {
  const cache = temporaryFolder();
  const split = syntheticSplit({ samples: 4 });
  const pack = await packSplit(split, rgb, options(cache));
  const shard = pack.shards[0]!.pixels.path;
  truncateSync(shard, 4100);
  assert.equal(await openPack(pack.folder), null);
  assert.equal((await contents(await packSplit(split, rgb, options(cache)))).length, 4);
  await fs.rm(shard);
  assert.equal((await contents(await packSplit(split, rgb, options(cache)))).length, 4);
  await fs.writeFile(path.join(pack.folder, 'pack.json'), '{"format": 1');
  assert.equal((await contents(await packSplit(split, rgb, options(cache)))).length, 4);
});

test('broken files are listed and left out, or stop the job, by policy', async () => {
  const [root, cache] = [temporaryFolder(), temporaryFolder()];
  await classFolder(root, { a: 3, b: 2 });
  put(root, 'a/001.png', 'not an image');
  put(root, 'b/zero.jpg', '');
  const pack = await packSplit(await scanFolder(root), rgb, options(cache));
  assert.deepEqual(
    pack.manifest.broken.map(({ path: file }) => file),
    ['a/001.png', 'b/zero.jpg'],
  );
  assert.match(pack.manifest.broken[0]!.reason, /it is text/);
  assert.match(pack.manifest.broken[1]!.reason, /empty/);
  const samples = await contents(pack);
  assert.deepEqual(
    samples.map(({ label, pixels }) => [label, pixels[1]]),
    [
      [0, 0],
      [0, 2],
      [1, 0],
      [1, 1],
    ],
  );
  for (const fresh of [false, true]) {
    const where = fresh ? temporaryFolder() : cache; // also where the pack made under `skip` stands
    await assert.rejects(
      packSplit(await scanFolder(root), rgb, options(where, { onBroken: 'fail' })),
      (error: unknown) => {
        assert.ok(error instanceof DataError);
        assert.equal(error.where, path.join(root, 'a/001.png'));
        assert.match(error.fix!, /on_broken: skip/);
        return true;
      },
    );
    if (fresh) assert.deepEqual(readdirSync(packsFolder(where)), []);
  }
});

test('only broken files is an error under either policy', async () => {
  const root = temporaryFolder();
  put(root, 'a/1.jpg', 'no');
  put(root, 'a/2.jpg', '');
  await assert.rejects(
    packSplit(await scanFolder(root), rgb, options(temporaryFolder())),
    /none of the 2 images can be read[^]*1\.jpg: it is text/,
  );
});

test('an error that says nothing about the file is not taken for a broken file', async () => {
  const split = syntheticSplit({
    samples: 3,
    onRead: () => {
      throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    },
  });
  await assert.rejects(packSplit(split, rgb, options(temporaryFolder())), { code: 'EMFILE' });
});

test('progress counts samples and bytes up to the end', async () => {
  const seen: PackProgress[] = [];
  await packSplit(
    syntheticSplit({ samples: 50 }),
    rgb,
    options(temporaryFolder(), { onProgress: (progress) => seen.push(progress) }),
  );
  assert.deepEqual(seen.at(-1), { split: 'train', done: 50, total: 50, bytes: 50 * 4 * 6 * 3 });
  assert.ok(seen.every((progress, i) => i === 0 || progress.done > seen[i - 1]!.done));
});

test('an AbortSignal stops packing and leaves nothing', async () => {
  const cache = temporaryFolder();
  const stop = new AbortController();
  const split = syntheticSplit({ samples: 1000, onRead: (i) => void (i === 20 && stop.abort()) });
  await assert.rejects(packSplit(split, rgb, options(cache, { signal: stop.signal })), AbortedError);
  assert.deepEqual(readdirSync(packsFolder(cache)), []);
});

test('space is checked before anything is written', async () => {
  const cache = temporaryFolder();
  const split = syntheticSplit({ samples: 1000, size: [1000, 1000] });
  let reads = 0;
  await assert.rejects(
    packSplit(
      { ...split, read: (i, settings) => (reads++, split.read(i, settings)) },
      rgb,
      options(cache, { freeBytes: () => Promise.resolve(2 ** 30) }),
    ),
    (error: unknown) => {
      assert.ok(error instanceof DataError);
      assert.match(error.what, /needs about 3\.0 GiB, has 1\.0 GiB free/);
      assert.match(error.fix!, /FORNAX_CACHE/);
      return true;
    },
  );
  assert.equal(reads, 0);
  await requireSpace(split, rgb, cache, () => Promise.resolve(4 * 2 ** 30));
});

test('a disk that fills up on the way gives the same error and leaves nothing', async () => {
  const cache = temporaryFolder();
  const split = syntheticSplit({
    samples: 5,
    onRead: (i) => {
      if (i === 3) throw Object.assign(new Error('write'), { code: 'ENOSPC' });
    },
  });
  await assert.rejects(packSplit(split, rgb, options(cache)), /not enough disk space for the pack/);
  assert.deepEqual(readdirSync(packsFolder(cache)), []);
});

test('encoded packs are refused with what to use instead', () => {
  assert.throws(
    () => candidates({ pack: 'encoded', channels: 3, resolution: [224, 224] }),
    (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.what, /encoded is not available/);
      assert.match(error.fix!, /resized/);
      return true;
    },
  );
});

test('auto keeps small originals that fit and resizes the rest', async () => {
  const request = { pack: 'auto', channels: 3, resolution: [224, 224] } as const;
  const room = (free: number) => (bytes: number) => Promise.resolve(bytes <= free);
  const decide = async (size: [number, number], samples: number, free = 2 ** 40) =>
    (await choose([syntheticSplit({ samples, size })], request, room(free))).shorterSide;
  assert.equal(defaultPackSize([224, 224]), 448);
  assert.equal(defaultPackSize([32, 32]), 64);
  assert.equal(defaultPackSize([100, 40]), 224);
  assert.equal(await decide([384, 512], 480), null);
  assert.equal(await decide([3000, 4000], 10), 448, 'large photos');
  assert.equal(await decide([500, 500], 10_000), 448, '7 GiB are more than 4');
  assert.equal(await decide([500, 500], 100, 2 ** 20), 448, 'no room');
  const fixed = { ...request, pack: 'resized', packSize: 100 } as const;
  assert.equal((await choose([syntheticSplit({ samples: 1 })], fixed, room(0))).shorterSide, 100);
  const original = { ...request, pack: 'original' } as const;
  assert.equal(
    (await choose([syntheticSplit({ samples: 1, size: [9000, 9000] })], original, room(0))).shorterSide,
    null,
  );
});
