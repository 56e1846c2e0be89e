/** Numbers given as options. */
import { InvalidArgumentError } from 'commander';

/** Parses a whole number of at least `least`; commander names the option when it is none. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || text.trim() === '') {
      throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`);
    }
    return value;
  };
}

/** Parses a number above 0. */
export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value)) || text.trim() === '') {
    throw new InvalidArgumentError('Expected a number above 0.');
  }
  return value;
}

/** Parses a number from 0 to 1. */
export function share(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 1) || text.trim() === '') {
    throw new InvalidArgumentError('Expected a number from 0 to 1.');
  }
  return value;
}
