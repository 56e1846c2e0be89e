/** Small deterministic generators for what TypeScript draws: splits and generated images. Not for training. */

/** A generator of numbers in [0, 1), the same on every machine for the same seed and keys (mulberry32). */
export function generator(seed: number, ...keys: number[]): () => number {
  let state = mix(seed >>> 0) ^ mix(Math.floor(seed / 2 ** 32) + 1);
  for (const key of keys) state = mix((state + Math.imul(key + 1, 0x9e3779b9)) >>> 0);
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Fisher–Yates, in place. */
export function shuffle<T extends number[] | Int32Array>(values: T, random: () => number): T {
  for (let i = values.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const kept = values[i]!;
    values[i] = values[j]!;
    values[j] = kept;
  }
  return values;
}

/** The finaliser of MurmurHash3. */
function mix(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
