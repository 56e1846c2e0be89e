import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { decodeImage, imageSize } from '#fornax/data/decode.js';
import { DataError } from '#fornax/errors.js';
import { plain, plainFile, put, rgbPixels, temporaryFolder } from './support/images.js';

const folder = temporaryFolder();
const colour = [200, 100, 50] as const;

/** Rows of the pixels' first channel. */
function firstChannel(image: {
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
}): number[][] {
  return Array.from({ length: image.height }, (_, y) =>
    Array.from({ length: image.width }, (_, x) => image.data[(y * image.width + x) * image.channels]!),
  );
}

function near(actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expected.forEach((value, i) =>
    assert.ok(
      Math.abs(actual[i]! - value) <= tolerance,
      `[${i}] is ${actual[i]}, expected ${value} ± ${tolerance}`,
    ),
  );
}

test('PNG and lossless WebP keep their values; JPEG nearly', async () => {
  for (const [format, tolerance] of [
    ['png', 0],
    ['webp', 0],
    ['jpeg', 3],
  ] as const) {
    const image = await decodeImage(await plainFile(6, 9, colour, format), 3);
    assert.deepEqual([image.height, image.width, image.channels], [6, 9, 3]);
    assert.equal(image.data.length, 6 * 9 * 3);
    near(image.data, [...colour], tolerance);
  }
});

test('grayscale is repeated to three channels', async () => {
  const file = await sharp(Buffer.from([0, 60, 120, 255]), { raw: { height: 2, width: 2, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer();
  assert.equal((await sharp(file).metadata()).channels, 1);
  const image = await decodeImage(file, 3);
  assert.deepEqual([...image.data], [0, 0, 0, 60, 60, 60, 120, 120, 120, 255, 255, 255]);
  assert.deepEqual([...(await decodeImage(file, 1)).data], [0, 60, 120, 255]);
});

test('colour becomes one channel by ITU-R 601 luma, as PIL converts to L', async () => {
  // PIL 13: Image.new('RGB', (1, 1), c).convert('L') gives 124, 76, 150, 29 for these.
  const cases = [
    [[200, 100, 50], 124],
    [[255, 0, 0], 76],
    [[0, 255, 0], 150],
    [[0, 0, 255], 29],
  ] as const;
  for (const [rgb, luma] of cases) {
    const image = await decodeImage(await plainFile(1, 1, rgb), 1);
    assert.deepEqual([...image.data], [luma]);
    assert.equal(image.channels, 1);
  }
});

test('16-bit PNGs are scaled to 8 bits, not clipped', async () => {
  const gray = Uint16Array.from([0, 0x4040, 0x8080, 0xffff]);
  const grayFile = await sharp(gray, {
    raw: { height: 2, width: 2, channels: 1 },
  })
    .toColourspace('grey16')
    .png()
    .toBuffer();
  assert.equal((await sharp(grayFile).metadata()).depth, 'ushort');
  assert.deepEqual([...(await decodeImage(grayFile, 1)).data], [0, 0x40, 0x80, 0xff]);

  const rgb = Uint16Array.from([0xc8c8, 0x6464, 0x3232]);
  const rgbFile = await sharp(rgb, {
    raw: { height: 1, width: 1, channels: 3 },
  })
    .toColourspace('rgb16')
    .png()
    .toBuffer();
  assert.equal((await sharp(rgbFile).metadata()).depth, 'ushort');
  assert.deepEqual([...(await decodeImage(rgbFile, 3)).data], [...colour]);
});

test('alpha is dropped and the colours under it are kept', async () => {
  const rgba = Buffer.from([200, 100, 50, 0, 200, 100, 50, 128]);
  const raw = { raw: { height: 1, width: 2, channels: 4 as const } };
  const png = await decodeImage(await sharp(rgba, raw).png().toBuffer(), 3);
  assert.deepEqual([...png.data], [...colour, ...colour]);
  const half = Buffer.from([80, 128]);
  const grayAlpha = await sharp(half, { raw: { height: 1, width: 1, channels: 2 } })
    .png()
    .toBuffer();
  assert.deepEqual([...(await decodeImage(grayAlpha, 3)).data], [80, 80, 80]);
  const palette = await plain(2, 2, colour).png({ palette: true }).toBuffer();
  near((await decodeImage(palette, 3)).data, [...colour], 2);
});

test('EXIF orientation 1–8 is applied', async () => {
  // As stored: rows [a b] [c d]; the tables are those of the EXIF 2.3 specification, tag 0x0112.
  const [a, b, c, d] = [10, 80, 150, 220];
  const upright: Record<number, number[][]> = {
    1: [[a, b], [c, d]],
    2: [[b, a], [d, c]],
    3: [[d, c], [b, a]],
    4: [[c, d], [a, b]],
    5: [[a, c], [b, d]],
    6: [[c, a], [d, b]],
    7: [[d, b], [c, a]],
    8: [[b, d], [a, c]],
  }; // prettier-ignore
  const quarters = [a, b, c, d];
  // Squares of 8 × 16 pixels, so that JPEG blocks hold one value each.
  const data = rgbPixels(16, 32, (y, x) => quarters[2 * Math.floor(y / 8) + Math.floor(x / 16)]!);
  for (let orientation = 1; orientation <= 8; orientation++) {
    const file = await sharp(data, { raw: { height: 16, width: 32, channels: 3 } })
      .withMetadata({ orientation })
      .jpeg({ quality: 100 })
      .toBuffer();
    const image = await decodeImage(file, 3);
    const turned = orientation >= 5;
    assert.deepEqual([image.height, image.width], turned ? [32, 16] : [16, 32], `orientation ${orientation}`);
    assert.deepEqual(await imageSize(file), { height: image.height, width: image.width });
    const rows = firstChannel(image);
    const [dy, dx] = turned ? [16, 8] : [8, 16];
    const seen = [0, 1].map((y) => [0, 1].map((x) => rows[y * dy + 2]![x * dx + 2]!));
    seen.forEach((row, y) => near(row, upright[orientation]![y]!, 2));
  }
});

test('CMYK JPEGs become RGB', async () => {
  const file = await plain(8, 8, colour).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
  assert.equal((await sharp(file).metadata()).space, 'cmyk');
  const image = await decodeImage(file, 3);
  assert.equal(image.data.length, 8 * 8 * 3);
  near(image.data, [...colour], 40); // the way to CMYK and back loses saturated colours
});

test('an embedded ICC profile of an RGB image is ignored, as PIL does', async () => {
  const file = await plain(8, 8, colour).withIccProfile('p3').png().toBuffer();
  const { data: stored } = await sharp(file, { ignoreIcc: true }).raw().toBuffer({ resolveWithObject: true });
  assert.ok(Math.abs(stored[0]! - colour[0]) > 5, 'the profile changes the stored values');
  assert.deepEqual([...(await decodeImage(file, 3)).data], [...stored]);
});

test('the first frame of an animated WebP is taken', async () => {
  const frames = Buffer.concat([Buffer.alloc(8 * 4 * 3, 10), Buffer.alloc(8 * 4 * 3, 200)]);
  const file = await sharp(frames, {
    raw: { width: 8, height: 8, channels: 3, pageHeight: 4 },
  })
    .webp({ lossless: true, delay: [100, 100] })
    .toBuffer();
  assert.equal((await sharp(file).metadata()).pages, 2);
  const image = await decodeImage(file, 3);
  assert.deepEqual([image.height, image.width], [4, 8]);
  assert.ok(image.data.every((value) => value === 10));
});

test('shorterSide scales down and never up', async () => {
  const wide = await plainFile(40, 100, colour);
  const small = await decodeImage(wide, 3, { shorterSide: 20 });
  assert.deepEqual([small.height, small.width], [20, 50]);
  const same = await decodeImage(wide, 3, { shorterSide: 64 });
  assert.deepEqual([same.height, same.width], [40, 100]);
  const tall = await decodeImage(await plainFile(99, 30, colour), 3, { shorterSide: 15 });
  assert.equal(tall.width, 15);
  assert.ok(tall.height === 49 || tall.height === 50);
});

test('broken files are named with the reason', async () => {
  const photo = await sharp({
    create: {
      width: 200,
      height: 150,
      channels: 3,
      background: 'red',
      noise: { type: 'gaussian', mean: 128, sigma: 40 },
    },
  })
    .png()
    .toBuffer();
  const jpeg = await sharp(photo).jpeg().toBuffer();
  const webp = await sharp(photo).webp().toBuffer();
  const cut = (file: Buffer): Buffer => file.subarray(0, Math.floor(file.length * 0.6));
  const cases: [name: string, data: Uint8Array | string, reason: RegExp][] = [
    ['cut.jpg', cut(jpeg), /truncated or damaged/],
    ['cut.png', cut(photo), /truncated or damaged/],
    ['cut.webp', cut(webp), /truncated or damaged/],
    ['empty.jpg', '', /empty \(0 bytes\)/],
    ['text.jpg', 'hello world', /it is text.*hello world/],
    ['page.jpg', '<!DOCTYPE html><html></html>', /HTML page/],
    ['pointer.jpg', 'version https://git-lfs.github.com/spec/v1\n', /git lfs pull/],
    ['drawing.png', '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', /it is text/],
    ['film.jpg', Buffer.from('GIF89a\x01\x00\x01\x00'), /a GIF/],
    ['noise.jpg', Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]), /not a JPEG, PNG or WebP/],
    ['header.jpg', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 0]), /.+/],
  ];
  for (const [name, data, reason] of cases) {
    const file = put(folder, name, data);
    await assert.rejects(decodeImage(file, 3), (error: unknown) => {
      assert.ok(error instanceof DataError, name);
      assert.match(error.what, reason);
      assert.equal(error.where, file);
      return true;
    });
  }
});

test('missing files, folders and dangling links are named with the reason', async () => {
  await assert.rejects(decodeImage(path.join(folder, 'nowhere.jpg'), 3), /no such file/);
  await assert.rejects(decodeImage(folder, 3), /it is a folder/);
  symlinkSync('nothing', path.join(folder, 'link.jpg'));
  await assert.rejects(decodeImage(path.join(folder, 'link.jpg'), 3, { fileBytes: 0 }), /no such file/);
});

test('images of more pixels than allowed are refused before they are decoded', async () => {
  const file = await plainFile(100, 100, colour);
  await assert.rejects(decodeImage(file, 3, { maxPixels: 9_999 }), /more pixels than the decoder accepts/);
});

test('a text file is recognised although its extension and length say nothing', async () => {
  await assert.rejects(decodeImage(Buffer.from('a,b,c\n1,2,3\n'), 3), (error: unknown) => {
    assert.ok(error instanceof DataError);
    assert.equal(error.where, 'image in memory');
    return true;
  });
});
