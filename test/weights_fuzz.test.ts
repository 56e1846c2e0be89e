/**
 * The readers of weights against 10,000 damaged files each: every one is refused with a WeightsError, or read into
 * a directory whose tensors lie within the file. Half are damaged anywhere, half in the pickle or the header, and
 * some are cut off.
 */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { WeightsError } from '#fornax/errors.js';
import { encodeHeader, parseHeader } from '#fornax/io/safetensors_header.js';
import { loadAddon } from '#fornax/native.js';
import type { FileTensor } from '#fornax/native/contract.js';
import { bytesOf } from '#fornax/weights/byte_source.js';
import { readPickledWeights } from '#fornax/weights/read_weights.js';
import type { TensorDirectory } from '#fornax/weights/tensor_directory.js';

import { temporaryFolder } from './support/image_folder.js';
import { call, floats, global, instance, legacy, pth, tensor, tuple } from './support/weights_files.js';

const MUTATIONS = 10_000;
/** Of those that are read, so many are also loaded natively. */
const LOADED = 200;

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => (state = (state * 48271) % 2147483647) % below;
}

/** Bytes that mean something to the formats. */
const NASTY = [
  0x00, 0x01, 0x28, 0x29, 0x2e, 0x52, 0x55, 0x62, 0x63, 0x64, 0x68, 0x71, 0x7d, 0x7f, 0x80, 0x81, 0x85, 0x8a,
  0x8c, 0xff,
];

function mutate(data: Buffer, focus: readonly [number, number], random: (below: number) => number): Buffer {
  const [begin, end] = random(2) === 0 ? [0, data.length] : focus;
  const place = (): number => begin + random(Math.max(1, end - begin));
  let result = Buffer.from(data);
  for (let count = 1 + random(3); count > 0; count--) {
    const at = Math.min(place(), result.length - 1);
    const from = Math.min(place(), result.length - 1);
    switch (random(8)) {
      case 0:
        result[at] = NASTY[random(NASTY.length)]!;
        break;
      case 1:
        result[at] = result[at]! ^ (1 << random(8));
        break;
      case 2:
        result[at] = random(256);
        break;
      case 3: // a number, as lengths and offsets are written
        if (at + 4 <= result.length)
          result.writeUInt32LE([0, 1, 0x7fffffff, 0xffffffff, result.length][random(5)]!, at);
        break;
      case 4:
        result = Buffer.concat([
          result.subarray(0, at),
          result.subarray(Math.min(result.length, at + 1 + random(8))),
        ]);
        break;
      case 5: // something of the file, once more
        result = Buffer.concat([
          result.subarray(0, at),
          result.subarray(from, from + random(30)),
          result.subarray(at),
        ]);
        break;
      case 6:
        result.copy(result, at, from, Math.min(result.length, from + random(40)));
        break;
      default:
        if (random(4) === 0) result = result.subarray(0, at);
        else result[at] = random(256);
    }
    if (result.length === 0) return result;
  }
  return result;
}

function checkDirectory(tensors: readonly FileTensor[], size: number): void {
  for (const { name, offset, length, shape, strides } of tensors) {
    assert.ok(offset >= 0 && length >= 0 && offset + length <= size, `'${name}' lies outside the file`);
    assert.ok(shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0));
    assert.ok((strides ?? []).every((stride) => Number.isSafeInteger(stride) && stride >= 0));
  }
}

async function fuzz(
  name: string,
  sound: Buffer,
  focus: readonly [number, number],
  read: (data: Buffer) => Promise<Pick<TensorDirectory, 'tensors'> | null>,
): Promise<void> {
  assert.ok((await read(sound))!.tensors.length > 0, 'the undamaged file is read');
  const random = generator(20_240_717);
  const before = process.memoryUsage().rss;
  const file = path.join(root.path, name);
  let refused = 0;
  let loaded = 0;
  for (let i = 0; i < MUTATIONS; i++) {
    const data = mutate(sound, focus, random);
    try {
      const directory = await read(data);
      if (directory === null) continue;
      checkDirectory(directory.tensors, data.length);
      const elements = directory.tensors.reduce(
        (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
        0,
      );
      if (loaded < LOADED && elements < 1e6) {
        loaded++;
        await fs.writeFile(file, data);
        const handles = await loadAddon().readTensors(file, directory.tensors);
        for (const handle of handles) handle.dispose();
      }
    } catch (error) {
      if (!(error instanceof WeightsError)) assert.fail(`mutation ${i}: ${(error as Error).stack}`);
      refused++;
    }
  }
  assert.ok(refused > MUTATIONS / 10, `${refused} were refused`);
  assert.ok(loaded === LOADED, `${loaded} were loaded`);
  const grown = process.memoryUsage().rss - before;
  assert.ok(grown < 500e6, `grew by ${Math.round(grown / 1e6)} MB`);
}

const six = floats(0, 1, 2, 3, 4, 5);
const matrix = { key: '0', elements: 6, shape: [2, 3], strides: [3, 1] };
const row = { key: '1', elements: 6, shape: [3], strides: [2], offset: 1 };

function checkpoint(old: boolean): unknown {
  return {
    epoch: 3,
    state_dict: call(global('collections', 'OrderedDict'), [
      tuple('conv.weight', tensor(matrix, old)),
      tuple('conv.bias', tensor(row, old)),
    ]),
    args: instance(global('argparse', 'Namespace'), { lr: 1, name: 'x' }),
    optimizer: { state: {}, param_groups: [{ params: [0, 1] }] },
  };
}

const storages = { 0: six, 1: six };

test('zip archives', async () => {
  const sound = pth(checkpoint(false), storages, { byteorder: 'little' });
  await fuzz('fuzz.pth', sound, [40, sound.indexOf('archive/byteorder')], (data) =>
    readPickledWeights(bytesOf(data)),
  );
});

test('legacy files', async () => {
  const parts = [0, 1].map((key) => ({ key: String(key), elements: 6, data: six }));
  const sound = legacy(checkpoint(true), parts);
  await fuzz('fuzz.th', sound, [20, sound.length - 60], (data) => readPickledWeights(bytesOf(data)));
});

test('TorchScript archives', async () => {
  const child = instance(global('__torch__.torch.nn.Conv2d', 'Conv2d'), {
    weight: tensor(matrix),
    training: false,
  });
  const value = instance(global('__torch__', 'Net'), { conv: child, scale: tensor(row), sizes: [1, 2] });
  const sound = pth(value, storages, { script: true });
  await fuzz('fuzz.pt', sound, [40, sound.indexOf('archive/code')], (data) =>
    readPickledWeights(bytesOf(data)),
  );
});

test('safetensors', async () => {
  const { header } = encodeHeader(
    [
      { name: 'conv.weight', dtype: 'float32', shape: [2, 3] },
      { name: 'conv.bias', dtype: 'float32', shape: [6] },
    ],
    { format: 'pt' },
  );
  const sound = Buffer.concat([header, six, six]);
  // As readHeader does it, without a file for each.
  await fuzz('fuzz.safetensors', sound, [8, header.length], (data) => {
    if (data.length < 8) throw new WeightsError('too short');
    const length = data.readBigUInt64LE(0);
    if (length > BigInt(data.length - 8)) throw new WeightsError('too short');
    return Promise.resolve(parseHeader(data.subarray(8, 8 + Number(length)), data.length, 'fuzz'));
  });
});
