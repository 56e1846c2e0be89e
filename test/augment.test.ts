import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, describe, it } from 'node:test';
import { ArgumentError, DataError } from '#fornax/errors.js';
import type { AugmentOptions, LoaderOptions } from '#fornax/native/contract.js';
import { loadOnce, openLoader } from './support/loading.js';
import { makeImage, writeShard, type PackedImage } from './support/pack_files.js';
import { draws } from './support/philox.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-augment-'));
after(() => rmSync(folder, { recursive: true }));
let files = 0;

function options(images: PackedImage[], channels: 1 | 3, augment: AugmentOptions): LoaderOptions {
  const shards = [writeShard(folder, `shard-${++files}`, images)];
  return { shards, channels, batch_size: images.length, shuffle: false, seed: 11, augment };
}

async function apply(images: PackedImage[], channels: 1 | 3, augment: AugmentOptions, epoch = 0) {
  const [batch] = await loadOnce(options(images, channels, augment), epoch);
  return batch!.image as Uint8Array;
}

/** The image of test/fixtures/resize.py. */
function reference(height: number, width: number, channels: number): PackedImage {
  return makeImage(height, width, channels, 0, (y, x, c) => {
    const j = (y * width + x) * channels + c;
    const noise = Number(((BigInt(j) * 2654435761n) % 2n ** 32n) >> 24n);
    const edges = (Math.floor(x / 5) + Math.floor(y / 7) + c) % 2 === 0 ? 255 : 0;
    const ramp = (3 * x + 5 * y + 40 * c) % 256;
    return y % 3 === 0 ? noise : x % 4 < 2 ? edges : ramp;
  });
}

interface ResizeCase {
  kind: 'resize' | 'resize_crop';
  channels: 1 | 3;
  source: [number, number];
  size: [number, number];
  resize: number;
  pixels: string;
}

describe('resizing', () => {
  const fixture = JSON.parse(
    readFileSync(new URL('../../../test/fixtures/resize.json', import.meta.url), 'utf8'),
  ) as {
    source: string;
    cases: ResizeCase[];
  };
  for (const { kind, channels, source, size, resize, pixels } of fixture.cases) {
    const [height, width] = source;
    const name = `${kind} ${height}×${width}×${channels}${resize ? ` to ${resize}` : ''} → ${size.join('×')}`;
    // The whole image, squeezed: a random resized crop that leaves nothing to chance.
    const ratio: [number, number] = [width / height, width / height];
    const crop: AugmentOptions['crop'] =
      kind === 'resize'
        ? { kind: 'random_resized_crop', scale: [1, 1], ratio }
        : { kind: 'resize_crop', resize };
    const expected = Buffer.from(pixels, 'base64');

    it(`${name} equals Pillow's within one level`, async () => {
      const actual = await apply([reference(height, width, channels)], channels, { size, crop });
      assert.equal(actual.length, expected.length);
      let different = 0;
      actual.forEach((value, i) => {
        const error = Math.abs(value - expected[i]!);
        assert.ok(error <= 1, `element ${i}: ${value}, Pillow ${expected[i]}`);
        different += error;
      });
      // Both round twice, in another order: some pixels differ, most do not.
      assert.ok(different <= 0.35 * actual.length + 2, `${different} of ${actual.length} differ`);
    });

    it(`${name} mirrored is the mirror image`, async () => {
      const image = reference(height, width, channels);
      const straight = await apply([image], channels, { size, crop });
      const mirrored = await apply([image], channels, { size, crop, hflip: 1 });
      assert.deepEqual(mirrored, mirror(straight, size[1], channels));
    });
  }

  it('keeps flat areas exactly', async () => {
    for (const value of [0, 1, 127, 254, 255]) {
      const image = makeImage(61, 47, 3, 0, () => value);
      const crop = { kind: 'resize_crop', resize: 29 } as const;
      const out = await apply([image], 3, { size: [23, 31], crop: { ...crop, resize: 31 } });
      assert.ok(out.every((pixel) => pixel === value));
    }
  });
});

describe('the variants for different processors', () => {
  it('give the same bytes', () => {
    const child = fileURLToPath(new URL('support/loader_child.js', import.meta.url));
    const images = Array.from({ length: 48 }, (_, i) => reference(20 + 7 * i, 300 - 5 * i, 3));
    const shard = JSON.stringify(writeShard(folder, 'variants', images));
    const digests = ['portable', 'avx2', 'avx512'].map((variant) => {
      const result = spawnSync(process.execPath, [child, 'digest', shard], {
        encoding: 'utf8',
        env: { ...process.env, FORNAX_PIXEL_KERNELS: variant },
      });
      assert.equal(result.status, 0, result.stderr);
      return result.stdout;
    });
    assert.match(digests[0]!, /^[0-9a-f]{64}$/m);
    assert.equal(new Set(digests).size, 1, digests.join(''));
  });
});

describe('a random crop', () => {
  it('shifts the image by at most the padding, fills with zeros, and reaches every shift', async () => {
    const image = makeImage(4, 6, 3, 0, (y, x, c) => 1 + (y * 6 + x) * 3 + c);
    const seen = new Set<string>();
    const images = Array.from({ length: 600 }, () => image);
    const out = await apply(images, 3, { size: [4, 6], crop: { kind: 'random_crop', padding: 2 } });
    for (let n = 0; n < images.length; n++) {
      const result = out.subarray(n * 72, (n + 1) * 72);
      const shift = findShift(image, result);
      assert.ok(shift, `no shift explains ${result.join(' ')}`);
      seen.add(shift);
    }
    assert.equal(seen.size, 25);
  });

  it('cuts a smaller window out of a larger image', async () => {
    const image = makeImage(9, 7, 1, 0, (y, x) => y * 7 + x);
    const images = Array.from({ length: 300 }, () => image);
    const out = await apply(images, 1, { size: [3, 2], crop: { kind: 'random_crop', padding: 0 } });
    const corners = new Set<number>();
    for (let n = 0; n < images.length; n++) {
      const first = out[n * 6]!;
      corners.add(first);
      const expected = [0, 1, 7, 8, 14, 15].map((step) => first + step);
      assert.deepEqual([...out.subarray(n * 6, n * 6 + 6)], expected);
    }
    assert.equal(corners.size, 7 * 6);
  });
});

describe('a random resized crop', () => {
  const size = 256;
  const side = 64;
  const n = 1500;
  // Red says x and green says y, so the output tells which box it came from.
  const image = makeImage(size, size, 3, 0, (y, x, c) => [x, y, 0][c]!);
  const images = Array.from({ length: n }, () => image);

  async function boxes(scale: [number, number], ratio: [number, number]) {
    const out = await apply(images, 3, {
      size: [side, side],
      crop: { kind: 'random_resized_crop', scale, ratio },
    });
    return Array.from({ length: n }, (_, i) => {
      const at = (y: number, x: number, c: number) => out[i * side * side * 3 + (y * side + x) * 3 + c]!;
      // Between two inner pixels the ramp is linear: k pixels apart are k · box / side levels.
      const width = ((at(0, 50, 0) - at(0, 10, 0)) * side) / 40;
      const height = ((at(50, 0, 1) - at(10, 0, 1)) * side) / 40;
      const left = at(0, 32, 0) - width / 2;
      const top = at(32, 0, 1) - height / 2;
      return { width, height, left, top };
    });
  }

  it('draws the share of the area evenly, and the place', async () => {
    const found = await boxes([0.25, 0.64], [1, 1]);
    const shares = found.map((box) => (box.width * box.height) / size ** 2);
    assertMean(shares, 0.445, (0.64 - 0.25) / Math.sqrt(12), 0.01);
    assert.ok(Math.min(...shares) > 0.22 && Math.max(...shares) < 0.68);
    const places = found.map((box) => box.left / (size - box.width));
    assertMean(places, 0.5, 1 / Math.sqrt(12), 0.02);
    assertMean(
      found.map((box) => box.top / (size - box.height)),
      0.5,
      1 / Math.sqrt(12),
      0.02,
    );
    // Quarters of [0, 1] are equally full (binomial, four deviations).
    for (const quarter of [0, 1, 2, 3]) {
      const count = places.filter(
        (place) => Math.floor(Math.min(0.999, Math.max(0, place)) * 4) === quarter,
      ).length;
      assert.ok(Math.abs(count - n / 4) < 4 * Math.sqrt(n * 0.1875) + 30, `quarter ${quarter}: ${count}`);
    }
  });

  it('draws the aspect ratio evenly on a logarithmic scale', async () => {
    const found = await boxes([0.2, 0.3], [0.5, 2]);
    const logs = found.map((box) => Math.log(box.width / box.height));
    assertMean(logs, 0, (2 * Math.LN2) / Math.sqrt(12), 0.02);
    assert.ok(Math.min(...logs) > -0.8 && Math.max(...logs) < 0.8);
    const outer = logs.filter((log) => Math.abs(log) > Math.LN2 / 2).length;
    assert.ok(Math.abs(outer - n / 2) < 4 * Math.sqrt(n / 4) + 30, `${outer} of ${n}`);
  });

  it('falls back to the centre where no box fits', async () => {
    // Nothing of ratio 4 to 5 with the whole area fits into a square; the centre strip of ratio 4 … 5 is taken.
    const square = makeImage(40, 40, 3, 0, (y, x, c) => [x, y, 0][c]!);
    const out = await apply([square], 3, {
      size: [8, 40],
      crop: { kind: 'random_resized_crop', scale: [1, 1], ratio: [5, 5] },
    });
    // 40 wide, 8 high, from row 16: the copy of the middle.
    const expected = makeImage(8, 40, 3, 0, (y, x, c) => [x, y + 16, 0][c]!).pixels;
    assert.deepEqual(Buffer.from(out), Buffer.from(expected));
  });
});

describe('a horizontal flip', () => {
  const images = Array.from({ length: 2000 }, () => makeImage(2, 3, 1, 0, (y, x) => y * 3 + x));
  const augment = (hflip: number): AugmentOptions => ({ size: [2, 3], crop: { kind: 'none' }, hflip });

  it('happens to the share asked for, as drawn from (seed, epoch, sample)', async () => {
    for (const [share, epoch] of [
      [0.5, 0],
      [0.1, 3],
    ] as const) {
      const out = await apply(images, 1, augment(share), epoch);
      let flipped = 0;
      images.forEach((_, i) => {
        const pixels = [...out.subarray(i * 6, i * 6 + 6)];
        const drawn = (draws(11, epoch, i, 'flip').next().value as number) / 2 ** 32 < share;
        assert.deepEqual(pixels, drawn ? [2, 1, 0, 5, 4, 3] : [0, 1, 2, 3, 4, 5]);
        flipped += Number(drawn);
      });
      const deviation = Math.sqrt(images.length * share * (1 - share));
      assert.ok(Math.abs(flipped - images.length * share) < 4 * deviation, `${flipped} of ${images.length}`);
    }
  });

  it('never happens at 0 and always at 1', async () => {
    assert.equal((await apply(images, 1, augment(0))).filter((v, i) => v !== i % 6).length, 0);
    assert.equal((await apply(images, 1, augment(1)))[0], 2);
  });
});

describe('options of the augmentation', () => {
  const images = [makeImage(8, 8, 3, 0, () => 0)];

  it('that do not fit the images are errors that name the image', () => {
    for (const crop of [{ kind: 'none' }, { kind: 'random_crop', padding: 1 }] as AugmentOptions['crop'][]) {
      assert.throws(
        () => openLoader(options(images, 3, { size: [11, 8], crop })),
        (error) => error instanceof DataError && /8×8/.test(error.what) && /image 0/.test(error.where ?? ''),
      );
    }
  });

  it('out of range are errors that name the option', () => {
    const rrc = (scale: number[], ratio: number[]) =>
      ({ kind: 'random_resized_crop', scale, ratio }) as AugmentOptions['crop'];
    const cases: [RegExp, unknown][] = [
      [/size/, { size: [0, 8], crop: { kind: 'none' } }],
      [/size/, { size: [8], crop: { kind: 'none' } }],
      [/size/, { crop: { kind: 'none' } }],
      [/crop\.kind/, { size: [8, 8], crop: { kind: 'shear' } }],
      [/crop/, { size: [8, 8] }],
      [/hflip/, { size: [8, 8], crop: { kind: 'none' }, hflip: 1.5 }],
      [/resize/, { size: [8, 8], crop: { kind: 'resize_crop', resize: 0 } }],
      [/resize/, { size: [8, 8], crop: { kind: 'resize_crop' } }],
      [/padding/, { size: [8, 8], crop: { kind: 'random_crop', padding: -1 } }],
      [/scale/, { size: [8, 8], crop: rrc([0, 1], [1, 1]) }],
      [/scale/, { size: [8, 8], crop: rrc([0.5, 1.1], [1, 1]) }],
      [/scale/, { size: [8, 8], crop: rrc([0.5], [1, 1]) }],
      [/ratio/, { size: [8, 8], crop: rrc([0.5, 1], [2, 1]) }],
    ];
    for (const [message, augment] of cases) {
      assert.throws(
        () => openLoader(options(images, 3, augment as AugmentOptions)),
        (error) => error instanceof ArgumentError && message.test(error.what),
        JSON.stringify(augment),
      );
    }
  });
});

function mirror(pixels: Uint8Array, width: number, channels: number): Uint8Array {
  return pixels.map((_, i) => {
    const c = i % channels;
    const x = Math.floor(i / channels) % width;
    const row = i - c - x * channels;
    return pixels[row + (width - 1 - x) * channels + c]!;
  });
}

/** "dy,dx" if `result` is the image moved by (dy, dx) over zeros. */
function findShift(image: PackedImage, result: Uint8Array): string | undefined {
  const { height, width, pixels } = image;
  for (let dy = -2; dy <= 2; dy++) {
    for (let dx = -2; dx <= 2; dx++) {
      const moved = makeImage(height, width, 3, 0, (y, x, c) => {
        const [sy, sx] = [y + dy, x + dx];
        const inside = sy >= 0 && sy < height && sx >= 0 && sx < width;
        return inside ? pixels[(sy * width + sx) * 3 + c]! : 0;
      });
      if (Buffer.compare(moved.pixels, result) === 0) return `${dy},${dx}`;
    }
  }
  return undefined;
}

/** The mean lies within four standard errors of what is expected, plus what measuring costs. */
function assertMean(values: number[], mean: number, deviation: number, measuring: number): void {
  const actual = values.reduce((sum, value) => sum + value, 0) / values.length;
  const bound = (4 * deviation) / Math.sqrt(values.length) + measuring;
  assert.ok(Math.abs(actual - mean) < bound, `mean ${actual}, expected ${mean} ± ${bound}`);
}
