/** Reads the initialiser of a parameter of an untrusted graph. */
import type { Init } from './format.js';
import type { Reader } from './reader.js';

const kinds = [
  'constant',
  'values',
  'uniform',
  'normal',
  'trunc_normal',
  'kaiming_uniform',
  'kaiming_normal',
  'xavier_uniform',
  'xavier_normal',
] as const satisfies readonly Init['kind'][];

/** @throws GraphError for numbers that are not finite, empty ranges, or fans of a shape that has none */
export function checkInit(reader: Reader, value: unknown, shape: readonly number[], parameter: string): Init {
  const where = `${parameter}, init`;
  const raw = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const kind = reader.oneOf(raw['kind'], kinds, `${where}, kind`);
  const numbers = <K extends string>(...keys: K[]): Record<K, number> => {
    reader.object(value, where, ['kind', ...keys]);
    return Object.fromEntries(
      keys.map((key) => [key, reader.finite(raw[key], `${where}, ${key}`)]),
    ) as Record<K, number>;
  };
  const ordered = (low: number, high: number): void => {
    if (low > high) throw reader.error(`the range from ${low} to ${high} is empty`, where);
  };
  const notNegative = (number: number): void => {
    if (number < 0) throw reader.error(`${number} must not be negative`, where);
  };
  if (kind.startsWith('kaiming') || kind.startsWith('xavier')) {
    if (shape.length < 2) throw reader.error(`${kind} needs a shape of at least two dimensions`, where);
  }
  switch (kind) {
    case 'constant':
      return { kind, ...numbers('value') };
    case 'values': {
      reader.object(value, where, ['kind', 'values']);
      const values = reader.array(raw['values'], `${where}, values`, 1 << 20);
      const length = shape.reduce((product, size) => product * size, 1);
      if (values.length !== length) {
        throw reader.error(`${values.length} values do not fill the shape [${shape.join(', ')}]`, where);
      }
      return { kind, values: values.map((v) => reader.finite(v, `${where}, values`)) };
    }
    case 'uniform': {
      const init = numbers('low', 'high');
      ordered(init.low, init.high);
      return { kind, ...init };
    }
    case 'normal': {
      const init = numbers('mean', 'std');
      notNegative(init.std);
      return { kind, ...init };
    }
    case 'trunc_normal': {
      const init = numbers('mean', 'std', 'a', 'b');
      notNegative(init.std);
      ordered(init.a, init.b);
      return { kind, ...init };
    }
    case 'kaiming_uniform':
    case 'kaiming_normal': {
      reader.object(value, where, ['kind', 'mode', 'gain']);
      const mode = reader.oneOf(raw['mode'], ['fan_in', 'fan_out'] as const, `${where}, mode`);
      const gain = reader.finite(raw['gain'], `${where}, gain`);
      notNegative(gain);
      return { kind, mode, gain };
    }
    case 'xavier_uniform':
    case 'xavier_normal': {
      const init = numbers('gain');
      notNegative(init.gain);
      return { kind, ...init };
    }
  }
}
