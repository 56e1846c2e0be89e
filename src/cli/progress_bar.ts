/** One line at the bottom of a terminal that is drawn over and over; finished lines scroll up above it. */

const HIDE = '\u001b[?25l';
const SHOW = '\u001b[?25h';
const CLEAR = '\r\u001b[2K';
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of `width` cells, filled to `share` in eighths of a cell. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const filled = '█'.repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8]!;
  return filled.padEnd(width, '░');
}

export interface TerminalStream {
  write(text: string): unknown;
  columns?: number;
}

export class StatusLine {
  private shown = '';
  private lastDraw = -Infinity;

  constructor(
    private readonly stream: TerminalStream,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Draws the line, at most ten times a second unless `force` is given. Text that does not fit is cut off. */
  draw(text: string, force = false): void {
    const time = this.now();
    if (!force && time - this.lastDraw < 100) return;
    this.lastDraw = time;
    const cut = [...text].slice(0, Math.max(1, (this.stream.columns ?? 80) - 1)).join('');
    this.stream.write((this.shown === '' ? HIDE : '') + CLEAR + cut);
    this.shown = cut;
  }

  /** Writes a line that stays. */
  print(line: string): void {
    this.clear();
    this.stream.write(line + '\n');
  }

  /** Takes the line away and gives the cursor back. */
  clear(): void {
    if (this.shown === '') return;
    this.stream.write(CLEAR + SHOW);
    this.shown = '';
    this.lastDraw = -Infinity;
  }
}
