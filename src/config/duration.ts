/** Lengths of time as people write them: `90s`, `45m`, `1h30m`, `2d`. */

const UNITS: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1 };
/** With at least one digit that is not 0. */
export const DURATION_PATTERN =
  /^(?=.*[1-9]) *(?:(\d+(?:\.\d+)?)d)? *(?:(\d+(?:\.\d+)?)h)? *(?:(\d+(?:\.\d+)?)m)? *(?:(\d+(?:\.\d+)?)s)? *$/;

/** Seconds, or null if the text is not a length of time greater than 0. */
export function parseDuration(text: string): number | null {
  const match = DURATION_PATTERN.exec(text);
  if (match === null) return null;
  return Object.values(UNITS).reduce((sum, unit, i) => sum + unit * Number(match[i + 1] ?? 0), 0);
}
