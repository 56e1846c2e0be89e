/** Amounts of memory as people write them: `4GiB`, `512MiB`, `1.5GB`, or a number of bytes. */

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};
/** With at least one digit that is not 0. */
export const SIZE_PATTERN = /^(?=.*[1-9])(\d+(?:\.\d+)?) *(B|[KMGT]i?B)?$/;

/** Whole bytes, or null if the text is not an amount greater than 0. */
export function parseSize(text: string): number | null {
  const match = SIZE_PATTERN.exec(text);
  if (match === null) return null;
  const bytes = Math.floor(Number(match[1]) * UNITS[match[2] ?? '']!);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : null;
}

/** `1.4 GiB`, `96 MiB`, `512 B`: three digits at most before the unit, one after the point where that says more. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || Math.abs(value) >= 10 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}
