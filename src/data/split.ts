/** A packed split, or a part of one, as the loader takes it. */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import type { PackShard } from '../native/contract.js';
import type { BrokenFile, Pack } from './pack_cache.js';
import { readField } from './pack_format.js';
import { countClasses, stratifiedLimit } from './stratified.js';

/** Samples of one split, as the loader takes them. */
export interface Split {
  name: string;
  shards: PackShard[];
  /** Which samples of the shards belong to the split; all if absent. */
  indices?: Int32Array;
  samples: number;
  /** Samples of each class. */
  classCounts: number[];
  /** [height, width] if all images of the shards have the same size, else null. */
  uniformSize: [number, number] | null;
  /** Folder of the pack. */
  pack: string;
  /** Where the files named by `sampleIds` lie. */
  location: string;
  /** Names of all samples of the shards (not only of `indices`), by sample index. */
  sampleIds(): Promise<string[]>;
}

export interface Described {
  split: Split;
  labels: Int32Array;
}

/** Reads labels and sizes of a pack. */
export async function describeSplit(pack: Pack, name: string, classes: number): Promise<Described> {
  const labels = new Int32Array(pack.manifest.samples);
  let size: [number, number] | null = null;
  let uniform = true;
  let at = 0;
  for (const shard of pack.shards) {
    for (const label of await readField(shard.labels, 'int64')) labels[at++] = Number(label);
    const sizes = await readField(shard.sizes, 'int32');
    for (let i = 0; i < sizes.length; i += 2) {
      size ??= [sizes[i]!, sizes[i + 1]!];
      if (sizes[i] !== size[0] || sizes[i + 1] !== size[1]) uniform = false;
    }
  }
  const split: Split = {
    name,
    shards: pack.shards,
    samples: labels.length,
    classCounts: countClasses(labels, classes),
    uniformSize: uniform ? size : null,
    pack: pack.folder,
    location: pack.manifest.source.location,
    sampleIds: async () =>
      (await fs.readFile(path.join(pack.folder, 'samples.txt'), 'utf8')).trimEnd().split('\n'),
  };
  return { split, labels };
}

/** The part of a split with the given sample indices. */
export function subset(whole: Split, name: string, labels: Int32Array, indices: Int32Array): Split {
  const classCounts = countClasses(labels, whole.classCounts.length, indices);
  return { ...whole, name, indices, samples: indices.length, classCounts };
}

/** At most `limit` samples, every class in proportion. */
export function limitSplit(split: Split, labels: Int32Array, limit: number, seed: number): Split {
  const indices = split.indices ?? Int32Array.from({ length: split.samples }, (_, i) => i);
  return subset(split, split.name, labels, stratifiedLimit(labels, indices, limit, seed));
}

/** Broken files with their whole paths. */
export function brokenPaths(pack: Pack): BrokenFile[] {
  const { source, broken } = pack.manifest;
  return broken.map((file) => ({ ...file, path: path.join(source.location, file.path) }));
}
