/** A chart in a terminal: dots of braille, two to the width and four to the height of a character. */
import { decades, showRate } from './axis.js';
import { yRange, type LogChart } from './chart.js';

/** Bits of the dots of a braille character, by row and column. */
const DOTS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;

/** @param width and height of the drawing area, in characters. */
export function terminalChart(chart: LogChart, { width = 60, height = 12 } = {}): string {
  const { x, y, marks } = chart;
  const [left, right] = [Math.log(x[0]!), Math.log(x.at(-1)!)];
  const [low, high] = yRange(y);
  const column = (value: number): number =>
    Math.round(((Math.log(value) - left) / (right - left || 1)) * (2 * width - 1));
  // Losses that explode are beyond the range by any factor: as far outside as a line's direction needs, no farther.
  const far = 100 * height;
  const row = (value: number): number =>
    Math.min(far, Math.max(-far, Math.round((1 - (value - low) / (high - low)) * (4 * height - 1))));
  const cells = Array.from({ length: height }, () => new Array<number>(width).fill(0));
  const dot = (c: number, r: number): void => {
    if (r < 0 || r >= 4 * height || c < 0 || c >= 2 * width) return;
    cells[r >> 2]![c >> 1]! |= DOTS[r & 3]![c & 1]!;
  };
  for (let i = 1; i < x.length; i++) line(column(x[i - 1]!), row(y[i - 1]!), column(x[i]!), row(y[i]!), dot);
  const grid = cells.map((cell) =>
    cell.map((bits) => (bits === 0 ? ' ' : String.fromCharCode(0x2800 + bits))),
  );
  for (const mark of marks) {
    const at = column(mark.x) >> 1;
    for (const rowOf of grid) if (rowOf[at] === ' ') rowOf[at] = '┊';
  }
  const numbers = [high, (low + high) / 2, low].map((value) => value.toPrecision(3));
  const margin = Math.max(...numbers.map((text) => text.length));
  const label = new Map([
    [0, numbers[0]!],
    [Math.floor(height / 2), numbers[1]!],
    [height - 1, numbers[2]!],
  ]);
  const lines = grid.map((cell, i) => `${(label.get(i) ?? '').padStart(margin)} ┤${cell.join('')}`.trimEnd());
  const axis = new Array<string>(width + 8).fill(' ');
  const line0 = new Array<string>(width).fill('─');
  let free = 0;
  for (const tick of decades(x[0]!, x.at(-1)!)) {
    const at = column(tick) >> 1;
    line0[at] = '┴';
    const text = showRate(tick);
    const start = Math.max(free, at - Math.floor(text.length / 2));
    if (start > at) continue; // No room beside the one before.
    [...text].forEach((character, k) => (axis[start + k] = character));
    free = start + text.length + 1;
  }
  const indent = ' '.repeat(margin + 2);
  return [
    `${chart.title} (${chart.yLabel} over ${chart.xLabel})`,
    ...lines,
    `${' '.repeat(margin)} └${line0.join('')}`,
    `${indent}${axis.join('')}`.trimEnd(),
    ...(marks.length > 0 ? [`${indent}┊ ${marks.map((mark) => mark.label).join(', ')}`] : []),
  ].join('\n');
}

/** Bresenham's. */
function line(x0: number, y0: number, x1: number, y1: number, dot: (x: number, y: number) => void): void {
  const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
  for (let i = 0; i <= steps; i++) {
    dot(Math.round(x0 + ((x1 - x0) * i) / steps), Math.round(y0 + ((y1 - y0) * i) / steps));
  }
}
