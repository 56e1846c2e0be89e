/** Options that a script gives as an object: a mistyped one must not be taken for one that was left out. */
import { ConfigError } from '../errors.js';
import { nearest } from '../nearest.js';

/**
 * @param given by the script.
 * @param keys all that there are.
 * @param what takes them, as it stands in errors: `a Trainer`.
 * @throws ConfigError if it is no object, or has another key.
 */
export function checkOptions(given: unknown, keys: readonly string[], what: string): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    const found = given === null ? 'null' : Array.isArray(given) ? 'a list' : typeof given;
    throw new ConfigError({ what: `${what} takes an object with ${keys.join(', ')}, not ${found}` });
  }
  for (const key of Object.keys(given)) {
    if (keys.includes(key)) continue;
    const near = nearest(key, keys);
    throw new ConfigError({
      what: `${what} has no option '${key}'`,
      where: key,
      fix: near ? `did you mean '${near}'?` : `there are ${keys.join(', ')}`,
    });
  }
}

/** @throws ConfigError where an option that is given is not what it should be: `${key} is ${expected}`. */
export function requireOption(valid: boolean, key: string, expected: string): void {
  if (!valid) throw new ConfigError({ what: `${key} must be ${expected}`, where: key });
}
