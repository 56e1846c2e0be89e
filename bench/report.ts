/** The benchmark's table in Markdown. */
import type { Row, Spread } from './row.js';

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function range(spread: Spread): string {
  const text = number(spread.median);
  return spread.runs > 1 ? `${text} (${number(spread.low)}–${number(spread.high)})` : text;
}

function target(row: Row): string {
  if (row.limit !== undefined) return `≤ ${row.limit} ${row.unit}`;
  return row.target === undefined ? '' : `≥ ${row.target.toFixed(2)}×`;
}

/** Whether the row reaches its target; null where it has none or nothing to compare with. */
export function reachesTarget(row: Row): boolean | null {
  if (row.limit !== undefined) return row.fornax.median <= row.limit;
  if (row.target === undefined || row.speedup === null) return null;
  return row.speedup >= row.target;
}

export function markdownTable(rows: Row[]): string {
  const verdict = (row: Row): string => ({ true: 'yes', false: 'no', null: '' })[String(reachesTarget(row))]!;
  const body = rows.map((row) => [
    row.name,
    row.unit,
    range(row.fornax),
    row.peer ? range(row.peer) : row.peerName || '–',
    row.floor === undefined ? '' : number(row.floor),
    row.speedup === null ? '–' : `${row.speedup.toFixed(2)}×`,
    target(row),
    verdict(row),
  ]);
  const head = ['', 'unit', 'Fornax', 'PyTorch', 'floor', 'Fornax ahead by', 'target', 'reached'];
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...body.map(line)].join('\n');
}

export function notes(rows: Row[]): string {
  return rows
    .filter((row) => row.notes)
    .map((row) => `- ${row.name}: ${row.notes}`)
    .join('\n');
}

/**
 * `document` with the part measured by `npm run NAME` replaced, or added at its end.
 *
 * @param name of the npm script, with what tells its parts apart; each has its own place in the document
 */
export function withResults(document: string, results: string, name = 'bench'): string {
  const begin = `<!-- measured by npm run ${name}: begin -->`;
  const end = `<!-- measured by npm run ${name}: end -->`;
  const block = `${begin}\n\n${results}\n\n${end}`;
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from === -1 || to < from) return `${document.trimEnd()}\n\n${block}\n`;
  return document.slice(0, from) + block + document.slice(to + end.length);
}
