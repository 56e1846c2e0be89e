/** Packs made by the packer: usual options, and all that one holds. */
import type { PackOptions } from '#fornax/data/pack.js';
import type { Pack } from '#fornax/data/pack_cache.js';
import { readBytes, readField } from '#fornax/data/pack_format.js';

export const rgb = { channels: 3 as const, shorterSide: null };

export const options = (cache: string, more: Partial<PackOptions> = {}): PackOptions => ({
  cache,
  onBroken: 'skip',
  ...more,
});

/** Everything in a pack, as plain numbers. */
export async function contents(pack: Pack): Promise<{ label: number; size: number[]; pixels: Uint8Array }[]> {
  const all = [];
  for (const shard of pack.shards) {
    const [offsets, labels] = [
      await readField(shard.offsets, 'int64'),
      await readField(shard.labels, 'int64'),
    ];
    const sizes = await readField(shard.sizes, 'int32');
    for (let i = 0; i < labels.length; i++) {
      const pixels = new Uint8Array(Number(offsets[i + 1]! - offsets[i]!));
      await readBytes(shard.pixels.path, shard.pixels.offset + Number(offsets[i]!), pixels);
      all.push({ label: Number(labels[i]), size: [sizes[2 * i]!, sizes[2 * i + 1]!], pixels });
    }
  }
  return all;
}
