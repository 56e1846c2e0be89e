/**
 * The generated sample set: JPEG files in `train/<class>/` and `val/<class>/`, for each a mask in
 * `masks/<split>/<class>/` (PNG, 0 = background, class index + 1) and a box in `boxes/<split>.json`.
 * `shapes.json` is written last and says what the set is; a set without it, or of another size, is incomplete.
 */
import { promises as fs, readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';

import { AbortedError, ArgumentError, DataError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import { fsync, removeFolderAtomically, sweepOrphans, temporaryPath } from '../io/atomic.js';
import { makeFolders } from '../io/folders.js';
import { drawShape, SHAPES } from './shapes_draw.js';

/** Raised whenever the same settings give other pixels. */
const GENERATOR_VERSION = 1;
const MARKER = 'shapes.json';

export interface ShapesSettings {
  /** Images in all, training and validation. Default 3,600. */
  count?: number;
  /** Height and width, pixels, 16…1024. Default 64. */
  size?: number;
  /** Default 0. */
  seed?: number;
}

export interface ShapesOptions extends ShapesSettings {
  /** Folder to write. Default: in the cache, named after the settings. */
  out?: string | undefined;
  cache?: string | null | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

interface Marker {
  generator: 'fornax shapes';
  version: number;
  count: number;
  size: number;
  seed: number;
  classes: string[];
  /** Bytes of all images and masks: tells whether the files are whole. */
  bytes: number;
}

export interface ShapesResult {
  folder: string;
  /** False if the set was there already. */
  created: boolean;
  count: number;
  classes: readonly string[];
}

/**
 * Makes the sample set unless it is there. One image in six is for validation.
 *
 * @throws DataError if `out` holds something else, or a set of other settings than those asked for.
 */
export async function prepareShapes(options: ShapesOptions = {}): Promise<ShapesResult> {
  const { count = 3600, size = 64, seed = 0 } = options;
  checkRange('count', count, 2 * SHAPES.length, 10_000_000);
  checkRange('size', size, 16, 1024);
  checkRange('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  const folder = shapesFolder(options);
  const present = await inspect(folder);
  if (present) {
    checkSame(present, options, folder);
    return { folder, created: false, count: present.count, classes: present.classes };
  }
  await makeFolders(path.dirname(folder));
  await sweepOrphans(path.dirname(folder));
  // Only what lies in the cache may be replaced.
  if (options.out === undefined) await removeFolderAtomically(folder).catch(ignoreMissing);
  else await requireEmpty(folder);
  const temporary = temporaryPath(folder);
  try {
    await fs.mkdir(temporary);
    const bytes = await writeImages(temporary, { count, size, seed }, options);
    const marker: Marker = {
      generator: 'fornax shapes',
      version: GENERATOR_VERSION,
      count,
      size,
      seed,
      classes: [...SHAPES],
      bytes,
    };
    const file = path.join(temporary, MARKER);
    await fs.writeFile(file, JSON.stringify(marker, null, 2) + '\n');
    // Not every image: syncing thousands of small files takes longer than drawing them, and `bytes` tells later.
    await fsync(file);
    await fs.rename(temporary, folder);
  } catch (error) {
    await fs.rm(temporary, { recursive: true, force: true });
    // Another process may have finished the same set first.
    const code = (error as NodeJS.ErrnoException).code;
    if ((code !== 'ENOTEMPTY' && code !== 'EEXIST') || !(await inspect(folder))) throw error;
  }
  return { folder, created: true, count, classes: SHAPES };
}

/** Where `prepareShapes` writes, or has written, the sample set. */
export function shapesFolder({ count = 3600, size = 64, seed = 0, out, cache }: ShapesOptions = {}): string {
  const name = `shapes-${count}-${size}-${seed}-v${GENERATOR_VERSION}`;
  return path.resolve(out ?? path.join(cacheDir(cache), 'data', name));
}

/** The marker of a complete set, or null. */
async function inspect(folder: string): Promise<Marker | null> {
  let marker: Marker;
  try {
    marker = JSON.parse(await fs.readFile(path.join(folder, MARKER), 'utf8')) as Marker;
  } catch {
    return null;
  }
  if (marker.generator !== 'fornax shapes' || marker.version !== GENERATOR_VERSION) return null;
  let bytes = 0;
  for (const part of ['train', 'val', 'masks']) {
    for (const name of listFiles(path.join(folder, part))) bytes += statSync(name).size;
  }
  return bytes === marker.bytes ? marker : null;
}

function listFiles(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name));
  } catch (error) {
    ignoreMissing(error as NodeJS.ErrnoException);
    return [];
  }
}

function checkSame(present: Marker, asked: ShapesSettings, folder: string): void {
  for (const key of ['count', 'size', 'seed'] as const) {
    if (asked[key] === undefined || asked[key] === present[key]) continue;
    throw new DataError({
      what: `there is a sample set with ${key} ${present[key]} already, asked for was ${asked[key]}`,
      where: folder,
      fix: 'choose another folder, or remove this one',
    });
  }
}

async function requireEmpty(folder: string): Promise<void> {
  const names = await fs.readdir(folder).catch(ignoreMissing);
  if (!names) return;
  if (names.length > 0) {
    throw new DataError({
      what: 'the folder is not empty and holds no complete sample set',
      where: folder,
      fix: 'choose another folder, or remove this one',
    });
  }
}

interface Job {
  split: 'train' | 'val';
  label: number;
  number: number;
}

/** Draws and writes everything; returns the bytes of images and masks. */
async function writeImages(
  folder: string,
  { count, size, seed }: Required<ShapesSettings>,
  options: ShapesOptions,
): Promise<number> {
  const jobs = listJobs(count);
  for (const split of ['train', 'val']) {
    for (const shape of SHAPES) {
      await fs.mkdir(path.join(folder, split, shape), { recursive: true });
      await fs.mkdir(path.join(folder, 'masks', split, shape), { recursive: true });
    }
  }
  const boxes: Record<Job['split'], Record<string, unknown>> = { train: {}, val: {} };
  let next = 0;
  let done = 0;
  let bytes = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) {
      if (options.signal?.aborted) throw new AbortedError('stopped while drawing the sample set');
      const job = jobs[next++]!;
      const name = path.join(SHAPES[job.label]!, String(job.number).padStart(5, '0'));
      const drawing = drawShape(job.label, size, seed, job.split === 'train' ? 0 : 1, job.number);
      const rgb = { raw: { width: size, height: size, channels: 3 as const } };
      const gray = { raw: { width: size, height: size, channels: 1 as const } };
      const [image, mask] = await Promise.all([
        sharp(drawing.pixels, rgb)
          .jpeg({ quality: 92, chromaSubsampling: '4:4:4' })
          .toFile(path.join(folder, job.split, `${name}.jpg`)),
        sharp(drawing.mask, gray)
          .toColourspace('b-w')
          .png({ compressionLevel: 4 })
          .toFile(path.join(folder, 'masks', job.split, `${name}.png`)),
      ]);
      bytes += image.size + mask.size;
      boxes[job.split][`${name}.jpg`] = [{ label: SHAPES[job.label], box: drawing.box }];
      done++;
      if (done % 50 === 0 || done === jobs.length) options.onProgress?.(done, jobs.length);
    }
  };
  const workers = Array.from({ length: 2 * availableParallelism() + 2 }, async () => {
    try {
      await worker();
    } catch (error) {
      next = jobs.length; // the others stop, too
      throw error;
    }
  });
  // Not Promise.all: the folder is removed after a failure, when nobody may be writing into it any more.
  const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  await fs.mkdir(path.join(folder, 'boxes'));
  for (const split of ['train', 'val'] as const) {
    const sorted = Object.fromEntries(Object.entries(boxes[split]).sort(([a], [b]) => (a < b ? -1 : 1)));
    await fs.writeFile(path.join(folder, 'boxes', `${split}.json`), JSON.stringify(sorted, null, 1) + '\n');
  }
  return bytes;
}

/** One image in six for validation, classes in turn. */
function listJobs(count: number): Job[] {
  const jobs: Job[] = [];
  const held = Math.max(SHAPES.length, Math.round(count / 6));
  const add = (split: Job['split'], images: number): void => {
    for (let i = 0; i < images; i++) {
      jobs.push({ split, label: i % SHAPES.length, number: Math.floor(i / SHAPES.length) });
    }
  };
  add('train', count - held);
  add('val', held);
  return jobs;
}

function checkRange(name: string, value: number, low: number, high: number): void {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return;
  throw new ArgumentError({
    what: `${name} must be a whole number from ${low} to ${high}, is ${value}`,
    fix: `choose ${value > high ? `at most ${high}` : `at least ${low}`}`,
  });
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
