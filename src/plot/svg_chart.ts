/** A chart as SVG, for a browser or a document. */
import { decades, roundTicks, showRate } from './axis.js';
import { yRange, type LogChart } from './chart.js';

const WIDTH = 720;
const HEIGHT = 420;
const AREA = { left: 70, right: 20, top: 44, bottom: 56 };
const MARK_COLOURS = ['#d1495b', '#2e7d32', '#8e6c00'];

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}

export function svgChart(chart: LogChart): string {
  const { x, y, scatter, marks } = chart;
  const [first, last] = [Math.log(x[0]!), Math.log(x.at(-1)!)];
  const [low, high] = yRange(y);
  const width = WIDTH - AREA.left - AREA.right;
  const height = HEIGHT - AREA.top - AREA.bottom;
  const across = (value: number): string =>
    (AREA.left + ((Math.log(value) - first) / (last - first || 1)) * width).toFixed(1);
  const down = (value: number): string => (AREA.top + (1 - (value - low) / (high - low)) * height).toFixed(1);
  const bottom = AREA.top + height;
  const text = (content: string, at: string): string => `<text ${at}>${escapeXml(content)}</text>`;
  const parts = [
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(chart.title, `x="${AREA.left}" y="26" font-size="16" font-weight="bold"`),
    ...decades(x[0]!, x.at(-1)!).flatMap((tick) => [
      `<line x1="${across(tick)}" x2="${across(tick)}" y1="${AREA.top}" y2="${bottom}" stroke="#e3e6ea"/>`,
      text(showRate(tick), `x="${across(tick)}" y="${bottom + 18}" text-anchor="middle"`),
    ]),
    ...roundTicks(low, high).flatMap((tick) => [
      `<line x1="${AREA.left}" x2="${WIDTH - AREA.right}" y1="${down(tick)}" y2="${down(tick)}" stroke="#e3e6ea"/>`,
      text(
        String(tick),
        `x="${AREA.left - 8}" y="${down(tick)}" text-anchor="end" dominant-baseline="middle"`,
      ),
    ]),
    text(chart.xLabel, `x="${AREA.left + width / 2}" y="${HEIGHT - 14}" text-anchor="middle"`),
    text(chart.yLabel, `transform="translate(18 ${AREA.top + height / 2}) rotate(-90)" text-anchor="middle"`),
    // What shoots out of the range is cut off.
    `<clipPath id="area"><rect x="${AREA.left}" y="${AREA.top}" width="${width}" height="${height}"/></clipPath>`,
    '<g clip-path="url(#area)">',
    ...(scatter ?? []).map(
      (value, i) => `<circle cx="${across(x[i]!)}" cy="${down(value)}" r="2" fill="#9db4c8"/>`,
    ),
    `<polyline fill="none" stroke="#1f5f99" stroke-width="2.2" points="${x
      .map((value, i) => `${across(value)},${down(y[i]!)}`)
      .join(' ')}"/>`,
    '</g>',
    ...marks.flatMap((mark, i) => {
      const colour = MARK_COLOURS[i % MARK_COLOURS.length]!;
      const at = across(mark.x);
      return [
        `<line class="mark" x1="${at}" x2="${at}" y1="${AREA.top}" y2="${bottom}" stroke="${colour}" stroke-width="1.6" stroke-dasharray="5 4"/>`,
        text(
          mark.label,
          `x="${Number(at) + 5}" y="${AREA.top + 14 + 16 * i}" fill="${colour}" stroke="#ffffff" stroke-width="3" paint-order="stroke"`,
        ),
      ];
    }),
    `<rect x="${AREA.left}" y="${AREA.top}" width="${width}" height="${height}" fill="none" stroke="#6b7785"/>`,
  ];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" ` +
    `font-family="system-ui, sans-serif" font-size="12" fill="#27313b">\n${parts.join('\n')}\n</svg>\n`
  );
}
