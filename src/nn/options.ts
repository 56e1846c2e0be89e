/** Options objects of module constructors: PyTorch's keyword arguments in camelCase. */
import { ArgumentError } from '../errors.js';
import { nearest } from '../nearest.js';

/** Fills in defaults. An option that the module does not have is an error: TypeScript's check covers only TypeScript. */
export function withDefaults<T extends object>(owner: string, defaults: T, options: Partial<T> = {}): T {
  const result = { ...defaults };
  for (const [key, value] of Object.entries(options)) {
    if (!Object.hasOwn(defaults, key)) {
      const hint = nearest(key, Object.keys(defaults));
      throw new ArgumentError({
        what: `${owner} has no option '${key}'`,
        fix: hint ? `did you mean '${hint}'?` : `it has: ${Object.keys(defaults).join(', ')}`,
      });
    }
    if (value !== undefined) (result as Record<string, unknown>)[key] = value;
  }
  return result;
}

/** A length for height and width, or one for each. */
export type Pair = number | readonly [number, number];

export function pair(value: Pair): [number, number] {
  return typeof value === 'number' ? [value, value] : [value[0], value[1]];
}

/** An integer of at least `least`, or ArgumentError. */
export function integer(owner: string, name: string, value: number, least = 1): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new ArgumentError({
      what: `${owner}: ${name} must be an integer of at least ${least}, not ${String(value)}`,
    });
  }
  return value;
}

/** A probability, or ArgumentError. */
export function probability(owner: string, value: number): number {
  if (!(value >= 0 && value <= 1)) {
    throw new ArgumentError({
      what: `${owner}: p must be a probability between 0 and 1, not ${String(value)}`,
    });
  }
  return value;
}
