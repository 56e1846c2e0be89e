/** A curve over a logarithmic axis, for a terminal or as SVG. */
export interface Mark {
  x: number;
  /** `valley 3.2e-3` */
  label: string;
}

export interface LogChart {
  title: string;
  xLabel: string;
  yLabel: string;
  /** Ascending, above 0. */
  x: readonly number[];
  y: readonly number[];
  /** Fainter, behind the curve: single values. */
  scatter?: readonly number[];
  marks: readonly Mark[];
}

/** The values that are drawn: a few that shoot up at the end must not flatten all others. */
export function yRange(y: readonly number[]): [number, number] {
  const sorted = [...y].sort((a, b) => a - b);
  const low = sorted[0]!;
  const middle = sorted[Math.floor(sorted.length / 2)]!;
  const high = Math.min(sorted.at(-1)!, low + 3 * Math.max(middle - low, 1e-12), y[0]! * 2 - low);
  const top = Math.max(high, middle, low + 1e-6 * Math.max(1, Math.abs(low)));
  const margin = 0.05 * (top - low);
  return [low - margin, top + margin];
}
