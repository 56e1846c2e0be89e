/** What every kind of data looks like to the packer: named splits of labelled samples that can be decoded. */
import type { DecodedImage } from './decode.js';

/** How pixels are kept; decided by the plan (pack_plan.ts). */
export interface PixelSettings {
  channels: 1 | 3;
  /** Shorter side in the pack if the image is larger; null: full size. */
  shorterSide: number | null;
}

/** One folder of classes, or one pair of IDX files. */
export interface SplitSource {
  /** `train`, `val`, `test`, or the folder's own name. */
  name: string;
  /** Absolute path, for keys and messages. */
  location: string;
  classes: readonly string[];
  /** Set if it is a folder of classes, which another process can list as well. */
  folder?: string;
  /** Class index of each sample. */
  labels: Int32Array;
  /** A name for sample i: its path below `location`. */
  id(i: number): string;
  /** SHA-256 over what would change if the data changed (names, sizes, times, or the contents). */
  identity: string;
  /** The same without times and places: equal for a copy of the data on another machine. */
  contentId: string;
  /** Shapes of a spread of samples, enough to estimate the pack's size. */
  sampleSizes(): Promise<{ height: number; width: number }[]>;
  /** Decodes sample i. Throws DataError if it is broken. */
  read(i: number, settings: PixelSettings): Promise<DecodedImage> | DecodedImage;
}

export interface DataSource {
  kind: 'folder' | 'idx' | 'shapes';
  location: string;
  classes: string[];
  splits: SplitSource[];
  /** What a person should know but nothing fails for. */
  warnings: string[];
}

/** Orders strings by code point, as Python's `sorted` does (JavaScript's default goes by UTF-16 unit). */
export function byCodePoint(a: string, b: string): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // Surrogates (0xD800…0xDFFF) stand for code points above every other unit.
    const high = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff;
    if (high(x) !== high(y)) return high(x) ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}
