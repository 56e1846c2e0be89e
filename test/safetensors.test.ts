/** Safetensors files: what is written can be read, by others too, and nothing unsound is accepted. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { FornaxError, WeightsError } from '#fornax/errors.js';
import { readSafetensors, writeSafetensors } from '#fornax/io/safetensors.js';
import { encodeHeader, parseHeader, readHeader } from '#fornax/io/safetensors_header.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

/** A file with the given header text and so many bytes of data. */
async function fileWith(header: string, dataBytes: number): Promise<string> {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = path.join(root.path, `${createHash('sha1').update(header).digest('hex')}.safetensors`);
  await fs.writeFile(file, Buffer.concat([length, json, Buffer.alloc(dataBytes)]));
  return file;
}

async function refused(header: string, dataBytes: number, reason: RegExp): Promise<void> {
  const file = await fileWith(header, dataBytes);
  await assert.rejects(readSafetensors(file), (error) => {
    assert.ok(error instanceof WeightsError, String(error));
    assert.match(error.message, reason);
    assert.ok(error.message.includes(file), 'the message names the file');
    return true;
  });
}

test('tensors of every dtype come back as they were written', async () => {
  const file = path.join(root.path, 'round.safetensors');
  const values = [0, 1, 2, 3, 4, 5];
  const written = new Map<string, Tensor>();
  for (const dtype of [
    'float32',
    'float64',
    'float16',
    'bfloat16',
    'int64',
    'int32',
    'int16',
    'int8',
    'uint8',
  ] as const) {
    written.set(dtype, Tensor.from(values, [2, 3], { dtype }));
  }
  written.set('bool', Tensor.from([1, 0, 1], [3], { dtype: 'bool' }));
  written.set('scalar', Tensor.from(7));
  written.set('empty', Tensor.zeros([0, 4]));
  const { sha256, bytes } = await writeSafetensors(
    file,
    [...written].map(([name, tensor]) => [name, tensor.native] as const),
    { format: 'pt', note: 'ünïcode "quoted"' },
  );
  const contents = await fs.readFile(file);
  assert.equal(contents.length, bytes);
  assert.equal(createHash('sha256').update(contents).digest('hex'), sha256);

  const { tensors, metadata } = await readSafetensors(file);
  assert.deepEqual(metadata, { format: 'pt', note: 'ünïcode "quoted"' });
  assert.deepEqual([...tensors.keys()], [...written.keys()]);
  for (const [name, tensor] of tensors) {
    assert.equal(tensor.dtype, written.get(name)!.dtype);
    assert.deepEqual(tensor.shape, written.get(name)!.shape);
    assert.deepEqual(tensor.toTypedArray(), written.get(name)!.toTypedArray());
  }
});

test('the layout is that of the format: little-endian length, JSON, bytes without gaps', async () => {
  const file = path.join(root.path, 'layout.safetensors');
  await writeSafetensors(file, [
    ['b', Tensor.from([1, 2]).native],
    ['0', Tensor.from([3], [1], { dtype: 'int64' }).native],
  ]);
  const contents = await fs.readFile(file);
  const length = Number(contents.readBigUInt64LE(0));
  const header = JSON.parse(contents.toString('utf8', 8, 8 + length)) as Record<string, unknown>;
  assert.deepEqual(header, {
    b: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
    '0': { dtype: 'I64', shape: [1], data_offsets: [8, 16] },
  });
  const data = contents.subarray(8 + length);
  assert.equal(data.readFloatLE(0), 1);
  assert.equal(data.readFloatLE(4), 2);
  assert.equal(data.readBigInt64LE(8), 3n);
  assert.equal((8 + length) % 64, 0);
});

test('a failed write leaves the old file and no rubbish', async () => {
  const folder = path.join(root.path, 'failing');
  await fs.mkdir(folder);
  const file = path.join(folder, 'model.safetensors');
  await writeSafetensors(file, [['a', Tensor.from([1]).native]]);
  const before = await fs.readFile(file);
  const gone = Tensor.from([2]);
  gone.dispose();
  await assert.rejects(async () => writeSafetensors(file, [['a', gone.native]]), FornaxError);
  assert.deepEqual(await fs.readFile(file), before);
  assert.deepEqual(await fs.readdir(folder), ['model.safetensors']);
  const below = path.join(file, 'x.safetensors');
  await assert.rejects(
    writeSafetensors(below, [['a', Tensor.from([1]).native]]),
    (error) => error instanceof FornaxError && /a part of the path is a file/.test(error.message),
  );
});

test('a file that is missing, too short or no file is refused', async () => {
  await assert.rejects(readSafetensors(path.join(root.path, 'nothing')), /does not exist/);
  await assert.rejects(readSafetensors(root.path), WeightsError);
  const short = path.join(root.path, 'short');
  await fs.writeFile(short, 'abc');
  await assert.rejects(readSafetensors(short), WeightsError);
  const huge = path.join(root.path, 'huge');
  await fs.writeFile(huge, Buffer.concat([Buffer.alloc(8, 0xff), Buffer.from('{}')]));
  await assert.rejects(readSafetensors(huge), /header of 18446744073709551615 bytes/);
});

test('unsound headers are refused with their reason', async () => {
  const entry = (begin: number, end: number, shape = '[2]', dtype = '"F32"'): string =>
    `{"dtype":${dtype},"shape":${shape},"data_offsets":[${begin},${end}]}`;
  await refused(`{"a":${entry(0, 8)},"b":${entry(4, 12)}}`, 12, /'a' and 'b' overlap/);
  await refused(`{"a":${entry(0, 8)},"b":${entry(12, 20)}}`, 20, /hole of 4 bytes before 'b'/);
  await refused(`{"a":${entry(0, 8)}}`, 12, /4 bytes at its end belong to no tensor/);
  await refused(`{"a":${entry(0, 8)}}`, 4, /claims the bytes 0…8/);
  await refused(`{"a":${entry(8, 0)}}`, 8, /claims the bytes/);
  await refused(`{"a":${entry(0, 8, '[3]')}}`, 8, /needs 12 bytes, its range has 8/);
  await refused(`{"a":${entry(0, 8, '[-2]')}}`, 8, /no valid shape/);
  await refused(`{"a":${entry(0, 8, '[1.5]')}}`, 8, /no valid shape/);
  await refused(`{"a":${entry(0, 8, '[4294967296,4294967296,4294967296]')}}`, 8, /too many elements/);
  await refused(`{"a":${entry(0, 8, '[2]', '"F31"')}}`, 8, /unknown dtype "F31"/);
  await refused(`{"a":${entry(0, 8, '[2]', '"constructor"')}}`, 8, /unknown dtype/);
  await refused(`{"a":${entry(0, 8)},"a":${entry(0, 8)}}`, 8, /'a' occurs twice/);
  await refused(`{"a":${entry(0, 8)},"\\u0061":${entry(0, 8)}}`, 8, /'a' occurs twice/);
  await refused(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}`, 8, /unknown key 'more'/);
  await refused(`{"__metadata__":{"a":1}}`, 0, /metadata 'a' is no string/);
  await refused(`{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`, 0, /nested deeper/);
  // Names go to terminals: as text, not as commands for them.
  await refused(`{"\\u001b[2Ja":${entry(0, 8)}}`, 4, /'\\u001b\[2Ja' claims/);
  await refused(`[]`, 0, /does not begin with \{/);
  await refused(`{"a":}`, 0, /not sound JSON/);
});

test('names that mean something to JavaScript are names like any other', async () => {
  const file = path.join(root.path, 'names.safetensors');
  const names = ['__proto__', 'constructor', 'toString', '10', '9'];
  await writeSafetensors(
    file,
    names.map((name, i) => [name, Tensor.from([i]).native] as const),
    { ['__proto__']: 'text' },
  );
  const { tensors, metadata } = await readSafetensors(file);
  assert.deepEqual([...tensors.keys()], names);
  assert.deepEqual(Object.entries(metadata), [['__proto__', 'text']]);
});

test('single tensors can be read out of a large file', async () => {
  const file = path.join(root.path, 'round.safetensors');
  const { tensors } = await readSafetensors(file, { names: ['int32', 'float16'] });
  assert.deepEqual([...tensors.keys()], ['int32', 'float16']);
  await assert.rejects(readSafetensors(file, { names: ['nothing'] }), /no tensor 'nothing'/);
});

test('whatever bytes stand in a header, the answer is a header or a WeightsError', async () => {
  const { header, fileBytes } = encodeHeader(
    [
      { name: 'layer.weight', dtype: 'float32', shape: [4, 3] },
      { name: 'layer.bias', dtype: 'float32', shape: [4] },
    ],
    { format: 'pt' },
  );
  const json = Buffer.from(header.subarray(8));
  let state = 1;
  const random = (below: number): number => (state = (state * 48271) % 2147483647) % below;
  let accepted = 0;
  for (let i = 0; i < 20_000; i++) {
    const mutated = Buffer.from(json);
    for (let n = 1 + random(4); n > 0; n--) mutated[random(mutated.length)] = random(256);
    try {
      parseHeader(mutated, fileBytes, 'fuzz');
      accepted++;
    } catch (error) {
      assert.ok(error instanceof WeightsError, `${String(error)} for ${mutated.toString()}`);
    }
  }
  assert.ok(accepted < 10_000);
});

test('the time to read a header grows with its length, not with the square of it', async () => {
  const timeOf = async (count: number): Promise<number> => {
    const entries = Array.from({ length: count }, (_, i) => ({
      name: `block${i}.weight`,
      dtype: 'float32' as const,
      shape: [1],
    }));
    const { header, fileBytes } = encodeHeader(entries);
    const file = path.join(root.path, `many${count}.safetensors`);
    await fs.writeFile(file, Buffer.concat([header, Buffer.alloc(fileBytes - header.length)]));
    let best = Infinity;
    for (let i = 0; i < 5; i++) {
      // The processor's time: what else the machine does is in that of the clock.
      const started = process.cpuUsage();
      assert.equal((await readHeader(file)).tensors.length, count);
      const { user, system } = process.cpuUsage(started);
      best = Math.min(best, (user + system) / 1000);
    }
    return best;
  };
  const [short, long] = [await timeOf(1000), await timeOf(32_000)];
  // 32 times as long; with quadratic time it would be 1000 times.
  assert.ok(long < 250 * short, `${short} ms for 1,000 tensors, ${long} ms for 32,000`);
});
