/**
 * Draws a recorded terminal session as an SVG, for the README:
 *
 *   stty cols 100; script -qefc 'fornax quickstart' session.txt
 *   node build/dev/scripts/terminal_picture.js session.txt docs/quickstart.svg 'fornax quickstart' 'epoch 6/6 .* 7. %'
 *
 * The last argument stops the replay where the line with the cursor first matches it, so that the progress bar is
 * in the picture; without it the end of the session is drawn.
 */
import { readFileSync, writeFileSync } from 'node:fs';

interface Style {
  bold: boolean;
  dim: boolean;
  colour: string | null;
}
interface Cell extends Style {
  character: string;
}

const PLAIN: Style = { bold: false, dim: false, colour: null };
const COLOURS: Record<number, string> = {
  31: '#f47067',
  32: '#8ddb8c',
  33: '#daaa3f',
  34: '#6cb6ff',
  35: '#dcbdfb',
  36: '#76e3ea',
};
const BACKGROUND = '#1c2128';
const FOREGROUND = '#cdd9e5';
const CELL = { width: 8.4, height: 19 };
const MARGIN = { x: 18, top: 46, bottom: 18 };

/** As much of a terminal as Fornax uses: lines, carriage return, erase line, colours. */
class Screen {
  readonly lines: Cell[][] = [[]];
  private column = 0;
  private style = PLAIN;

  /** @param stop ends the replay when the last line matches */
  replay(text: string, stop: RegExp | null): void {
    // eslint-disable-next-line no-control-regex -- escape codes are what is parsed here
    for (const [token, csi] of text.matchAll(/\u001b\[([?\d;]*[A-Za-z])|\r|\n|[^\u001b\r\n]/gu)) {
      if (csi !== undefined) this.control(csi);
      else if (token === '\r') {
        if (stop?.test(this.lastLine())) return;
        this.column = 0;
      } else if (token === '\n') {
        this.lines.push([]);
        this.column = 0;
      } else this.lines.at(-1)![this.column++] = { character: token, ...this.style };
    }
  }

  private lastLine(): string {
    return this.lines
      .at(-1)!
      .map(({ character }) => character)
      .join('');
  }

  private control(csi: string): void {
    if (csi === '2K') this.lines[this.lines.length - 1] = [];
    if (!csi.endsWith('m')) return;
    for (const code of csi.slice(0, -1).split(';').map(Number)) {
      if (code === 0) this.style = PLAIN;
      else if (code === 1) this.style = { ...this.style, bold: true };
      else if (code === 2) this.style = { ...this.style, dim: true };
      else if (code === 22) this.style = { ...this.style, bold: false, dim: false };
      else if (code === 39) this.style = { ...this.style, colour: null };
      else if (code in COLOURS) this.style = { ...this.style, colour: COLOURS[code]! };
    }
  }
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

/** Runs of equal style become one element; each starts at its own column, so that widths of glyphs do not add up. */
function drawLine(cells: readonly Cell[], row: number): string {
  const y = MARGIN.top + row * CELL.height + 14;
  let svg = '';
  for (let start = 0; start < cells.length;) {
    const first = cells[start]!;
    let end = start;
    const same = (c: Cell): boolean =>
      c.bold === first.bold && c.dim === first.dim && c.colour === first.colour;
    while (end < cells.length && same(cells[end]!)) end++;
    const text = cells
      .slice(start, end)
      .map(({ character }) => character)
      .join('');
    if (text.trim() !== '') {
      const attributes = [
        `x="${(MARGIN.x + start * CELL.width).toFixed(1)}" y="${y}"`,
        `textLength="${((end - start) * CELL.width).toFixed(1)}"`,
        ...(first.colour ? [`fill="${first.colour}"`] : []),
        ...(first.bold ? ['font-weight="bold"'] : []),
        ...(first.dim ? ['opacity="0.6"'] : []),
      ];
      svg += `<text ${attributes.join(' ')}>${escapeXml(text)}</text>\n`;
    }
    start = end;
  }
  return svg;
}

/** @param command shown behind a prompt in the first line */
function terminalPicture(session: string, command: string, stop: RegExp | null): string {
  const screen = new Screen();
  screen.replay(`\u001b[32m$\u001b[39m ${command}\n`, null);
  screen.replay(session, stop);
  const lines = screen.lines.map((line) => Array.from(line, (cell) => cell ?? { character: ' ', ...PLAIN }));
  while (lines.at(-1)?.length === 0) lines.pop();
  const columns = Math.max(...lines.map((line) => line.length));
  const width = Math.ceil(columns * CELL.width + 2 * MARGIN.x);
  const height = MARGIN.top + lines.length * CELL.height + MARGIN.bottom;
  const lights = ['#f47067', '#daaa3f', '#8ddb8c']
    .map((fill, i) => `<circle cx="${22 + i * 20}" cy="22" r="6" fill="${fill}"/>`)
    .join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(command)} in a terminal">
<rect width="100%" height="100%" rx="10" fill="${BACKGROUND}"/>
${lights}
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" fill="${FOREGROUND}" style="white-space: pre" xml:space="preserve">
${lines.map(drawLine).join('')}</g>
</svg>
`;
}

const [input, output, command, stop] = process.argv.slice(2);
if (!input || !output || !command) {
  throw new Error('usage: terminal_picture.js SESSION.txt OUT.svg COMMAND [STOP-PATTERN]');
}
// script(1) puts a line before and one after the session.
const session = readFileSync(input, 'utf8')
  .replace(/^Script started.*\n/, '')
  .replace(/\nScript done[^]*$/, '\n');
writeFileSync(output, terminalPicture(session, command, stop ? new RegExp(stop) : null));
