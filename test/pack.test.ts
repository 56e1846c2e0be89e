import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ArgumentError, DataError } from '#fornax/errors.js';
import type { LoaderOptions, PackField, PackShard } from '#fornax/native/contract.js';
import { openLoader } from './support/loading.js';
import { makeImage, writeShard } from './support/pack_files.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-pack-'));
after(() => rmSync(folder, { recursive: true }));

const images = [makeImage(4, 5, 3, 0, () => 1), makeImage(6, 3, 3, 1, () => 2)];
let files = 0;
const fresh = (): PackShard => writeShard(folder, `shard-${++files}`, images);

function open(shard: PackShard, rest: Partial<LoaderOptions> = {}): void {
  openLoader({
    shards: [shard],
    channels: 3,
    batch_size: 1,
    shuffle: false,
    seed: 0,
    augment: { size: [4, 4], crop: { kind: 'resize_crop', resize: 4 } },
    ...rest,
  }).dispose();
}

/** A shard whose field `name` says something else than it should. */
function misdescribed(name: keyof PackShard, change: Partial<PackField>): PackShard {
  const shard = fresh();
  return { ...shard, [name]: { ...shard[name], ...change } };
}

/** A shard with other bytes at the place of an element of a field. */
function damaged(name: keyof PackShard, bytes: (data: Buffer, offset: number) => void): PackShard {
  const shard = fresh();
  const data = readFileSync(shard[name].path);
  bytes(data, shard[name].offset);
  writeFileSync(shard[name].path, data);
  return shard;
}

describe('a pack', () => {
  it('opens if it is sound', () => open(fresh()));

  const text = join(folder, 'folder');
  mkdirSync(text);
  const empty = join(folder, 'empty');
  writeFileSync(empty, '');
  const huge = 2 ** 52;

  const cases: [string, RegExp, () => PackShard][] = [
    ['a missing file', /cannot open/, () => misdescribed('pixels', { path: join(folder, 'absent') })],
    ['a folder', /cannot map|not a regular/, () => misdescribed('labels', { path: text })],
    ['an empty file', /empty/, () => misdescribed('sizes', { path: empty })],
    ['another dtype', /expected int64, found int32/, () => misdescribed('labels', { dtype: 'int32' })],
    ['a shape of another rank', /shape/, () => misdescribed('sizes', { shape: [4] })],
    ['a negative shape', /shape/, () => misdescribed('labels', { shape: [-2] })],
    ['shapes that do not belong together', /shape/, () => misdescribed('offsets', { shape: [2] })],
    ['a field beyond the end', /inside the file/, () => misdescribed('pixels', { shape: [100_000] })],
    ['a field that overflows', /inside the file|shape/, () => misdescribed('labels', { shape: [huge] })],
    ['an offset beyond the end', /inside the file/, () => misdescribed('pixels', { offset: huge })],
    ['a negative offset', /inside the file/, () => misdescribed('pixels', { offset: -8 })],
    ['an offset that is not aligned', /multiple of 8/, () => misdescribed('labels', { offset: 4 })],
    [
      'offsets that run backwards',
      /in order/,
      () => damaged('offsets', (data, at) => data.writeBigInt64LE(500n, at + 8)),
    ],
    [
      'an offset outside the pixels',
      /in order inside/,
      () => damaged('offsets', (data, at) => data.writeBigInt64LE(2n ** 40n, at + 16)),
    ],
    [
      'a negative first offset',
      /in order inside/,
      () => damaged('offsets', (data, at) => data.writeBigInt64LE(-8n, at)),
    ],
    ['a size of zero', /not positive/, () => damaged('sizes', (data, at) => data.writeInt32LE(0, at))],
    ['a negative size', /not positive/, () => damaged('sizes', (data, at) => data.writeInt32LE(-5, at + 12))],
    [
      'a size that does not fit its bytes',
      /does not take/,
      () => damaged('sizes', (data, at) => data.writeInt32LE(7, at + 4)),
    ],
    ['no samples', /no samples/, () => writeShard(folder, 'none', [])],
  ];
  for (const [name, message, make] of cases) {
    it(`with ${name} is a DataError that names the file`, () => {
      assert.throws(
        () => open(make()),
        (error) => {
          assert.ok(error instanceof DataError, String(error));
          assert.match(error.what, message);
          assert.ok(error.where?.startsWith(folder), error.where);
          return true;
        },
      );
    });
  }

  it('of other channels than asked for is a DataError', () => {
    assert.throws(() => open(fresh(), { channels: 1 }), DataError);
  });

  it('checks the options of its loader', () => {
    const bad: [RegExp, Partial<LoaderOptions>][] = [
      [/channels/, { channels: 2 as 3 }],
      [/batch_size/, { batch_size: 0 }],
      [/batch_size/, { batch_size: 1.5 }],
      [/drop_last/, { batch_size: 3, drop_last: true }],
      [/threads/, { threads: 0 }],
      [/prefetch/, { prefetch: -1 }],
      [/seed/, { seed: -1 }],
      [/seed/, { seed: Number.NaN }],
      [/indices/, { indices: Int32Array.of(0, 2) }],
      [/indices/, { indices: Int32Array.of(-1) }],
      [/indices/, { indices: new Int32Array(0) }],
      [/indices/, { indices: [0] as unknown as Int32Array }],
      [/normalize/, { normalize: { mean: [0], std: [1] } }],
      [/normalize/, { normalize: { mean: [0, 0, 0], std: [1, 0, 1] } }],
      [/shards/, { shards: 3 as unknown as PackShard[] }],
      [/path/, { shards: [{ ...fresh(), pixels: {} as PackField }] }],
    ];
    for (const [message, rest] of bad) {
      assert.throws(
        () => open(fresh(), rest),
        (error) => error instanceof ArgumentError && message.test(`${error.what} ${error.where}`),
        JSON.stringify(rest),
      );
    }
  });
});
