/**
 * How pixels are kept in a pack, and whether they fit.
 *
 * `auto` keeps the originals if they are small already (nine in ten have a shorter side of at most 1.5 × the pack
 * size), fit in 4 GiB and take no more than half of the free disk; otherwise it scales them down to the pack size.
 * The pack size is twice the larger side of the training resolution (at least 64), rounded up to a multiple of 32.
 * Twice, because a random resized crop that takes a quarter of the area or more is then never magnified, and the
 * usual evaluation (shorter side to 256 for a crop of 224) always scales down.
 */
import { statfs } from 'node:fs/promises';

import { ConfigError, DataError } from '../errors.js';
import type { PixelSettings, SplitSource } from './source.js';

export type PackMode = 'auto' | 'resized' | 'original' | 'encoded';

export interface PackRequest {
  pack: PackMode;
  /** Shorter side of `resized`. Default: from the resolution. */
  packSize?: number | undefined;
  channels: 1 | 3;
  /** Height and width the model is trained at. */
  resolution: readonly [number, number];
  /** Largest pack of originals that `auto` makes, bytes. Default 4 GiB. */
  autoLimitBytes?: number | undefined;
}

export interface PackEstimate {
  /** Bytes of pixels with the given settings. */
  bytes: number;
  /** The shorter side that nine in ten images do not exceed. */
  shorterSide90: number;
}

/** Bytes free for the user on the file system of a folder. */
export type FreeBytes = (folder: string) => Promise<number>;

export const freeBytes: FreeBytes = async (folder) => {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
};

/** Shorter side of resized packs for a training resolution. */
export function defaultPackSize(resolution: readonly [number, number]): number {
  return Math.max(64, Math.ceil((2 * Math.max(...resolution)) / 32) * 32);
}

/** Settings that a mode other than `auto` means; for `auto` both candidates, originals first. */
export function candidates(request: PackRequest): PixelSettings[] {
  const { channels, pack } = request;
  if (pack === 'encoded') {
    throw new ConfigError({
      what: 'data.pack: encoded is not available in this version: the loader cannot decode files itself yet',
      fix: 'use `resized` (small packs), `original` (full size) or `auto`',
    });
  }
  const original = { channels, shorterSide: null };
  const resized = { channels, shorterSide: request.packSize ?? defaultPackSize(request.resolution) };
  if (pack === 'original') return [original];
  if (pack === 'resized') return [resized];
  return [original, resized];
}

/** Size of a pack, from the shapes of a spread of samples. */
export async function estimate(split: SplitSource, settings: PixelSettings): Promise<PackEstimate> {
  const shapes = await split.sampleSizes();
  if (shapes.length === 0) return { bytes: 0, shorterSide90: 0 }; // all broken: packing reports it
  let pixels = 0;
  for (const { height, width } of shapes) {
    const shorter = Math.min(height, width);
    const scale = settings.shorterSide === null ? 1 : Math.min(1, settings.shorterSide / shorter);
    pixels += height * scale * width * scale;
  }
  const shorter = shapes.map(({ height, width }) => Math.min(height, width)).sort((a, b) => a - b);
  return {
    bytes: Math.round((pixels / shapes.length) * settings.channels * split.labels.length),
    shorterSide90: shorter[Math.floor(0.9 * (shorter.length - 1))]!,
  };
}

/**
 * Decides between the candidates of `auto` for all splits together. Apart from the disk, data and config alone
 * decide, so that a run is the same whatever the cache holds.
 *
 * @param hasRoom whether there is room for originals of so many bytes.
 */
export async function choose(
  splits: readonly SplitSource[],
  request: PackRequest,
  hasRoom: (bytes: number, settings: PixelSettings) => Promise<boolean>,
): Promise<PixelSettings> {
  const [original, resized] = candidates(request);
  if (!resized) return original!;
  const estimates = await Promise.all(splits.map((split) => estimate(split, original!)));
  const bytes = estimates.reduce((sum, each) => sum + each.bytes, 0);
  const small = estimates.every((each) => each.shorterSide90 <= 1.5 * resized.shorterSide!);
  if (!small || bytes > (request.autoLimitBytes ?? 4 * 2 ** 30)) return resized;
  return (await hasRoom(bytes, original!)) ? original! : resized;
}

/** Throws DataError if the pack would not fit beside 64 MiB of reserve. */
export async function requireSpace(
  split: SplitSource,
  settings: PixelSettings,
  folder: string,
  free: FreeBytes = freeBytes,
): Promise<void> {
  const { bytes } = await estimate(split, settings);
  // Sampling may miss the largest images, and every sample costs some bytes of its own.
  const needed = bytes * 1.05 + 48 * split.labels.length + 64 * 2 ** 20;
  const available = await free(folder);
  if (needed > available) throw noSpace(needed, available, folder);
}

/** The error for a full disk, foreseen or met. */
export function noSpace(
  needed: number | null,
  available: number,
  folder: string,
  cause?: unknown,
): DataError {
  const wanted = needed === null ? 'is full' : `needs about ${gib(needed)}, has ${gib(available)} free`;
  return new DataError({
    what: `not enough disk space for the pack: the disk ${wanted}`,
    where: folder,
    fix: 'free some space, set data.cache (or FORNAX_CACHE) to another disk, or use data.pack: resized with a smaller data.resolution',
    cause,
  });
}

export function gib(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
