/** The packer: decodes every sample of a split once, into shards that the native loader maps. */
import { promises as fs } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';

import { AbortedError, DataError } from '../errors.js';
import { removeFolderAtomically, writeFolderAtomically } from '../io/atomic.js';
import { makeFolders } from '../io/folders.js';
import { withLock } from '../io/lock.js';
import { brokenReason, type DecodedImage } from './decode.js';
import {
  openPack,
  packAddress,
  sweepPacks,
  type BrokenFile,
  type Pack,
  type PackManifest,
} from './pack_cache.js';
import { PACK_FORMAT_VERSION, ShardWriter } from './pack_format.js';
import { freeBytes, noSpace, requireSpace, type FreeBytes } from './pack_plan.js';
import { packInProcess, poolSize, threadsForProcess } from './pack_process.js';
import type { PixelSettings, SplitSource } from './source.js';

export interface PackProgress {
  /** Name of the split. */
  split: string;
  /** Samples read so far, of how many. */
  done: number;
  total: number;
  /** Bytes of pixels so far. */
  bytes: number;
}

export interface PackOptions {
  /** Cache folder (the packs lie in `packs/` below it). */
  cache: string;
  /** `skip` lists broken files and leaves them out; `fail` stops at the first. */
  onBroken: 'skip' | 'fail';
  /** Called about ten times a second, and at the end. */
  onProgress?: ((progress: PackProgress) => void) | undefined;
  /** Called if another process is building the same pack. */
  onWait?: ((owner: string) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Images decoded at once. Default: one per core. More than libuv's pool takes another process. */
  decodeThreads?: number;
  /** For tests. */
  freeBytes?: FreeBytes;
  /** A new shard is begun beyond this many bytes. Default 1 GiB. */
  shardBytes?: number;
}

/** The pack of a split: the one in the cache if it is up to date, else a new one. */
export async function packSplit(
  split: SplitSource,
  settings: PixelSettings,
  options: PackOptions,
): Promise<Pack> {
  const address = packAddress(options.cache, split, settings);
  const existing = await openPack(address.folder, address.key);
  if (existing) return checkBroken(existing, split, options);
  const threads = threadsForProcess(split, options);
  if (threads !== null) {
    await packInProcess(split as SplitSource & { folder: string }, settings, options, threads);
    const packed = await openPack(address.folder, address.key);
    if (packed) return packed;
    // The folder has changed since it was listed: what was listed is packed here, and what is gone reported.
  }
  await makeFolders(address.root);
  return withLock(
    `${address.folder}.lock`,
    async () => {
      const meanwhile = await openPack(address.folder, address.key);
      if (meanwhile) return checkBroken(meanwhile, split, options);
      await sweepPacks(address);
      await requireSpace(split, settings, address.root, options.freeBytes);
      // What lies there is damaged, or openPack had taken it.
      await removeFolderAtomically(address.folder).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      await build(split, settings, options, address.folder, address.key);
      const built = await openPack(address.folder, address.key);
      if (!built) {
        throw new DataError({ what: 'the pack that was just written cannot be read', where: address.folder });
      }
      return built;
    },
    { signal: options.signal, onWait: options.onWait },
  );
}

/** A pack made under `skip` may hold a list of broken files that `fail` does not accept. */
function checkBroken(pack: Pack, split: SplitSource, options: PackOptions): Pack {
  const first = pack.manifest.broken[0];
  if (options.onBroken === 'fail' && first) throw brokenError(split, first);
  return pack;
}

function brokenError(split: SplitSource, file: BrokenFile, cause?: unknown): DataError {
  return new DataError({
    what: `cannot read image: ${file.reason}`,
    where: path.join(split.location, file.path),
    fix: 'repair or remove it, or set data.on_broken: skip',
    cause,
  });
}

async function build(
  split: SplitSource,
  settings: PixelSettings,
  options: PackOptions,
  folder: string,
  key: string,
): Promise<void> {
  // One libvips thread per image and many images at once is the fastest for photos and for thumbnails alike.
  const before = sharp.concurrency();
  sharp.concurrency(1);
  try {
    await writeFolderAtomically(folder, async (temporary) => {
      const written = await writeShards(split, settings, options, temporary);
      const manifest: PackManifest = {
        format: PACK_FORMAT_VERSION,
        key,
        source: { location: split.location, split: split.name, content_id: split.contentId },
        settings: { channels: settings.channels, shorter_side: settings.shorterSide },
        classes: [...split.classes],
        samples: written.ids.length,
        pixel_bytes: written.bytes,
        shards: written.shards,
        broken: written.broken,
      };
      await fs.writeFile(path.join(temporary, 'samples.txt'), written.ids.join('\n') + '\n');
      await fs.writeFile(path.join(temporary, 'pack.json'), JSON.stringify(manifest, null, 2) + '\n');
    });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw noSpace(
        null,
        await (options.freeBytes ?? freeBytes)(path.dirname(folder)),
        path.dirname(folder),
        error,
      );
    }
    // Another process finished the same pack first (its lock was taken over): that one is as good.
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  } finally {
    sharp.concurrency(before);
  }
}

interface Written {
  shards: PackManifest['shards'];
  ids: string[];
  broken: BrokenFile[];
  bytes: number;
}

async function writeShards(
  split: SplitSource,
  settings: PixelSettings,
  options: PackOptions,
  folder: string,
): Promise<Written> {
  const metadata = shardMetadata(split, settings);
  const written: Written = { shards: [], ids: [], broken: [], bytes: 0 };
  const total = split.labels.length;
  const report = throttle(options.onProgress);
  let writer: ShardWriter | null = null;
  const close = async (): Promise<void> => {
    if (!writer) return;
    const closing = writer;
    await closing.finish();
    writer = null;
    written.shards.at(-1)!.samples = closing.samples;
  };
  let done = 0;
  try {
    for await (const result of decodeInOrder(split, settings, options.signal)) {
      const i = done++;
      if ('error' in result) {
        const entry = { path: split.id(i), reason: brokenReason(result.error) };
        if (options.onBroken === 'fail') throw brokenError(split, entry, result.error);
        written.broken.push(entry);
      } else {
        if (writer && writer.pixelBytes >= (options.shardBytes ?? 2 ** 30)) await close();
        if (!writer) {
          const file = `shard-${String(written.shards.length).padStart(5, '0')}.safetensors`;
          written.shards.push({ file, samples: 0 });
          writer = await ShardWriter.create(path.join(folder, file), metadata);
        }
        await writer.add(result, split.labels[i]!);
        written.ids.push(split.id(i));
        written.bytes += result.data.length;
      }
      report({ split: split.name, done, total, bytes: written.bytes }, done === total);
    }
    if (written.ids.length === 0) throw allBroken(split, written.broken);
    await close();
    return written;
  } finally {
    await (writer as ShardWriter | null)?.abort();
  }
}

/**
 * Decodes ahead: enough images are under way to keep every thread of libuv's pool busy (sharp's work runs there;
 * see pack_process.ts), few enough to bound the memory. Results come in order.
 */
async function* decodeInOrder(
  split: SplitSource,
  settings: PixelSettings,
  signal: AbortSignal | undefined,
): AsyncGenerator<DecodedImage | { error: unknown }> {
  const window = 2 * Math.max(2, Math.min(poolSize(), availableParallelism() + 1));
  const underWay: (DecodedImage | Promise<DecodedImage | { error: unknown }>)[] = [];
  const total = split.labels.length;
  let next = 0;
  const start = (): void => {
    const image = split.read(next++, settings);
    if (!('then' in image)) {
      underWay.push(image);
      return;
    }
    const settled = image.catch(asBroken);
    settled.catch(() => undefined); // reported when its turn comes; until then it must not count as unhandled
    underWay.push(settled);
  };
  try {
    for (let i = 0; i < total; i++) {
      if (signal?.aborted) throw new AbortedError('stopped while packing; nothing incomplete is kept');
      while (next < total && underWay.length < window) start();
      const head = underWay.shift()!;
      yield 'then' in head ? await head : head;
    }
  } finally {
    // After an error nothing may still be at work on files and memory when the caller cleans up.
    await Promise.allSettled(underWay);
  }
}

/** A DataError is a verdict on the file; anything else (too many open files) is one on the machine. */
function asBroken(error: unknown): { error: DataError } {
  if (error instanceof DataError) return { error };
  throw error;
}

function shardMetadata(split: SplitSource, settings: PixelSettings): Record<string, string> {
  return {
    format: 'fornax-pack',
    format_version: String(PACK_FORMAT_VERSION),
    classes: JSON.stringify(split.classes),
    channels: String(settings.channels),
    shorter_side: String(settings.shorterSide),
    source: split.location,
    split: split.name,
    content_id: split.contentId,
  };
}

function allBroken(split: SplitSource, broken: BrokenFile[]): DataError {
  const shown = broken.slice(0, 5).map(({ path: file, reason }) => `${file}: ${reason}`);
  return new DataError({
    what: `none of the ${broken.length} images can be read`,
    where: split.location,
    fix: `the first: ${shown.join('; ')}`,
  });
}

function throttle(
  callback: ((progress: PackProgress) => void) | undefined,
): (progress: PackProgress, always: boolean) => void {
  let last = 0;
  return (progress, always) => {
    const now = performance.now();
    if (!callback || (!always && now - last < 100)) return;
    last = now;
    callback(progress);
  };
}
