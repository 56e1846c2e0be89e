/** MAT-files: the forms that MATLAB and scipy write, and files that nobody should trust. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';
import { DataError } from '#fornax/errors.js';
import { parseMatFile, readMatFile } from '#fornax/io/mat_file.js';
import { testData, whyNoData } from './support/data.js';
import { matFile } from './support/mat_writer.js';
import { random } from './support/random.js';

const variables = {
  names: [['0--Parade', 'ü'], 'x'],
  boxes: {
    rows: [
      [1, 2, 3, 4],
      [-5, 6, 7.5, 8],
    ],
  },
  counts: { rows: [[1], [2], [300]], type: 'int32' as const },
  flags: { rows: [[1, 0, 1]], type: 'uint8' as const },
  nothing: { rows: [] },
};

for (const [name, options] of Object.entries({
  plain: {},
  compressed: { compressed: true },
  'big endian': { bigEndian: true },
})) {
  test(`numbers, texts and cells are read: ${name}`, () => {
    const read = parseMatFile(matFile(variables, options), 'a.mat');
    assert.deepEqual([...read.keys()], ['names', 'boxes', 'counts', 'flags', 'nothing']);
    assert.deepEqual(read.get('names'), {
      kind: 'cells',
      dims: [2, 1],
      cells: [
        {
          kind: 'cells',
          dims: [2, 1],
          cells: [
            { kind: 'text', dims: [1, 9], text: '0--Parade' },
            { kind: 'text', dims: [1, 1], text: 'ü' },
          ],
        },
        { kind: 'text', dims: [1, 1], text: 'x' },
      ],
    });
    // Column by column.
    assert.deepEqual(read.get('boxes'), {
      kind: 'numbers',
      dims: [2, 4],
      values: [1, -5, 2, 6, 3, 7.5, 4, 8],
    });
    assert.deepEqual(read.get('counts'), { kind: 'numbers', dims: [3, 1], values: [1, 2, 300] });
    assert.deepEqual(read.get('flags'), { kind: 'numbers', dims: [1, 3], values: [1, 0, 1] });
    assert.deepEqual(read.get('nothing'), { kind: 'numbers', dims: [0, 0], values: [] });
  });
}

test('other files are refused with what they are', async () => {
  assert.throws(() => parseMatFile(Buffer.from('short'), 'a.mat'), DataError);
  const hdf5 = matFile({ a: 'b' });
  hdf5.set([0x00, 0x02], 124);
  assert.throws(() => parseMatFile(hdf5, 'a.mat'), /version is 0x200[^]*save -v7/);
  assert.throws(() => parseMatFile(Buffer.alloc(200), 'a.mat'), /header is another one/);
  await assert.rejects(readMatFile('/nowhere/a.mat'), DataError);
});

test('a variable that unpacks to gigabytes is refused', () => {
  const packed = deflateSync(Buffer.alloc(2 ** 27));
  const tag = Buffer.alloc(8);
  tag.writeUInt32LE(15, 0);
  tag.writeUInt32LE(packed.length, 4);
  const bomb = Buffer.concat([matFile({}), tag, packed]);
  assert.ok(bomb.length < 2 ** 20);
  assert.throws(() => parseMatFile(bomb, 'a.mat'), /cannot be unpacked/);
});

test('broken files give a DataError or other values, nothing else', () => {
  const draw = random(17);
  const sources = [
    matFile(variables),
    matFile(variables, { compressed: true }),
    matFile(variables, { bigEndian: true }),
  ];
  let refused = 0;
  for (let i = 0; i < 10_000; i++) {
    const source = sources[i % sources.length]!;
    let bytes = Buffer.from(source);
    for (let changes = draw(4); changes >= 0; changes--) bytes[draw(bytes.length)] = draw(256);
    if (draw(5) === 0) bytes = bytes.subarray(0, draw(bytes.length));
    try {
      parseMatFile(bytes, 'a.mat');
    } catch (error) {
      assert.ok(error instanceof DataError, String(error));
      refused++;
    }
  }
  assert.ok(refused > 1000, `${refused}`);
});

test("files of WIDER FACE's ground truth", { skip: whyNoData('wider') }, () => {
  const file = join(testData('wider')!, 'ground_truth', 'wider_face_val.mat');
  const read = parseMatFile(readFileSync(file), file);
  const events = read.get('event_list');
  assert.ok(events?.kind === 'cells');
  assert.equal(events.cells.length, 61);
  assert.deepEqual(events.cells[0], { kind: 'text', dims: [1, 9], text: '0--Parade' });
});
