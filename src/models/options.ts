/** The options of architectures: what they are, and what is wrong with values that were given. */
import { nearest } from '../nearest.js';
import type { Architecture, OptionSpec } from './architecture.js';

/** Every option of an architecture, by its TypeScript name: first those that all have. */
export function optionsOf(architecture: Architecture): Record<string, OptionSpec> {
  return {
    numClasses: {
      type: 'integer',
      default: architecture.defaultClasses,
      min: 1,
      description: 'Length of the logits.',
    },
    inChannels: { type: 'integer', default: 3, min: 1, description: 'Channels of the image.' },
    ...architecture.options,
  };
}

/** The values that an option takes, in words: `true or false`, `an integer from 1`. */
export function describeOption(spec: OptionSpec): string {
  switch (spec.type) {
    case 'boolean':
      return 'true or false';
    case 'choice':
      return `one of ${spec.choices.join(', ')}`;
    case 'integers':
      return 'a list of positive integers';
    default: {
      const { min = -Infinity, max = Infinity } = spec;
      const range = `${min === -Infinity ? '' : ` from ${min}`}${max === Infinity ? '' : ` up to ${max}`}`;
      const orNull = spec.default === null ? ' or null' : '';
      return `${spec.type === 'integer' ? 'an integer' : 'a number'}${range}${orNull}`;
    }
  }
}

function allows(spec: OptionSpec, value: unknown): boolean {
  switch (spec.type) {
    case 'boolean':
      return typeof value === 'boolean';
    case 'choice':
      return spec.choices.includes(value as string | number);
    case 'integers':
      return Array.isArray(value) && value.length > 0 && value.every((v) => Number.isSafeInteger(v) && v > 0);
    default: {
      const { min = -Infinity, max = Infinity } = spec;
      if (value === null) return spec.default === null;
      const isNumber = spec.type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value);
      return isNumber && (value as number) >= min && (value as number) <= max;
    }
  }
}

/** What is wrong with one of the options given. */
export interface OptionFault {
  key: string;
  /** The values that it takes; null if the architecture has no such option. */
  expected: string | null;
  /** Of an unknown option: the one that was probably meant. */
  meant?: string;
}

/** Faults of options by their TypeScript names; an undefined value counts as left out. */
export function optionFaults(
  known: Readonly<Record<string, OptionSpec>>,
  options: Readonly<Record<string, unknown>>,
): OptionFault[] {
  return Object.entries(options).flatMap(([key, value]): OptionFault[] => {
    if (!Object.hasOwn(known, key)) {
      const meant = nearest(key, Object.keys(known));
      return [{ key, expected: null, ...(meant === undefined ? {} : { meant }) }];
    }
    const spec = known[key]!;
    return value === undefined || allows(spec, value) ? [] : [{ key, expected: describeOption(spec) }];
  });
}
