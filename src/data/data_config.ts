/** What a config says about data, and what follows from it for both training and evaluation. */
import { createHash } from 'node:crypto';
import { existsSync, promises as fs, statSync } from 'node:fs';
import path from 'node:path';

import { makeFolders } from '../io/folders.js';
import { looksLikeIdx } from './idx.js';
import type { PackOptions, PackProgress } from './pack.js';
import { openPack, packAddress, packsFolder } from './pack_cache.js';
import { choose, freeBytes, type FreeBytes, type PackMode, type PackRequest } from './pack_plan.js';
import type { DataSource, PixelSettings, SplitSource } from './source.js';
import type { Split } from './split.js';

export type SourceKind = 'auto' | 'folder' | 'idx' | 'shapes';

export interface DataConfig {
  /** Default `auto`: IDX files if `path` holds them, else an image folder. */
  source?: SourceKind;
  /** Folder of the data. May be left out for `idx` (Debian's Fashion-MNIST) and `shapes` (in the cache). */
  path?: string | null;
  /** Folder of the training images inside `path`. Default `train`, or `path` itself where there is none. */
  trainSplit?: string;
  /** Folder of the validation images. `auto` (default): val, valid, validation or test. null: always a share. */
  valSplit?: string | null;
  /** Share of the training images held out per class where there is no validation folder, 0…1. Default 0.1. */
  valFraction?: number;
  /** Default `auto`: 1 for IDX, else 3. */
  channels?: 1 | 3 | 'auto';
  /** Height and width of training, pixels: decides the size of resized packs. */
  resolution: readonly [number, number];
  /** Default `auto`; see pack_plan.ts. */
  pack?: PackMode;
  /** Shorter side of resized packs, pixels. Default: twice the resolution. */
  packSize?: number;
  /** Default `skip`. */
  onBroken?: 'skip' | 'fail';
  /** Folder for packs. Default `$FORNAX_CACHE`, else `~/.cache/fornax`. */
  cache?: string | null;
  /** Seed of the held-out share and of `limit`. Default 0. */
  seed?: number;
  /** At most this many training images. Default: all. */
  limit?: number | null;
}

export interface PrepareOptions {
  onProgress?: (progress: PackProgress) => void;
  /** Called if another process is building the same pack. */
  onWait?: (owner: string) => void;
  signal?: AbortSignal;
  /** For tests. */
  freeBytes?: FreeBytes;
}

/** `auto` spelt out. */
export async function resolveKind(
  config: Pick<DataConfig, 'source' | 'path'>,
): Promise<'folder' | 'idx' | 'shapes'> {
  const kind = config.source ?? 'auto';
  if (kind !== 'auto') return kind;
  if (!config.path || !existsSync(config.path)) return 'folder';
  const names = statSync(config.path).isDirectory()
    ? await fs.readdir(config.path)
    : [path.basename(config.path)];
  return looksLikeIdx(names) ? 'idx' : 'folder';
}

/** `auto` spelt out: 1 for IDX, else 3. */
export function resolveChannels(config: Pick<DataConfig, 'channels'>, source: DataSource): 1 | 3 {
  if (config.channels === 1 || config.channels === 3) return config.channels;
  return source.kind === 'idx' ? 1 : 3;
}

/** How pixels are kept. Originals that are packed already need no room, even if the disk has filled up since. */
export async function resolveSettings(
  splits: readonly SplitSource[],
  config: DataConfig,
  channels: 1 | 3,
  cache: string,
  options: PrepareOptions,
): Promise<PixelSettings> {
  const request: PackRequest = {
    pack: config.pack ?? 'auto',
    packSize: config.packSize,
    channels,
    resolution: config.resolution,
  };
  return choose(splits, request, async (bytes, original) => {
    const packs = await Promise.all(
      splits.map((split) => {
        const { folder, key } = packAddress(cache, split, original);
        return openPack(folder, key);
      }),
    );
    if (packs.every((pack) => pack !== null)) return true;
    const folder = packsFolder(cache);
    await makeFolders(folder);
    return bytes <= 0.5 * (await (options.freeBytes ?? freeBytes)(folder));
  });
}

export function packOptions(config: DataConfig, cache: string, options: PrepareOptions): PackOptions {
  return { cache, onBroken: config.onBroken ?? 'skip', ...options };
}

/** SHA-256 of everything that decides which samples are seen, and how. */
export function fingerprint(
  source: DataSource,
  settings: PixelSettings,
  train: Split,
  held: Split | null,
): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([source.classes, settings.channels, settings.shorterSide]));
  for (const split of source.splits) hash.update(`${split.name}:${split.contentId}\n`);
  for (const split of [train, held]) hash.update(split?.indices ?? 'all');
  return hash.digest('hex');
}
