/**
 * The folder of packs: `<cache>/packs/<name>-<slot>-<key>/` with `pack.json`, the shards and `samples.txt` (one
 * id per line). The slot says which data with which settings, the key also in which state: when the data
 * changes, a pack with the same slot and another key is stale and is removed before its successor is built (a
 * reader that has it open keeps it: the files live on until they are closed). A pack
 * appears by one rename, so that one that exists is complete.
 */
import { createHash } from 'node:crypto';
import { promises as fs, statSync } from 'node:fs';
import path from 'node:path';

import { removeFolderAtomically, sweepOrphans } from '../io/atomic.js';
import type { PackShard } from '../native/contract.js';
import { PACK_FORMAT_VERSION, readShard } from './pack_format.js';
import type { PixelSettings, SplitSource } from './source.js';

export interface BrokenFile {
  path: string;
  reason: string;
}

/** Contents of pack.json. */
export interface PackManifest {
  format: number;
  key: string;
  source: { location: string; split: string; content_id: string };
  settings: { channels: 1 | 3; shorter_side: number | null };
  classes: string[];
  samples: number;
  pixel_bytes: number;
  shards: { file: string; samples: number }[];
  broken: BrokenFile[];
}

/** A complete pack on the disk. */
export interface Pack {
  folder: string;
  manifest: PackManifest;
  shards: PackShard[];
}

export interface PackAddress {
  /** Folder of all packs. */
  root: string;
  /** Folder of this pack. */
  folder: string;
  /** Folder names of the same slot begin so. */
  slotPrefix: string;
  key: string;
}

export function packsFolder(cache: string): string {
  return path.join(cache, 'packs');
}

/** Where the pack of a split with these settings lies, whether it exists or not. */
export function packAddress(cache: string, split: SplitSource, settings: PixelSettings): PackAddress {
  const { channels, shorterSide } = settings;
  const slot = sha256(
    JSON.stringify([PACK_FORMAT_VERSION, split.location, split.classes, channels, shorterSide]),
  );
  const key = sha256(`${slot}\n${split.identity}`);
  const name = path.basename(path.dirname(split.location)) + '-' + path.basename(split.location);
  const label = name
    .replace(/[^A-Za-z0-9_.-]+/g, '_')
    .replace(/^[.-]+/, '')
    .slice(0, 60);
  const root = packsFolder(cache);
  const slotPrefix = `${label}-${slot.slice(0, 10)}-`;
  return { root, folder: path.join(root, slotPrefix + key.slice(0, 16)), slotPrefix, key };
}

/** Opens a pack, or null if there is none or it is damaged (a missing or shortened shard). */
export async function openPack(folder: string, key?: string): Promise<Pack | null> {
  let manifest: PackManifest;
  try {
    manifest = JSON.parse(await fs.readFile(path.join(folder, 'pack.json'), 'utf8')) as PackManifest;
  } catch {
    return null;
  }
  if (manifest.format !== PACK_FORMAT_VERSION || (key !== undefined && manifest.key !== key)) return null;
  try {
    const shards = await Promise.all(
      manifest.shards.map(({ file }) => readShard(path.join(folder, path.basename(file)))),
    );
    const sound = shards.every((shard, i) => shard.labels.shape[0] === manifest.shards[i]!.samples);
    return sound ? { folder, manifest, shards } : null;
  } catch {
    return null;
  }
}

/** Removes older states of the same data and settings, and what dead writers left. */
export async function sweepPacks(address: PackAddress): Promise<void> {
  await sweepOrphans(address.root);
  for (const name of await fs.readdir(address.root)) {
    const folder = path.join(address.root, name);
    if (!name.startsWith(address.slotPrefix) || folder === address.folder) continue;
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    // Another process may do the same at this moment; that it is gone is all that counts.
    await removeFolderAtomically(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
