/** Statistics of pixels: measured over a pack. The named ones stand in src/config/normalize.ts. */
import type { Normalize } from '../native/contract.js';
import { generator } from './random.js';
import { readBytes, readField } from './pack_format.js';
import type { Split } from './split.js';

const DEFAULT_SAMPLES = 2000;

/**
 * Mean and standard deviation per channel of a split, for pixels scaled to 0…1, over at most `samples` images
 * chosen by `seed`. Every pixel counts once, as if all chosen images lay side by side.
 */
export async function measureNormalize(
  split: Split,
  channels: 1 | 3,
  options: { samples?: number; seed?: number } = {},
): Promise<Normalize> {
  const chosen = chooseSamples(split, options.samples ?? DEFAULT_SAMPLES, options.seed ?? 0);
  // Counts of values: exact integers, so that the order of summation does not matter.
  const histograms = Array.from({ length: channels }, () => new Float64Array(256));
  let first = 0;
  let next = 0;
  for (const shard of split.shards) {
    const n = shard.labels.shape[0]!;
    const offsets = await readField(shard.offsets, 'int64');
    for (; next < chosen.length && chosen[next]! < first + n; next++) {
      const i = chosen[next]! - first;
      const begin = Number(offsets[i]!);
      const pixels = new Uint8Array(Number(offsets[i + 1]!) - begin);
      await readBytes(shard.pixels.path, shard.pixels.offset + begin, pixels);
      count(pixels, histograms);
    }
    first += n;
  }
  const mean: number[] = [];
  const std: number[] = [];
  for (const histogram of histograms) {
    let [pixels, sum, squares] = [0, 0, 0];
    histogram.forEach((times, value) => {
      pixels += times;
      sum += times * value;
      squares += times * value * value;
    });
    const average = sum / pixels;
    mean.push(average / 255);
    // A channel without any variation must not lead to a division by zero.
    std.push(Math.max(Math.sqrt(squares / pixels - average * average) / 255, 1e-3));
  }
  return { mean, std };
}

function count(pixels: Uint8Array, histograms: Float64Array[]): void {
  const channels = histograms.length;
  histograms.forEach((histogram, c) => {
    for (let p = c; p < pixels.length; p += channels) histogram[pixels[p]!]!++;
  });
}

/** Sample indices, ascending: every one, or one drawn from each of `samples` equal stretches. */
function chooseSamples(split: Split, samples: number, seed: number): number[] {
  const at = (i: number): number => split.indices?.[i] ?? i;
  if (split.samples <= samples) return Array.from({ length: split.samples }, (_, i) => at(i));
  const random = generator(seed);
  const stretch = split.samples / samples;
  return Array.from({ length: samples }, (_, i) => at(Math.floor((i + random()) * stretch)));
}
