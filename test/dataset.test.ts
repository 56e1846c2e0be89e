import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { prepareDataset, type DataConfig } from '#fornax/data/dataset.js';
import { prepareSplit } from '#fornax/data/evaluation_split.js';
import { evaluationGeometry, loaderOptions, trainingGeometry } from '#fornax/data/loader_options.js';
import { measureNormalize } from '#fornax/data/normalize.js';
import { generator, shuffle } from '#fornax/data/random.js';
import { prepareShapes } from '#fornax/data/shapes.js';
import { stratifiedLimit, stratifiedSplit } from '#fornax/data/stratified.js';
import { ConfigError, DataError } from '#fornax/errors.js';
import { testData, whyNoData } from './support/data.js';
import { classFolder, plainFile, put, temporaryFolder } from './support/images.js';
import { loadOnce } from './support/loading.js';

const cache = temporaryFolder();
const config = (path: string, more: Partial<DataConfig> = {}): DataConfig => ({
  path,
  resolution: [8, 10],
  cache,
  ...more,
});

test('the held-out share is stratified, seeded and never a whole class', () => {
  const labels = Int32Array.from({ length: 1000 }, (_, i) => (i < 900 ? 0 : i < 998 ? 1 : i - 996));
  const halves = stratifiedSplit(labels, 0.1, 5);
  const counts = (indices: Int32Array): number[] =>
    [0, 1, 2, 3].map((label) => indices.filter((i) => labels[i] === label).length);
  assert.deepEqual(counts(halves.held), [90, 10, 0, 0]);
  assert.deepEqual(
    [...halves.train, ...halves.held].sort((a, b) => a - b),
    Array.from({ length: 1000 }, (_, i) => i),
  );
  assert.deepEqual(halves.held, halves.held.slice().sort());
  assert.deepEqual(stratifiedSplit(labels, 0.1, 5).held, halves.held);
  assert.notDeepEqual(stratifiedSplit(labels, 0.1, 6).held, halves.held);
  assert.equal(
    stratifiedSplit(Int32Array.from([0, 0, 1, 1]), 0.01, 0).held.length,
    2,
    'at least one of each',
  );
});

test('a class of two gives one sample to validation, a class of one none', () => {
  const { train, held } = stratifiedSplit(Int32Array.from([0, 0, 1, 2, 2, 2]), 0.9, 1);
  assert.equal(held.length, 1 + 0 + 2);
  assert.ok(train.includes(2));
});

test('a limit keeps the proportions and is exact', () => {
  const labels = Int32Array.from({ length: 100 }, (_, i) => (i < 70 ? 0 : i < 90 ? 1 : 2));
  const all = Int32Array.from(labels.keys());
  const chosen = stratifiedLimit(labels, all, 33, 1);
  assert.equal(chosen.length, 33);
  const counts = [0, 1, 2].map((label) => chosen.filter((i) => labels[i] === label).length);
  assert.deepEqual(counts, [23, 7, 3]);
  assert.equal(stratifiedLimit(labels, all, 100, 1), all);
});

test('the small generator is uniform and independent of neighbouring keys', () => {
  const random = generator(1, 2, 3);
  const values = Array.from({ length: 20_000 }, random);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(Math.abs(mean - 0.5) < 0.01);
  assert.ok(values.every((value) => value >= 0 && value < 1));
  const firsts = new Set(Array.from({ length: 1000 }, (_, i) => generator(0, i)()));
  assert.equal(firsts.size, 1000);
  assert.notEqual(generator(1)(), generator(2 ** 32 + 1)());
  assert.deepEqual([...shuffle([1, 2, 3, 4, 5], generator(9))].sort(), [1, 2, 3, 4, 5]);
});

test('a folder with train and val is packed per split', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'train'), { a: 4, b: 3 });
  await classFolder(path.join(root, 'val'), { a: 1, b: 2 });
  const dataset = await prepareDataset(config(root));
  assert.deepEqual(dataset.classes, ['a', 'b']);
  assert.equal(dataset.channels, 3);
  assert.deepEqual([dataset.train.samples, dataset.train.classCounts], [7, [4, 3]]);
  assert.deepEqual([dataset.val!.samples, dataset.val!.classCounts], [3, [1, 2]]);
  assert.equal(dataset.train.indices, undefined);
  assert.deepEqual(dataset.train.uniformSize, [8, 10]);
  assert.equal(dataset.test, null);
  assert.deepEqual(dataset.broken, []);
  assert.deepEqual(await dataset.val!.sampleIds(), ['a/000.png', 'b/000.png', 'b/001.png']);
  assert.equal(dataset.pack.mode, 'original');
});

test('a flat folder is split by share; seed and share decide, and no new pack is made', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 10, b: 20 });
  const first = await prepareDataset(config(root, { valFraction: 0.2, seed: 1 }));
  assert.deepEqual(
    [first.train.classCounts, first.val!.classCounts],
    [
      [8, 16],
      [2, 4],
    ],
  );
  assert.equal(first.train.indices!.length, 24);
  const other = await prepareDataset(config(root, { valFraction: 0.2, seed: 2 }));
  assert.equal(other.train.pack, first.train.pack);
  assert.notDeepEqual(other.val!.indices, first.val!.indices);
  assert.notEqual(other.fingerprint, first.fingerprint);
  const again = await prepareDataset(config(root, { valFraction: 0.2, seed: 1 }));
  assert.equal(again.fingerprint, first.fingerprint);
  const none = await prepareDataset(config(root, { valFraction: 0 }));
  assert.equal(none.val, null);
  assert.equal(none.train.samples, 30);
});

test('a limit shortens training only', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 10, b: 20 });
  const dataset = await prepareDataset(config(root, { valFraction: 0.2, limit: 6 }));
  assert.deepEqual([dataset.train.samples, dataset.train.classCounts], [6, [2, 4]]);
  assert.equal(dataset.val!.samples, 6);
  assert.ok(dataset.train.indices!.every((i) => !dataset.val!.indices!.includes(i)));
});

test('the fingerprint is that of the data, wherever they lie', async () => {
  const [one, two] = [temporaryFolder(), temporaryFolder()];
  for (const root of [one, two]) await classFolder(root, { a: 3, b: 3 });
  const print = async (root: string, more: Partial<DataConfig> = {}): Promise<string> =>
    (await prepareDataset(config(root, more))).fingerprint;
  const before = await print(one);
  assert.equal(await print(two), before);
  assert.notEqual(await print(two, { channels: 1 }), before);
  assert.notEqual(await print(two, { pack: 'resized', packSize: 4 }), before);
  put(two, 'a/new.png', await plainFile(8, 10, [1, 1, 1]));
  assert.notEqual(await print(two), before);
});

test('broken files are listed with their whole paths', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 4, b: 4 });
  const bad = put(root, 'a/bad.jpg', 'text');
  const dataset = await prepareDataset(config(root));
  assert.deepEqual(
    dataset.broken.map((file) => file.path),
    [bad],
  );
  assert.equal(dataset.train.samples + dataset.val!.samples, 8);
  await assert.rejects(prepareDataset(config(root, { onBroken: 'fail' })), DataError);
});

test('auto keeps originals while there is room, and those that are packed already', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 4, b: 4 });
  const own = temporaryFolder();
  const first = await prepareDataset(config(root, { cache: own }));
  const second = await prepareDataset(config(root, { cache: own }), { freeBytes: () => Promise.resolve(0) });
  assert.equal(second.train.pack, first.train.pack);
  const roomy = await prepareDataset(config(root, { cache: temporaryFolder() }));
  assert.equal(roomy.pack.mode, 'original');
  const tight = prepareDataset(config(root, { cache: temporaryFolder() }), {
    freeBytes: () => Promise.resolve(100),
  });
  await assert.rejects(tight, /not enough disk space/);
});

test('settings that contradict the data are ConfigErrors', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 4, b: 4 });
  await assert.rejects(prepareDataset({ resolution: [8, 8] }), /data\.path is not set/);
  for (const bad of [
    { pack: 'encoded' },
    { valFraction: 1 },
    { trainSplit: 'nowhere' },
    { valSplit: 'nowhere' },
  ] as const) {
    await assert.rejects(prepareDataset(config(root, bad)), ConfigError);
  }
  const single = temporaryFolder();
  await classFolder(single, { a: 1, b: 1 });
  await assert.rejects(prepareDataset(config(single)), /no class has two images/);
});

test('the sample set is made where it is asked for', async () => {
  const own = temporaryFolder();
  const out = path.join(own, 'shapes');
  await prepareShapes({ out, count: 72, size: 16 });
  const dataset = await prepareDataset({ source: 'shapes', path: out, resolution: [16, 16], cache: own });
  assert.equal(dataset.classes.length, 6);
  assert.deepEqual([dataset.train.samples, dataset.val!.samples], [60, 12]);
});

test('IDX files are seen for what they are', async () => {
  const folder = temporaryFolder();
  const images = Buffer.from([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
  const labels = Buffer.from([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1]);
  for (const prefix of ['train', 't10k']) {
    put(folder, `${prefix}-images-idx3-ubyte`, images);
    put(folder, `${prefix}-labels-idx1-ubyte`, labels);
  }
  const dataset = await prepareDataset(config(folder, { resolution: [1, 2] }));
  assert.equal(dataset.channels, 1);
  assert.deepEqual([dataset.train.samples, dataset.val!.samples, dataset.test], [4, 4, null]);
  const held = await prepareDataset(config(folder, { resolution: [1, 2], valSplit: null, valFraction: 0.5 }));
  assert.deepEqual([held.train.samples, held.val!.samples, held.test!.samples], [2, 2, 4]);
  const split = await prepareSplit({ path: folder, resolution: [1, 2], cache, classes: ['1', '0', 'other'] });
  assert.deepEqual(split.split.classCounts, [2, 2, 0]);
  const unknown = prepareSplit({ path: folder, resolution: [1, 2], cache, classes: ['0', 'x'] });
  await assert.rejects(unknown, /does not know: '1'/);
});

test('evaluation numbers labels as the model does and refuses classes it does not know', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'train'), { a: 2, b: 2, c: 2 });
  await classFolder(path.join(root, 'test'), { b: 1, c: 3 });
  const request = { path: root, resolution: [8, 10] as const, cache };
  const known = await prepareSplit({ ...request, classes: ['c', 'b', 'a'] });
  assert.equal(path.basename(known.split.location), 'test');
  assert.deepEqual(known.split.classCounts, [3, 1, 0]);
  assert.ok(known.warnings.some((warning) => /no image of 'a'/.test(warning)));
  const direct = await prepareSplit({ ...request, path: path.join(root, 'test'), classes: ['c', 'b', 'a'] });
  assert.equal(direct.split.pack, known.split.pack);
  const named = await prepareSplit({ ...request, split: 'train', classes: ['a', 'b', 'c'] });
  assert.equal(named.split.samples, 6);
  await assert.rejects(prepareSplit({ ...request, classes: ['a', 'b'] }), /the folders 'c' are no classes/);
  await assert.rejects(prepareSplit({ ...request, split: 'val', classes: ['a'] }), /no folder 'val'/);
});

test('evaluation after training uses the pack of training', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'train'), { a: 2, b: 2 });
  await classFolder(path.join(root, 'val'), { a: 1, b: 2 });
  const dataset = await prepareDataset(config(root));
  const { split } = await prepareSplit({ ...config(root), classes: dataset.classes });
  assert.equal(split.pack, dataset.val!.pack);
});

test('mean and deviation are those of the pixels', async () => {
  const root = temporaryFolder();
  put(root, 'a/1.png', await plainFile(2, 2, [0, 51, 255]));
  put(root, 'a/2.png', await plainFile(2, 6, [255, 51, 0]));
  const { train } = await prepareDataset(config(root, { valFraction: 0 }));
  const { mean, std } = await measureNormalize(train, 3);
  const close = (actual: number[], expected: number[]): void =>
    expected.forEach((value, c) => assert.ok(Math.abs(actual[c]! - value) < 1e-9, `${actual} ≠ ${expected}`));
  close(mean, [0.75, 0.2, 0.25]);
  close(std, [Math.sqrt(0.1875), 1e-3, Math.sqrt(0.1875)]);
  const part = await measureNormalize({ ...train, indices: Int32Array.of(1), samples: 1 }, 3);
  close(part.mean, [1, 0.2, 0]);
});

test('geometry of training and evaluation', () => {
  assert.deepEqual(evaluationGeometry([224, 224]), {
    size: [224, 224],
    crop: { kind: 'resize_crop', resize: 256 },
  });
  assert.deepEqual(evaluationGeometry([32, 32], [32, 32]).crop, { kind: 'none' });
  assert.deepEqual(evaluationGeometry([32, 32], [28, 28]).crop, { kind: 'resize_crop', resize: 32 });
  assert.deepEqual(trainingGeometry([32, 32], {}, [32, 32]), {
    size: [32, 32],
    crop: { kind: 'random_crop', padding: 4 },
    hflip: 0.5,
  });
  const ratio = [3 / 4, 4 / 3];
  const config = { scale: [0.08, 1] as [number, number] };
  assert.deepEqual(
    [trainingGeometry([32, 32], config, [28, 28]).crop, trainingGeometry([96, 96], config, [96, 96]).crop],
    [
      { kind: 'random_resized_crop', scale: [0.5, 1], ratio },
      { kind: 'random_resized_crop', scale: [0.08, 1], ratio },
    ],
  );
  assert.deepEqual(trainingGeometry([32, 32], { ...config, crop: 'random_resized_crop' }, [28, 28]).crop, {
    kind: 'random_resized_crop',
    scale: [0.08, 1],
    ratio,
  });
  assert.deepEqual(trainingGeometry([224, 224], { scale: [0.3, 1], hflip: 0 }), {
    size: [224, 224],
    crop: { kind: 'random_resized_crop', scale: [0.3, 1], ratio: [3 / 4, 4 / 3] },
    hflip: 0,
  });
  assert.deepEqual(trainingGeometry([64, 64], { crop: 'resize_crop' }).crop, {
    kind: 'resize_crop',
    resize: 64,
  });
});

test('the native loader delivers exactly the packed images', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 5, b: 6 });
  const dataset = await prepareDataset(config(root, { valFraction: 0.3 }));
  const batches = await loadOnce(
    loaderOptions(dataset.val!, { channels: 3, resolution: [8, 10], batchSize: 2, seed: 0, train: false }),
  );
  const ids = await dataset.val!.sampleIds();
  const seen: number[] = [];
  for (const batch of batches) {
    assert.deepEqual(batch.shape.slice(1), [8, 10, 3]);
    batch.index.forEach((sample, b) => {
      seen.push(sample);
      const [name, file] = ids[sample]!.split('/');
      const label = name === 'a' ? 0 : 1;
      assert.equal(batch.label[b], label);
      const pixels = batch.image.subarray(b * 240, (b + 1) * 240);
      for (let p = 0; p < 240; p += 3) {
        assert.deepEqual([...pixels.subarray(p, p + 3)], [label, Number.parseInt(file!), 100]);
      }
    });
  }
  assert.deepEqual(seen, [...dataset.val!.indices!]);
});

const cifar = whyNoData('cifar10-jpeg');
test('needs data cifar10-jpeg: the test folder is packed as PIL decodes it', { skip: cifar }, async () => {
  const root = path.join(testData('cifar10-jpeg')!, 'test');
  const { split, broken } = await prepareSplit({
    path: root,
    resolution: [32, 32],
    cache,
    classes: (await fs.readdir(root)).sort(),
  });
  assert.deepEqual([split.samples, split.classCounts, broken], [10_000, new Array(10).fill(1000), []]);
  assert.deepEqual(split.uniformSize, [32, 32]);
  const { mean } = await measureNormalize(split, 3, { samples: 10_000 });
  // numpy over the same files decoded by PIL 13 (libjpeg-turbo).
  [0.494066, 0.485064, 0.450382].forEach((value, c) =>
    assert.ok(Math.abs(mean[c]! - value) < 2e-4, `${mean.join()}`),
  );
});

const trashnet = whyNoData('trashnet');
test(
  'needs data trashnet: photos are kept at their size for 224 and scaled for 64',
  { skip: trashnet },
  async () => {
    const path = testData('trashnet')!;
    const photos = await prepareDataset({ path, resolution: [224, 224], cache });
    assert.deepEqual([photos.pack.mode, photos.train.samples, photos.val!.samples], ['original', 360, 120]);
    assert.deepEqual(photos.train.uniformSize, [512, 384]);
    assert.deepEqual(photos.warnings, []);
    const small = await prepareDataset({ path, resolution: [64, 64], cache });
    assert.deepEqual([small.pack.mode, small.pack.shorterSide], ['resized', 128]);
    assert.deepEqual(small.val!.uniformSize, [171, 128]);
  },
);
