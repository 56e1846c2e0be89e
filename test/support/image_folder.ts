/** Makes small folders of images whose classes a small network can tell apart. */
import { accessSync, constants, promises as fs, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import sharp from 'sharp';

const COLOURS: readonly [string, readonly [number, number, number]][] = [
  ['blue', [40, 60, 200]],
  ['green', [50, 190, 70]],
  ['red', [210, 50, 50]],
];

const MEMORY_FOLDER = '/dev/shm';
const MEMORY_BYTES = 48 * 2 ** 20;

/** Whether small files have a place in memory. */
function hasMemoryFolder(): boolean {
  try {
    accessSync(MEMORY_FOLDER, constants.W_OK);
    const { bavail, bsize } = statfsSync(MEMORY_FOLDER);
    return bavail * bsize >= MEMORY_BYTES;
  } catch {
    return false;
  }
}

/**
 * A folder that is removed when `dispose` is called (or at the end of a block, with `await using`).
 *
 * @param options.inMemory where the machine has such a place: for a few small files that are written very often.
 */
export async function temporaryFolder({ inMemory = false }: { inMemory?: boolean } = {}): Promise<{
  path: string;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const base = inMemory && hasMemoryFolder() ? MEMORY_FOLDER : tmpdir();
  const folder = await fs.mkdtemp(path.join(base, 'fornax-test-'));
  return {
    path: folder,
    async [Symbol.asyncDispose]() {
      await fs.rm(folder, { recursive: true, force: true });
    },
  };
}

/** Numbers in 0…1, the same every time. */
function noise(seed: number): () => number {
  let state = seed + 1;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

/**
 * Writes `train/<colour>/<n>.png` and `val/<colour>/<n>.png`: noise around the colour, of varying size.
 *
 * @param perClass images of each class for training and validation.
 */
export async function writeColourFolder(
  folder: string,
  perClass: { train: number; val: number } = { train: 20, val: 7 },
): Promise<void> {
  let seed = 0;
  for (const [split, count] of Object.entries(perClass)) {
    for (const [name, colour] of COLOURS) {
      const target = path.join(folder, split, name);
      await fs.mkdir(target, { recursive: true });
      for (let i = 0; i < count; i++) {
        const random = noise(seed++);
        const width = 33 + Math.floor(random() * 20);
        const height = 33 + Math.floor(random() * 20);
        const pixels = Buffer.alloc(width * height * 3);
        for (let p = 0; p < pixels.length; p++) {
          pixels[p] = Math.max(0, Math.min(255, Math.round(colour[p % 3]! + (random() - 0.5) * 380)));
        }
        await sharp(pixels, { raw: { width, height, channels: 3 } })
          .png()
          .toFile(path.join(target, `${i}.png`));
      }
    }
  }
}
