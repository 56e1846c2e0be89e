/** Finding what somebody probably meant: the nearest of a few known names. */

/** Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, last[j]! + 1, row[j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/**
 * The name in `known` nearest to `name`, or undefined if none is near enough to be what was meant (more than a
 * third of its characters differ). Letter case, dashes and underscores do not count.
 */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const fold = (text: string): string => text.toLowerCase().replace(/[-_]/g, '');
  // A name from a file may be huge; no known name is.
  const wanted = fold(name.slice(0, 100));
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of known) {
    const folded = fold(candidate);
    const distance = editDistance(wanted, folded);
    const limit = Math.max(1, Math.floor(Math.max(wanted.length, folded.length) / 3));
    if (distance <= limit && distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}
