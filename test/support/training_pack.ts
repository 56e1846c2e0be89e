/** A pack of small coloured images in which the colour tells the class, and loaders on it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAddon } from '#fornax/native.js';
import type { LoaderOptions, NativeLoader, PackShard } from '#fornax/native/contract.js';
import { fillUnit } from '../conformance/fill.js';
import { makeImage, writeShard } from './pack_files.js';

export const imageSize = 16;
export const normalize = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };

export interface ColourPack {
  shard: PackShard;
  samples: number;
  remove(): void;
}

/** `samples` images of four classes: noise around a colour of the class's own. */
export function writeColourPack(samples: number): ColourPack {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-train-'));
  const images = Array.from({ length: samples }, (_, i) => {
    const label = i % 4;
    const noise = (y: number, x: number, c: number): number =>
      fillUnit((y * imageSize + x) * 3 + c, i) * 160 + (c === label ? 90 : 0);
    return makeImage(imageSize, imageSize, 3, label, noise);
  });
  return {
    shard: writeShard(folder, 'shard', images),
    samples,
    remove: () => rmSync(folder, { recursive: true }),
  };
}

export function openColourLoader(pack: ColourPack, overrides: Partial<LoaderOptions> = {}): NativeLoader {
  return new (loadAddon().Loader)({
    shards: [pack.shard],
    channels: 3,
    batch_size: 8,
    shuffle: true,
    seed: 1,
    augment: { size: [imageSize, imageSize], crop: { kind: 'none' } },
    ...overrides,
  });
}
