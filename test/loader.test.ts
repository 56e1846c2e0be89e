import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, describe, it } from 'node:test';
import { ArgumentError, DataError, DeviceError, DisposedError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import type { LoaderOptions } from '#fornax/native/contract.js';
import { loadOnce, nextBatch, openLoader, runEpoch } from './support/loading.js';
import { makeImage, writeShard } from './support/pack_files.js';
import { philox, shuffled } from './support/philox.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-loader-'));
after(() => rmSync(folder, { recursive: true }));

// 50 images in two shards; every pixel of sample i is derived from i.
const image = (i: number) => makeImage(8, 10, 3, i % 7, (y, x, c) => (i * 5 + y * 3 + x * 7 + c) % 256);
const samples = Array.from({ length: 50 }, (_, i) => i);
const shards = [
  writeShard(folder, 'a', samples.slice(0, 20).map(image)),
  writeShard(folder, 'b', samples.slice(20).map(image)),
];
const plain: LoaderOptions = {
  shards,
  channels: 3,
  batch_size: 8,
  shuffle: false,
  seed: 7,
  augment: { size: [8, 10], crop: { kind: 'none' } },
};
const augmented: LoaderOptions = {
  ...plain,
  shuffle: true,
  augment: {
    size: [6, 6],
    crop: { kind: 'random_resized_crop', scale: [0.2, 1], ratio: [0.75, 1.333] },
    hflip: 0.5,
  },
};
const indices = (batches: { index: number[] }[]) => batches.flatMap((batch) => batch.index);

describe('Philox', () => {
  it('gives the published answers', () => {
    // kat_vectors of Random123, philox4x32 with 10 rounds
    assert.deepEqual(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    assert.deepEqual(
      philox([ones, ones, ones, ones], [ones, ones]),
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    );
  });
});

describe('a loader', () => {
  it('delivers images, labels and indices unchanged and in order', async () => {
    const loader = openLoader(plain);
    assert.equal(loader.batches, 7);
    assert.equal(loader.samples, 50);
    const batches = await runEpoch(loader, 0);
    loader.dispose();
    assert.deepEqual(
      batches.map((batch) => batch.shape),
      [...Array.from({ length: 6 }, () => [8, 8, 10, 3]), [2, 8, 10, 3]],
    );
    assert.deepEqual(indices(batches), samples);
    assert.deepEqual(
      batches.flatMap((batch) => batch.label),
      samples.map((i) => i % 7),
    );
    for (const batch of batches) {
      const expected = Buffer.concat(batch.index.map((i) => image(i).pixels));
      assert.deepEqual(Buffer.from(batch.image), expected);
    }
  });

  it('delivers gray images', async () => {
    const gray = [makeImage(4, 5, 1, 3, (y, x) => y * 5 + x)];
    const [batch] = await loadOnce({
      ...plain,
      shards: [writeShard(folder, 'gray', gray)],
      channels: 1,
      augment: { size: [4, 5], crop: { kind: 'none' } },
    });
    assert.deepEqual(batch!.shape, [1, 4, 5, 1]);
    assert.deepEqual([...batch!.image], samples.slice(0, 20));
  });

  it('normalises to channels-first float32', async () => {
    const normalize = { mean: [0.1, 0.2, 0.3], std: [0.5, 0.25, 2] };
    const bytes = await loadOnce(plain);
    const floats = await loadOnce({ ...plain, normalize });
    for (const [b, batch] of floats.entries()) {
      const [n, c, h, w] = batch.shape as [number, number, number, number];
      assert.deepEqual([n, c, h, w], [bytes[b]!.shape[0], 3, 8, 10]);
      for (let i = 0; i < batch.image.length; i++) {
        const channel = Math.floor(i / (h * w)) % 3;
        const sample = Math.floor(i / (3 * h * w));
        const pixel = bytes[b]!.image[(sample * h * w + (i % (h * w))) * 3 + channel]!;
        const expected = (pixel / 255 - normalize.mean[channel]!) / normalize.std[channel]!;
        assert.ok(
          Math.abs(batch.image[i]! - expected) < 1e-5,
          `element ${i}: ${batch.image[i]}, ${expected}`,
        );
      }
    }
  });

  it('takes only the samples asked for', async () => {
    const wanted = Int32Array.of(49, 3, 20, 19, 3);
    const batches = await loadOnce({ ...plain, indices: wanted, batch_size: 2 });
    assert.deepEqual(indices(batches), [...wanted]);
  });

  it('leaves out an incomplete last batch if asked to', async () => {
    const loader = openLoader({ ...plain, drop_last: true });
    assert.equal(loader.batches, 6);
    assert.equal(loader.samples, 48);
    assert.deepEqual(indices(await runEpoch(loader, 0)), samples.slice(0, 48));
    loader.dispose();
  });

  it('shuffles by the permutation of (seed, epoch)', async () => {
    const loader = openLoader({ ...plain, shuffle: true, seed: 2 ** 40 + 5 });
    for (const epoch of [0, 1, 77]) {
      assert.deepEqual(indices(await runEpoch(loader, epoch)), shuffled(samples, 2 ** 40 + 5, epoch));
    }
    loader.dispose();
    const orders = [shuffled(samples, 1, 0), shuffled(samples, 1, 1), shuffled(samples, 2, 0)];
    for (const order of orders)
      assert.deepEqual(
        [...order].sort((a, b) => a - b),
        samples,
      );
    assert.equal(new Set(orders.map(String)).size, 3);
  });

  it('delivers the same whatever the number of threads, the prefetch and the batches before', async () => {
    const expected = await loadOnce({ ...augmented, threads: 1, prefetch: 1 }, 3);
    assert.equal(new Set(expected.map((batch) => String(batch.image))).size, 7);
    for (const [threads, prefetch] of [
      [2, 1],
      [2, 4],
      [4, 3],
      [8, 16],
    ]) {
      const loader = openLoader({ ...augmented, threads, prefetch });
      for (let round = 0; round < 10; round++) {
        assert.deepEqual(await runEpoch(loader, 3), expected, `${threads} threads, prefetch ${prefetch}`);
      }
      loader.dispose();
    }
  });

  it('draws another augmentation in every epoch', async () => {
    const loader = openLoader({ ...augmented, shuffle: false });
    const [first, second] = [await runEpoch(loader, 0), await runEpoch(loader, 1)];
    loader.dispose();
    assert.deepEqual(indices(first), indices(second));
    assert.notDeepEqual(first[0]!.image, second[0]!.image);
  });

  it('augments a sample the same way alone and among others', async () => {
    const all = await loadOnce({ ...augmented, shuffle: false, batch_size: 50 });
    const some = await loadOnce({ ...augmented, shuffle: false, batch_size: 50, indices: Int32Array.of(31) });
    const size = 6 * 6 * 3;
    assert.deepEqual(some[0]!.image, all[0]!.image.slice(31 * size, 32 * size));
  });

  it('resumes an epoch with skip', async () => {
    const loader = openLoader(augmented);
    const whole = await runEpoch(loader, 2);
    assert.deepEqual(await runEpoch(loader, 2, 4), whole.slice(4));
    assert.deepEqual(await runEpoch(loader, 2, 7), []);
    assert.throws(() => loader.startEpoch(2, 8), ArgumentError);
    loader.dispose();
  });

  it('restarts in the middle of an epoch', async () => {
    const loader = openLoader({ ...augmented, threads: 3 });
    const whole = await runEpoch(loader, 1);
    for (let taken = 0; taken < 7; taken++) {
      loader.startEpoch(0);
      for (let i = 0; i < taken; i++) await nextBatch(loader);
      assert.deepEqual(await runEpoch(loader, 1), whole);
    }
    loader.dispose();
  });

  it('stays at its end, and answers several next() in order', async () => {
    const loader = openLoader(plain);
    let refused = 0;
    // On a busy machine all are answered before the next line, once in a while.
    for (let round = 0; round < 50 && refused === 0; round++) {
      loader.startEpoch(0);
      const pending = Array.from({ length: 9 }, () => nextBatch(loader));
      try {
        loader.startEpoch(1);
      } catch (error) {
        assert.ok(error instanceof ArgumentError);
        refused++;
      }
      const batches = await Promise.all(pending);
      assert.deepEqual(
        batches.map((batch) => batch?.index[0]),
        [0, 8, 16, 24, 32, 40, 48, undefined, undefined],
      );
    }
    assert.equal(refused, 1, 'an epoch does not begin while batches of another one are awaited');
    loader.dispose();
  });

  it('does not reuse the memory of a batch that is still held', async () => {
    const loader = openLoader({ ...plain, threads: 2, prefetch: 2 });
    const held = [];
    for (let epoch = 0; epoch < 4; epoch++) {
      loader.startEpoch(epoch);
      for (let batch = await loader.next(); batch; batch = await loader.next()) held.push(batch);
    }
    for (const [i, batch] of held.entries()) {
      const first = (i % 7) * 8;
      assert.deepEqual(
        Buffer.from(batch.image!.toTypedArray() as Uint8Array).subarray(0, 240),
        Buffer.from(image(first).pixels),
      );
      for (const tensor of Object.values(batch)) tensor.dispose();
    }
    loader.dispose();
  });

  it('sleeps while its ring is full', async () => {
    const loader = openLoader({ ...augmented, threads: 4, prefetch: 2 });
    loader.startEpoch(0);
    // The ring fills up first, and whatever else goes on in this process comes to rest.
    const work: number[] = [];
    do {
      const before = process.cpuUsage();
      await sleep(400);
      const { user, system } = process.cpuUsage(before);
      work.push((user + system) / 1000);
    } while (work.at(-1)! >= 200 && work.length < 25);
    loader.dispose();
    // Four spinning threads would take at least 400 ms, in every window.
    assert.ok(work.at(-1)! < 200, `ms of work in windows of 400 ms: ${work.join(', ')}`);
  });

  it('refuses page-locked memory where there is no CUDA', (t) => {
    if (loadAddon().systemInfo().cuda.available) return t.skip('there is a CUDA device');
    assert.throws(() => openLoader({ ...plain, pin: true }), DeviceError);
  });

  it('refuses next() before the first epoch', async () => {
    const loader = openLoader(plain);
    await assert.rejects(loader.next(), ArgumentError);
    loader.dispose();
  });

  it('can be disposed in the middle of an epoch, also twice, and is of no use afterwards', async () => {
    const loader = openLoader({ ...augmented, threads: 4, prefetch: 2 });
    loader.startEpoch(0);
    const kept = await loader.next();
    loader.dispose();
    loader.dispose();
    assert.equal(loader.disposed, true);
    await assert.rejects(loader.next(), DisposedError);
    assert.throws(() => loader.startEpoch(0), DisposedError);
    assert.throws(() => loader.batches, DisposedError);
    assert.deepEqual(kept!.image!.shape, [8, 6, 6, 3]);
    assert.equal((kept!.image!.toTypedArray() as Uint8Array).length, 8 * 108);
  });

  it('rejects what is pending when it is disposed', async () => {
    const loader = openLoader(plain);
    loader.startEpoch(0);
    const pending = Promise.allSettled(Array.from({ length: 50 }, () => loader.next()));
    loader.dispose();
    for (const result of await pending) {
      if (result.status === 'rejected')
        assert.ok(result.reason instanceof DisposedError, String(result.reason));
    }
  });

  it('reports a pack that was truncated while in use', async () => {
    const big = samples.map((i) => makeImage(64, 64, 3, 0, () => i));
    const shard = writeShard(folder, 'shrinking', big);
    const options: LoaderOptions = {
      ...plain,
      shards: [shard],
      batch_size: 1,
      threads: 1,
      prefetch: 2,
      augment: { size: [64, 64], crop: { kind: 'none' } },
    };
    const loader = openLoader(options);
    loader.startEpoch(0);
    await untilLoaderSleeps(); // the ring is full, nobody reads
    truncateSync(shard.pixels.path, 4096);
    const error = await runAll(loader).then(
      () => assert.fail('the epoch went through'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof DataError, String(error));
    assert.equal(error.where, shard.pixels.path);
    await assert.rejects(loader.next(), DataError);
    assert.throws(() => loader.startEpoch(1), DataError);
    loader.dispose();
  });
});

/** Until the threads of loaders have slept for a while: they have nothing to do. */
async function untilLoaderSleeps(): Promise<void> {
  for (let asleep = 0; asleep < 10;) {
    await sleep(10);
    const states = readdirSync('/proc/self/task').flatMap((task) => {
      const [, name, state] = /\((.*)\) (.)/.exec(readFileSync(`/proc/self/task/${task}/stat`, 'utf8'))!;
      return name === 'fornax-loader' ? [state] : [];
    });
    assert.ok(states.length > 0, 'a loader has a thread');
    asleep = states.every((state) => state === 'S') ? asleep + 1 : 0;
  }
}

async function runAll(loader: ReturnType<typeof openLoader>): Promise<void> {
  while (await nextBatch(loader));
}
