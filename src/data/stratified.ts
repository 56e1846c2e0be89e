/** Taking a share of the samples of every class. */
import { generator, shuffle } from './random.js';

export interface Halves {
  /** Sample indices, ascending. */
  train: Int32Array;
  held: Int32Array;
}

/**
 * Holds out `fraction` of every class, rounded, but at least one sample of a class that has two or more (unless
 * the fraction is 0), and never a whole class. The same for a seed, whatever the other classes hold.
 */
export function stratifiedSplit(labels: Int32Array, fraction: number, seed: number): Halves {
  const held: number[] = [];
  const train: number[] = [];
  for (const [label, members] of byClass(labels)) {
    const n = members.length;
    const wanted = fraction === 0 ? 0 : Math.max(1, Math.round(n * fraction));
    const take = Math.min(wanted, n - 1);
    shuffle(members, generator(seed, label));
    held.push(...members.slice(0, take));
    train.push(...members.slice(take));
  }
  return { train: ascending(train), held: ascending(held) };
}

/** At most `limit` of the given samples, every class in proportion. */
export function stratifiedLimit(
  labels: Int32Array,
  indices: Int32Array,
  limit: number,
  seed: number,
): Int32Array {
  if (indices.length <= limit) return indices;
  const groups = byClass(labels, indices);
  // Largest remainders, so that the total is exact.
  const quotas = [...groups].map(([label, members]) => {
    const exact = (members.length * limit) / indices.length;
    return { label, members, take: Math.floor(exact), rest: exact - Math.floor(exact) };
  });
  let left = limit - quotas.reduce((sum, quota) => sum + quota.take, 0);
  for (const quota of [...quotas].sort((a, b) => b.rest - a.rest || a.label - b.label)) {
    if (left-- <= 0) break;
    quota.take++;
  }
  const chosen = quotas.flatMap(({ label, members, take }) =>
    shuffle(members, generator(seed, label, 1)).slice(0, take),
  );
  return ascending(chosen);
}

/** Number of samples of each class. */
export function countClasses(labels: Int32Array, classes: number, indices?: Int32Array): number[] {
  const counts = new Array<number>(classes).fill(0);
  if (indices) for (const i of indices) counts[labels[i]!]!++;
  else for (const label of labels) counts[label]!++;
  return counts;
}

function byClass(labels: Int32Array, indices?: Int32Array): Map<number, number[]> {
  const groups = new Map<number, number[]>();
  const add = (i: number): void => {
    const label = labels[i]!;
    const group = groups.get(label);
    if (group) group.push(i);
    else groups.set(label, [i]);
  };
  if (indices) indices.forEach(add);
  else for (let i = 0; i < labels.length; i++) add(i);
  return groups;
}

function ascending(indices: number[]): Int32Array {
  return Int32Array.from(indices).sort();
}
