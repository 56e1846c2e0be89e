/** Small image files of known contents, and folders of them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import sharp from 'sharp';

/** A fresh folder that is removed when the test file ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'fornax-test-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Raw RGB pixels, `value(y, x, c)`. */
export function rgbPixels(
  height: number,
  width: number,
  value: (y: number, x: number, c: number) => number,
): Buffer {
  const data = Buffer.alloc(height * width * 3);
  for (let i = 0, y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) for (let c = 0; c < 3; c++) data[i++] = value(y, x, c);
  }
  return data;
}

/** A sharp image of one colour. */
export function plain(
  height: number,
  width: number,
  colour: readonly [number, number, number],
): ReturnType<typeof sharp> {
  const data = rgbPixels(height, width, (_y, _x, c) => colour[c]!);
  return sharp(data, { raw: { height, width, channels: 3 } });
}

/** Encoded bytes of a one-colour image; PNG keeps the values exactly. */
export function plainFile(
  height: number,
  width: number,
  colour: readonly [number, number, number],
  format: 'png' | 'jpeg' | 'webp' = 'png',
): Promise<Buffer> {
  const image = plain(height, width, colour);
  return format === 'webp' ? image.webp({ lossless: true }).toBuffer() : image.toFormat(format).toBuffer();
}

/** Writes a file, making its folders. */
export function put(root: string, name: string, data: Uint8Array | string): string {
  const file = path.join(root, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, data);
  return file;
}

/** `<class>/<number>.png` with the given number of images each; image i of class k has the colour (k, i, 100). */
export async function classFolder(
  root: string,
  counts: Record<string, number>,
  size: readonly [number, number] = [8, 10],
): Promise<void> {
  const names = Object.keys(counts).sort();
  for (const [k, name] of names.entries()) {
    for (let i = 0; i < counts[name]!; i++) {
      const file = await plainFile(size[0], size[1], [k, i, 100]);
      put(root, `${name}/${String(i).padStart(3, '0')}.png`, file);
    }
  }
}
