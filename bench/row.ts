/** One line of the benchmark table, and the statistics behind it. */
export interface Row {
  name: string;
  unit: string;
  /** Whether a larger or a smaller figure is better. */
  better: 'higher' | 'lower';
  fornax: Spread;
  /** The same work done by PyTorch, measured in the same run, alternating; null if it was not there. */
  peer: Spread | null;
  /** What the peer is, or why there is none. */
  peerName: string;
  /** fornax / peer where higher is better, else peer / fornax: above 1 is faster than the peer. */
  speedup: number | null;
  /** The target, as a factor on the peer. */
  target?: number;
  /** The target, as a figure in `unit`. */
  limit?: number;
  /** What no implementation on the same kernels can go below, in `unit`. */
  floor?: number;
  notes?: string;
}

/** Median and range of repeated measurements. */
export interface Spread {
  median: number;
  low: number;
  high: number;
  runs: number;
}

export function spread(values: number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median =
    sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, low: sorted[0]!, high: sorted.at(-1)!, runs: sorted.length };
}

export function speedup(row: Pick<Row, 'better' | 'fornax' | 'peer'>): number | null {
  if (!row.peer) return null;
  return row.better === 'higher' ? row.fornax.median / row.peer.median : row.peer.median / row.fornax.median;
}

/** The table as plain text. */
export function formatRows(rows: Row[]): string {
  const number = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
  const range = (s: Spread): string => `${number(s.median)} (${number(s.low)}–${number(s.high)})`;
  const lines = [
    ['', 'unit', 'Fornax', 'peer', 'faster by', 'target'],
    ...rows.map((row) => [
      row.name,
      row.unit,
      range(row.fornax),
      row.peer ? `${range(row.peer)} ${row.peerName}` : row.peerName,
      row.speedup === null ? '–' : `${row.speedup.toFixed(2)}×`,
      row.target === undefined ? '' : `≥ ${row.target}×`,
    ]),
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const table = lines.map((line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  );
  const notes = rows.filter((row) => row.notes).map((row) => `${row.name}: ${row.notes}`);
  return [...table, ...notes].join('\n');
}
