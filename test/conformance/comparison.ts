/** Collects the comparisons of one case: what was computed against what the golden file says. */

export interface Miss {
  what: string;
  message: string;
}

export class Comparison {
  /** Values that were compared. */
  count = 0;
  readonly misses: Miss[] = [];
  /** The comparison that came nearest to its tolerance, or passed it by most. */
  largest = { what: '', error: 0, share: 0 };

  /** |actual − expected| ≤ tolerance. NaN never is. */
  close(what: string, actual: number, expected: number, tolerance: number): void {
    this.count++;
    const error = Math.abs(actual - expected);
    let share = error === 0 ? 0 : error / tolerance;
    if (Number.isNaN(share)) share = Infinity;
    if (share > this.largest.share || this.largest.what === '') this.largest = { what, error, share };
    if (share > 1) {
      this.misses.push({ what, message: `${actual}, expected ${expected} ± ${tolerance.toExponential(2)}` });
    }
  }

  /** Elementwise `close`; the lengths must be equal. */
  allClose(what: string, actual: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
    this.equal(`${what}, length`, actual.length, expected.length);
    const count = Math.min(actual.length, expected.length);
    for (let i = 0; i < count; i++) this.close(`${what}[${i}]`, actual[i]!, expected[i]!, tolerance);
  }

  /** Equal as JSON. */
  equal(what: string, actual: unknown, expected: unknown): void {
    this.count++;
    const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (left === right) return;
    this.largest = { what, error: Infinity, share: Infinity };
    this.misses.push({
      what,
      message: `${String(left).slice(0, 200)}, expected ${String(right).slice(0, 200)}`,
    });
  }

  /** Equal lists of names, in order; says what differs first. */
  equalNames(what: string, actual: readonly string[], expected: readonly string[]): void {
    const first = expected.findIndex((name, i) => actual[i] !== name);
    if (first === -1) this.equal(`${what}, count`, actual.length, expected.length);
    else this.equal(`${what}[${first}]`, actual[first] ?? null, expected[first]);
  }
}
