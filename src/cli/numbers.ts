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
