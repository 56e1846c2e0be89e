/** The deterministic fill of the golden files: the same numbers in any language. */

/** v in [0, 1) for flat index j and tensor ordinal t. */
export function fillUnit(j: number, t: number): number {
  let h = (Math.imul(j, 2654435761) + Math.imul(t, 40503) + 12345) >>> 0;
  h ^= h >>> 15;
  h = Math.imul(h, 2246822519) >>> 0;
  h = (h ^ (h >>> 13)) >>> 0;
  return h / 2 ** 32;
}

/** u = 2v − 1 in [−1, 1). */
export function fillSymmetric(j: number, t: number): number {
  return 2 * fillUnit(j, t) - 1;
}

/** `count` values u as float32: an input of a golden case. */
export function fillInput(count: number, t: number): Float32Array {
  return Float32Array.from({ length: count }, (_, j) => fillSymmetric(j, t));
}

/** The values of a floating entry of a state dict, `t` being its position there. */
export function fillState(name: string, shape: number[], t: number): Float32Array {
  const count = shape.reduce((product, size) => product * size, 1);
  const value = valueRule(name, shape, count);
  return Float32Array.from({ length: count }, (_, j) => value(fillUnit(j, t)));
}

function valueRule(name: string, shape: number[], count: number): (v: number) => number {
  if (name.endsWith('running_mean')) return (v) => 0.1 * (2 * v - 1);
  if (name.endsWith('running_var')) return (v) => 0.75 + 0.5 * v;
  if (shape.length >= 2) {
    const fanIn = count / shape[0]!;
    const scale = Math.sqrt(6 / fanIn) * (shape.length === 2 ? 0.5 : 1);
    return (v) => scale * (2 * v - 1);
  }
  if (shape.length === 1 && name.endsWith('weight')) return (v) => 1 + 0.1 * (2 * v - 1);
  return (v) => 0.1 * (2 * v - 1);
}
