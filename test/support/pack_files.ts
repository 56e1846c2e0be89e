/** Shards written by hand, so that tests of the native loader do not depend on the packer. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PackShard } from '#fornax/native/contract.js';

export interface PackedImage {
  height: number;
  width: number;
  /** [height, width, channels]. */
  pixels: Uint8Array;
  label: number;
}

/** Writes the images as one shard, its four fields in one file, each aligned to eight bytes. */
export function writeShard(folder: string, name: string, images: PackedImage[]): PackShard {
  const n = images.length;
  const offsets = new BigInt64Array(n + 1);
  images.forEach((image, i) => (offsets[i + 1] = offsets[i]! + BigInt(image.pixels.length)));
  const sizes = Int32Array.from(images.flatMap((image) => [image.height, image.width]));
  const labels = BigInt64Array.from(images, (image) => BigInt(image.label));
  const pixels = Buffer.concat(images.map((image) => image.pixels));

  const path = join(folder, name);
  const parts: Uint8Array[] = [];
  let end = 0;
  const place = (array: ArrayBufferView): number => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    const offset = end;
    const padding = (8 - (bytes.length % 8)) % 8;
    parts.push(bytes, new Uint8Array(padding));
    end += bytes.length + padding;
    return offset;
  };
  const shard: PackShard = {
    offsets: { path, dtype: 'int64', shape: [n + 1], offset: place(offsets) },
    sizes: { path, dtype: 'int32', shape: [n, 2], offset: place(sizes) },
    labels: { path, dtype: 'int64', shape: [n], offset: place(labels) },
    pixels: { path, dtype: 'uint8', shape: [pixels.length], offset: place(pixels) },
  };
  writeFileSync(path, Buffer.concat(parts));
  return shard;
}

/** An image whose pixels are `value(y, x, channel)`. */
export function makeImage(
  height: number,
  width: number,
  channels: number,
  label: number,
  value: (y: number, x: number, c: number) => number,
): PackedImage {
  const pixels = new Uint8Array(height * width * channels);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) pixels[i++] = value(y, x, c);
  }
  return { height, width, pixels, label };
}
