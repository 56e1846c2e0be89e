/** Ticks of axes: round numbers within a range. */

/** Powers of ten from the first at or above `low` to the last at or below `high`; every so many, so that few remain. */
export function decades(low: number, high: number, most = 10): number[] {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / most));
  const ticks: number[] = [];
  for (let exponent = first; exponent <= last; exponent += every) ticks.push(exponent);
  return ticks.map((exponent) => Number(`1e${exponent}`));
}

/** Multiples of 1, 2 or 5 times a power of ten, about `count` of them. */
export function roundTicks(low: number, high: number, count = 5): number[] {
  const rough = (high - low) / Math.max(1, count - 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999)!;
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/** `1e-4`, `0.01`, `10`. */
export function showRate(value: number): string {
  return value !== 0 && (value < 1e-3 || value >= 1e4)
    ? value.toExponential(0).replace('+', '')
    : String(value);
}
