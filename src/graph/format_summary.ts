/** Prints a model's summary as a table. */
import type { Summary, SummaryRow } from './summary.js';

const number = (n: number): string => n.toLocaleString('en-US');
const shape = (lengths: readonly number[] | null): string => (lengths ? `[${lengths.join(', ')}]` : '–');

/** 1,814,073,344 as `1.81 G`. */
export function short(n: number): string {
  for (const [unit, size] of [
    ['T', 1e12],
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (n >= size) return `${(n / size).toFixed(2)} ${unit}`;
  }
  return String(n);
}

const mebibytes = (n: number): string => `${(n / 2 ** 20).toFixed(2)} MiB`;

/** `relu, relu, add` as `relu ×2, add`. */
function operators(ops: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const op of ops) counts.set(op, (counts.get(op) ?? 0) + 1);
  return [...counts].map(([op, n]) => (n > 1 ? `${op} ×${n}` : op)).join(', ');
}

export interface FormatOptions {
  /** Modules below this depth are summed up in the module above. Default: all are shown. */
  depth?: number;
}

/**
 * The table as text. Figures are those of a module's own parameters and nodes, so that columns add up; at the
 * depth limit those below are included.
 */
export function formatSummary(summary: Summary, options: FormatOptions = {}): string {
  const limit = options.depth ?? Infinity;
  const cells = summary.rows
    .filter((row) => row.depth <= limit)
    .map((row: SummaryRow): string[] => {
      const atLimit = row.depth === limit;
      const name = row.path === '' ? '(model)' : row.path.slice(row.path.lastIndexOf('.') + 1);
      const parameters = atLimit ? row.totalParameters : row.parameters;
      const cost = atLimit ? row.totalMacs : row.macs;
      return [
        '  '.repeat(row.depth) + name,
        operators(row.ops),
        shape(row.outputShape),
        parameters > 0 ? number(parameters) : '–',
        cost > 0 ? number(cost) : '–',
      ];
    });
  const header = ['module', 'operators', 'output', 'parameters', 'MACs'];
  const widths = header.map((title, i) => Math.max(title.length, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i < 3 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const rule = '─'.repeat(widths.reduce((a, b) => a + b + 2, -2));
  const ports = (list: Summary['outputs']): string =>
    list
      .map(({ name, shape: lengths, auxiliary }) => {
        return `${name} ${shape(lengths)}${auxiliary ? ' (auxiliary)' : ''}`;
      })
      .join(', ');
  return [
    line(header),
    rule,
    ...cells.map(line),
    rule,
    `input            ${ports(summary.inputs)}`,
    `output           ${ports(summary.outputs)}`,
    `parameters       ${number(summary.parameters)} (buffers ${number(summary.buffers)}; together ${mebibytes(summary.stateBytes)})`,
    `MACs             ${short(summary.macs)}`,
    `activations      ${mebibytes(summary.activationBytes)}`,
  ].join('\n');
}
