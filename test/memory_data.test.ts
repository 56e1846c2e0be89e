/** Data that a script holds in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ArgumentError, DataError, DisposedError } from '#fornax/errors.js';
import type { NativeLoader, TensorLoaderOptions } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Tensor } from '#fornax/tensor.js';
import { memoryData, type MemoryDataOptions } from '#fornax/train/memory_data.js';
import { Model } from '#fornax/model.js';
import { Conv2d, Linear } from '#fornax/nn/index.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { collect } from './support/points.js';

function open(options: Partial<TensorLoaderOptions> & Pick<TensorLoaderOptions, 'fields'>): NativeLoader {
  return new (loadAddon().Loader)({ batch_size: 3, shuffle: false, seed: 0, ...options });
}

/** The field `x` of all batches of an epoch, batch by batch. */
async function epoch(loader: NativeLoader, number = 0, skip = 0): Promise<number[][]> {
  loader.startEpoch(number, skip);
  const batches: number[][] = [];
  for (let batch = await loader.next(); batch; batch = await loader.next()) {
    batches.push(Array.from(batch.x!.toTypedArray(), Number));
  }
  return batches;
}

const ten = (): { x: ReturnType<typeof tensorOf> } => ({
  x: tensorOf(Array.from({ length: 10 }, (_, i) => i)),
});
function tensorOf(values: number[]): Tensor['native'] {
  return Tensor.from(Float32Array.from(values)).native;
}

test('a loader of tensors delivers its fields in order, or shuffled by seed and epoch', async () => {
  const inOrder = open({ fields: ten() });
  assert.deepEqual(await epoch(inOrder), [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]);
  assert.deepEqual([inOrder.batches, inOrder.samples], [4, 10]);
  assert.deepEqual(await epoch(inOrder, 0, 3), [[9]]);
  const shuffled = open({ fields: ten(), shuffle: true, seed: 5 });
  const first = await epoch(shuffled);
  assert.deepEqual(
    first.flat().sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  assert.notDeepEqual(first.flat(), (await epoch(inOrder)).flat());
  assert.notDeepEqual(await epoch(shuffled, 1), first);
  assert.deepEqual(await epoch(shuffled, 0), first);
  assert.deepEqual(await epoch(shuffled, 0, 2), first.slice(2));
});

test('indices choose samples, drop_last leaves the rest out, shards divide batches', async () => {
  const some = open({ fields: ten(), indices: Int32Array.of(7, 2, 2, 9), drop_last: true });
  assert.deepEqual(await epoch(some), [[7, 2, 2]]);
  const shards = [0, 1].map((rank) => open({ fields: ten(), batch_size: 2, shard: { rank, world: 2 } }));
  assert.deepEqual(await epoch(shards[0]!), [[0, 2], [4, 6], [8]]);
  assert.deepEqual(await epoch(shards[1]!), [[1, 3], [5, 7], [9]]);
  assert.equal(shards[0]!.samples, 5);
});

test('every field keeps its type and shape, and `index` says where a sample stands', async () => {
  const bytes = Tensor.from(
    Uint8Array.from({ length: 24 }, (_, i) => i),
    [4, 2, 3],
  ).native;
  const loader = open({
    fields: { x: bytes, flag: Tensor.from([0, 1, 1, 0], [4], { dtype: 'bool' }).native },
  });
  loader.startEpoch(0, 1);
  const batch = (await loader.next())!;
  assert.deepEqual([batch.x!.dtype, batch.x!.shape], ['uint8', [1, 2, 3]]);
  assert.deepEqual(Array.from(batch.x!.toTypedArray(), Number), [18, 19, 20, 21, 22, 23]);
  assert.deepEqual([batch.flag!.dtype, Array.from(batch.index!.toTypedArray(), Number)], ['bool', [3]]);
});

test('mistakes of a loader of tensors', async () => {
  const refused = (options: object, what: RegExp, kind = ArgumentError): void => {
    assert.throws(
      () => open({ fields: ten(), ...options }),
      (error) => error instanceof kind && what.test(error.message),
    );
  };
  refused({ fields: {} }, /fields is empty/);
  refused({ fields: { ...ten(), y: tensorOf([1, 2]) } }, /2 samples, `x` has 10/, DataError as never);
  refused({ fields: { x: Tensor.full([], 1).native } }, /first dimension/, DataError as never);
  refused({ indices: Int32Array.of(10) }, /indices holds 10/);
  refused({ batch_size: 0 }, /batch_size/);
  refused({ batch_size: 11, drop_last: true }, /no batch of 10/);
  refused({ shard: { rank: 2, world: 2 } }, /rank/);
  const loader = open({ fields: ten() });
  await assert.rejects(loader.next(), /no epoch was started/);
  assert.throws(() => loader.startEpoch(0, 5), /4 batches/);
  loader.dispose();
  assert.throws(() => loader.startEpoch(0), DisposedError);
});

test('samples come by field, one after another, or as a stream', async () => {
  const rows = [
    { x: [1, 2], label: 0, deep: new Float32Array([5, 6]) },
    { x: [3, 4], label: 1, deep: new Float32Array([7, 8]) },
  ];
  async function* stream(): AsyncGenerator<(typeof rows)[number]> {
    for (const row of rows) {
      await Promise.resolve();
      yield row;
    }
  }
  const columns = {
    x: Tensor.from([
      [1, 2],
      [3, 4],
    ]),
    label: [0, 1],
    deep: { data: new Float32Array([5, 6, 7, 8]), shape: [2, 2] },
  };
  const fingerprints: string[] = [];
  for (const train of [rows, stream(), columns]) {
    using data = await memoryData({ train });
    assert.deepEqual([data.trainSamples, data.evalSamples, data.classes], [2, null, ['0', '1']]);
    assert.deepEqual(data.fields, ['x', 'label', 'deep', 'index']);
    const { fields } = data.loaderOptions('train', { batchSize: 2, seed: 0 }) as TensorLoaderOptions;
    assert.deepEqual(
      Object.values(fields).map(({ dtype, shape }) => `${dtype} ${shape.join('x')}`),
      ['float32 2x2', 'int64 2', 'float32 2x2'],
    );
    fingerprints.push(data.fingerprint);
  }
  assert.equal(new Set(fingerprints).size, 1);
  using other = await memoryData({ train: [{ ...rows[0]!, label: 1 }, rows[1]!] });
  assert.notEqual(other.fingerprint, fingerprints[0]);
});

test('a share of every class is held out', async () => {
  const train = Array.from({ length: 40 }, (_, i) => ({ x: [i], label: i % 4 }));
  using data = await memoryData({ train, valFraction: 0.2, seed: 3 });
  assert.deepEqual([data.trainSamples, data.evalSamples], [32, 8]);
  const { indices } = data.loaderOptions('eval', { batchSize: 4, seed: 0 }) as TensorLoaderOptions;
  const held = Array.from(indices!, (i) => i % 4).sort();
  assert.deepEqual(held, [0, 0, 1, 1, 2, 2, 3, 3]);
  using numbers = await memoryData({
    train: { x: Float32Array.from({ length: 10 }), target: new Float32Array(10) },
    valFraction: 0.3,
  });
  assert.deepEqual([numbers.trainSamples, numbers.evalSamples, numbers.classes], [7, 3, []]);
});

test('images in memory carry their preprocessing into the model', async () => {
  const image = { data: Uint8Array.from({ length: 6 * 8 * 8 * 3 }, (_, i) => i % 251), shape: [6, 8, 8, 3] };
  using data = await memoryData({
    train: { image, label: [0, 1, 0, 1, 0, 1] },
    classes: ['a', 'b'],
    normalize: 'half',
  });
  using model = Model.create('tiny_cnn', { numClasses: 2, inputs: [[2, 3, 8, 8]] });
  await collect(new Trainer({ model, data, device: 'cpu', train: { epochs: 1, batchSize: 3, lr: 0.01 } }));
  assert.deepEqual(model.info.labels, ['a', 'b']);
  assert.deepEqual(model.info.preprocessing, {
    channels: 3,
    pack_size: null,
    resize: 8,
    size: [8, 8],
    normalize: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  });
});

test('ragged fields go with their offsets, whatever the order of the samples', async () => {
  const counts = [2, 0, 1, 3, 0, 1, 2];
  const offsets = counts.reduce((all, count) => [...all, all.at(-1)! + count], [0]);
  const owners = counts.flatMap((count, i) => new Array<number>(count).fill(i));
  const fields = {
    // Ragged ones first: rows are counted by another field.
    box_owner: owners.map((owner) => [owner, -owner]),
    box_offsets: offsets,
    x: counts.map((_, i) => i),
  };
  using data = await memoryData({ train: fields });
  assert.equal(data.trainSamples, 7);
  const loader = new (loadAddon().Loader)(data.loaderOptions('train', { batchSize: 4, seed: 4 }));
  loader.startEpoch(0);
  const seen: number[] = [];
  for (let batch = await loader.next(); batch; batch = await loader.next()) {
    const numbers = (name: string): number[] =>
      Array.from(batch![name]!.toTypedArray(), Number).map((value) => value + 0);
    const [x, bounds, boxes] = [numbers('x'), numbers('box_offsets'), numbers('box_owner')];
    assert.deepEqual(
      x.map((sample, i) => [counts[sample], bounds[i + 1]! - bounds[i]!]),
      x.map((sample) => [counts[sample], counts[sample]]),
    );
    assert.deepEqual(
      boxes,
      x
        .flatMap((sample) => new Array<number[]>(counts[sample]!).fill([sample, -sample]))
        .flat()
        .map((value) => value + 0),
    );
    seen.push(...x);
  }
  loader.dispose();
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.notDeepEqual(seen, [...seen].sort());
  const refused = (changes: object, what: RegExp): Promise<void> =>
    assert.rejects(
      memoryData({ train: { ...fields, ...changes } }),
      (error) => error instanceof DataError && what.test(error.message),
    );
  await refused({ box_offsets: offsets.slice(1) }, /needs 8 integers.*train\.box_/s);
  await refused({ box_offsets: offsets.map((bound) => bound + 1) }, /begin with 0/);
  await refused({ box_owner: [[1, 1]] }, /ends with 9, but 'box_owner' has 1/);
});

test('mistakes in the data name the field and the sample', async () => {
  const refused = (options: MemoryDataOptions, what: RegExp): Promise<void> =>
    assert.rejects(memoryData(options), (error) => error instanceof DataError && what.test(error.message));
  await refused({ train: [] }, /no samples.*train/s);
  await refused({ train: { x: [1, 2], y: [1] } }, /1 samples, 'x' has 2.*train\.y/s);
  await refused({ train: { x: 3 } }, /one entry for each sample/);
  await refused({ train: [{ x: [1] }, { x: [1, 2] }] }, /\[2\], the first one float32 \[1\].*sample 1, x/s);
  await refused({ train: [{ x: 1 }, { y: 1 }] }, /has y, the first one x.*sample 1/s);
  await refused({ train: [{ x: 1, label: 2 }], classes: ['a'] }, /label 2 is outside 0…0.*sample 0/s);
  await refused({ train: [{ x: 1 }], classes: ['a'] }, /no field 'label'/);
  await refused({ train: [{ x: 1, label: 0.5 }] }, /0\.5 is no integer/);
  await refused({ train: [{ x: 1 }], val: [{ x: [1, 2] }] }, /fields of train and val differ/);
  await refused({ train: [{ x: 1 }, { x: 2 }], valFraction: 1 }, /below 1/);
  await refused({ train: [{ x: ['a'] as never }] }, /only numbers|numbers/);
});

test('labels that are no class of the model are found before the first step', async () => {
  const samples = Array.from({ length: 6 }, (_, i) => ({ x: [i, 1], label: i === 4 ? 5 : i % 2 }));
  using data = await memoryData({ train: samples });
  using model = Model.create(new Linear(2, 2), { inputs: [{ name: 'x', shape: [1, 2] }] });
  const fit = async (options: Partial<TrainerOptions>): Promise<void> => {
    const trainer = new Trainer({ model, data, device: 'cpu', ...options });
    for await (const _ of trainer.fit()) continue;
  };
  const train = { epochs: 1, batchSize: 3, amp: 'off' as const };
  const refused = (what: RegExp) => (error: unknown) =>
    error instanceof DataError && what.test(error.message);
  await assert.rejects(fit({ train }), refused(/'label' is 5, but the model .* 0…1 apart.*sample 4/s));
  await assert.rejects(fit({ train: { ...train, loss: 'focal' } }), refused(/'label' is 5.*sample 4/s));
  // Two classes and what does not count.
  const masks = samples.map((_, i) => [[[0, 1, 255, i % 2].slice(0, 2), [255, 1]]].flat());
  const images = samples.map(() => [
    [
      [0, 1],
      [2, 3],
    ],
  ]);
  using pixels = await memoryData({ train: { image: images, mask: masks } });
  using segmenter = Model.create(new Conv2d(1, 2, 1), { inputs: [{ name: 'image', shape: [1, 1, 2, 2] }] });
  const segment = (loss: NonNullable<TrainerOptions['train']>['loss']): Promise<void> =>
    fit({ model: segmenter, data: pixels, train: { ...train, loss } });
  await assert.rejects(segment('dice'), refused(/'mask' is 255.*sample 0.*ignoreIndex: 255/s));
  await assert.rejects(segment('cross_entropy'), refused(/'mask' is 255/));
  await segment({ name: 'dice', ignoreIndex: 255 });
  await segment({ name: 'cross_entropy', ignoreIndex: 255 });
  await segment([
    { name: 'lovasz', ignoreIndex: 255 },
    { name: 'focal', ignoreIndex: 255, weight: 0.5 },
  ]);
});
