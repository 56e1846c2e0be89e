/**
 * Philox 4x32-10 (Salmon et al., SC'11) once more, independent of native/data/random.h, so that tests can predict
 * what the loader draws.
 */
export type Operation = 'shuffle' | 'crop' | 'flip';
const operations: Record<Operation, number> = { shuffle: 0, crop: 1, flip: 2 };

export function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  const low = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const a = 0xd2511f53n * c0;
    const b = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(b >> 32n) ^ c1 ^ k0, b & low, (a >> 32n) ^ c3 ^ k1, a & low];
    k0 = (k0 + 0x9e3779b9n) & low;
    k1 = (k1 + 0xbb67ae85n) & low;
  }
  return [c0, c1, c2, c3].map(Number);
}

/** The 32-bit numbers of one stream, in order. */
export function* draws(seed: number, epoch: number, sample: number, operation: Operation): Generator<number> {
  const key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  for (let block = 0; ; block++) yield* philox([block, operations[operation], sample, epoch], key);
}

/** The loader's order of `samples`: Fisher & Yates from the end, bounded draws after Lemire (2019). */
export function shuffled(samples: number[], seed: number, epoch: number): number[] {
  const order = [...samples];
  const random = draws(seed, epoch, 0, 'shuffle');
  const below = (n: number): number => {
    for (;;) {
      const product = BigInt(random.next().value as number) * BigInt(n);
      if (Number(product & 0xffffffffn) >= 2 ** 32 % n) return Number(product >> 32n);
    }
  };
  for (let i = order.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
