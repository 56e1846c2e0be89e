/**
 * The IDX files of MNIST and its relatives (http://yann.lecun.com/exdb/mnist): big-endian, a magic number whose
 * third byte is the element type and whose fourth is the number of dimensions, the dimensions, the bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, promises as fs, statSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';

import { DataError } from '../errors.js';
import type { DecodedImage } from './decode.js';
import type { DataSource, PixelSettings, SplitSource } from './source.js';

/** Where Debian's package dataset-fashion-mnist puts its files. */
export const DEBIAN_FASHION_MNIST = '/usr/share/datasets/fashion-mnist';
/** https://github.com/zalandoresearch/fashion-mnist#labels */
export const FASHION_MNIST_CLASSES = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];
/** SHA-256 of Fashion-MNIST's label files (unpacked): how the data set is known whatever its folder is called. */
const FASHION_MNIST_LABELS = new Set([
  '657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7',
  '3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9',
]);

export interface IdxArray {
  dims: number[];
  data: Uint8Array;
}

export interface IdxSource extends DataSource {
  train: SplitSource;
  test: SplitSource | null;
}

/**
 * Reads an IDX file of unsigned bytes, gzip or not (seen from its contents).
 *
 * @throws DataError if the file is damaged, of another element type, or its length does not fit its header.
 */
export async function readIdx(file: string): Promise<IdxArray> {
  const fail = (what: string, cause?: unknown): never => {
    throw new DataError({
      what: `not a valid IDX file: ${what}`,
      where: file,
      fix: 'download it again; the layout is described at yann.lecun.com/exdb/mnist',
      cause,
    });
  };
  let bytes: Buffer;
  try {
    bytes = await fs.readFile(file);
  } catch (error) {
    throw new DataError({
      what: `cannot read: ${(error as Error).message}`,
      where: file,
      fix: 'check that it is a file and that you may read it',
      cause: error,
    });
  }
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    try {
      bytes = await promisify(gunzip)(bytes, { maxOutputLength: 2 ** 32 });
    } catch (error) {
      fail(`it is gzip, but damaged (${(error as Error).message})`, error);
    }
  }
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== 0) fail('it does not begin with the magic number');
  if (bytes[2] !== 0x08)
    fail(`its elements are of type 0x${bytes[2]!.toString(16)}, only unsigned bytes are read`);
  const rank = bytes[3]!;
  const start = 4 + 4 * rank;
  if (rank === 0 || bytes.length < start) fail('its header is incomplete');
  const dims = Array.from({ length: rank }, (_, d) => bytes.readUInt32BE(4 + 4 * d));
  const expected = dims.reduce((product, size) => product * size, 1);
  if (bytes.length - start !== expected) {
    fail(`its header says [${dims.join(', ')}] = ${expected} bytes, but ${bytes.length - start} follow`);
  }
  return { dims, data: bytes.subarray(start) };
}

/**
 * Opens the files of a folder: `train-images…idx3-ubyte`, `train-labels…idx1-ubyte` and, if present, the same
 * with `t10k` (or `test`). A dot in place of the dash and a trailing `.gz` are allowed.
 *
 * @param location the folder, or one of its files; null: Debian's package dataset-fashion-mnist.
 */
export async function openIdx(location: string | null): Promise<IdxSource> {
  const given = path.resolve(location ?? DEBIAN_FASHION_MNIST);
  if (!existsSync(given)) {
    throw new DataError({
      what: 'the IDX files are not there',
      where: given,
      fix:
        location === null
          ? 'run `apt-get install dataset-fashion-mnist`, or set data.path to a folder with the four files'
          : 'set data.path to a folder that holds train-images-idx3-ubyte and train-labels-idx1-ubyte',
    });
  }
  const folder = statSync(given).isDirectory() ? given : path.dirname(given);
  const names = await fs.readdir(folder);
  const train = await openPair(folder, names, 'train', 'train');
  if (train === null) {
    throw new DataError({
      what: 'no IDX training files',
      where: folder,
      fix: 'the folder must hold train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz allowed)',
    });
  }
  const test = await openPair(folder, names, '(?:t10k|test)', 'test');
  const fashion = FASHION_MNIST_LABELS.has(train.labelHash);
  const count = 1 + Math.max(maximum(train.labels), test ? maximum(test.labels) : 0);
  const classes = fashion ? FASHION_MNIST_CLASSES : Array.from({ length: count }, (_, i) => String(i));
  const splits = [train, test].filter((split) => split !== null).map((split) => split.withClasses(classes));
  return {
    kind: 'idx',
    location: folder,
    classes,
    splits,
    warnings: test ? [] : [`${folder} has no test files (t10k-…)`],
    train: splits[0]!,
    test: splits[1] ?? null,
  };
}

/** Whether a folder looks like one of IDX files. */
export function looksLikeIdx(names: readonly string[]): boolean {
  return names.some((name) => /^train-images[.-]idx3-ubyte(\.gz)?$/.test(name));
}

async function openPair(
  folder: string,
  names: string[],
  prefix: string,
  split: string,
): Promise<IdxSplit | null> {
  const find = (what: string, rank: number): string | undefined =>
    names.find((name) => new RegExp(`^${prefix}-${what}[.-]idx${rank}-ubyte(\\.gz)?$`).test(name));
  const images = find('images', 3);
  const labels = find('labels', 1);
  if (images === undefined && labels === undefined) return null;
  if (images === undefined || labels === undefined) {
    throw new DataError({
      what: `the ${images === undefined ? 'images' : 'labels'} that belong to ${images ?? labels} are missing`,
      where: folder,
      fix: `put the ${images === undefined ? `images (${split}-images-idx3-ubyte)` : `labels (${split}-labels-idx1-ubyte)`} of the same data set beside them; .gz is allowed`,
    });
  }
  const imagePath = path.join(folder, images);
  const [pixels, classes] = await Promise.all([readIdx(imagePath), readIdx(path.join(folder, labels))]);
  if (pixels.dims.length !== 3 || classes.dims.length !== 1) {
    throw new DataError({
      what: `expected images [N, H, W] and labels [N], found [${pixels.dims.join(', ')}] and [${classes.dims.join(', ')}]`,
      where: imagePath,
      fix: 'download both files again: one of them holds something else than its name says',
    });
  }
  if (pixels.dims[0] !== classes.dims[0] || pixels.dims[0] === 0) {
    throw new DataError({
      what: `${pixels.dims[0]} images, but ${classes.dims[0]} labels`,
      where: imagePath,
      fix: 'images and labels must come from the same data set and hold at least one sample',
    });
  }
  return new IdxSplit(split, imagePath, pixels, classes.data);
}

class IdxSplit implements SplitSource {
  readonly labels: Int32Array;
  readonly identity: string;
  readonly contentId: string;
  readonly labelHash: string;
  classes: readonly string[] = [];

  constructor(
    readonly name: string,
    readonly location: string,
    private readonly pixels: IdxArray,
    labels: Uint8Array,
  ) {
    this.labels = Int32Array.from(labels);
    this.labelHash = createHash('sha256').update(labels).digest('hex');
    const hash = createHash('sha256').update(`idx\n${pixels.dims.join()}\n`).update(labels);
    this.contentId = hash.update(pixels.data).digest('hex');
    this.identity = this.contentId;
  }

  withClasses(classes: readonly string[]): this {
    this.classes = classes;
    return this;
  }

  id(i: number): string {
    return `${path.basename(this.location)}[${i}]`;
  }

  sampleSizes(): Promise<{ height: number; width: number }[]> {
    return Promise.resolve([{ height: this.pixels.dims[1]!, width: this.pixels.dims[2]! }]);
  }

  read(i: number, { channels }: PixelSettings): DecodedImage {
    const [, height, width] = this.pixels.dims as [number, number, number];
    const size = height * width;
    const gray = this.pixels.data.subarray(i * size, (i + 1) * size);
    if (channels === 1) return { data: gray, height, width, channels };
    const data = new Uint8Array(size * 3);
    for (let p = 0, q = 0; p < size; p++, q += 3) data[q] = data[q + 1] = data[q + 2] = gray[p]!;
    return { data, height, width, channels };
  }
}

function maximum(values: Int32Array): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}
