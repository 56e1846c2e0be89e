/**
 * The one place where snake_case (YAML, JSON files) and camelCase (TypeScript) meet. Keys are converted, values
 * never. A key must survive the round trip, so no key has a digit right after an underscore.
 */

/** `batch_size` → `batchSize`, on the level of types. */
export type CamelKey<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelKey<Tail>>}`
  : S;

/** The type of `toCamel(value)`. */
export type Camel<T> = T extends readonly unknown[]
  ? { [I in keyof T]: Camel<T[I]> }
  : T extends object
    ? { [K in keyof T as K extends string ? CamelKey<K> : K]: Camel<T[K]> }
    : T;

export function camelKey(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

export function snakeKey(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => '_' + letter.toLowerCase());
}

function mapKeys(value: unknown, convert: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => mapKeys(item, convert));
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [convert(key), mapKeys(item, convert)]),
  );
}

/** Converts the keys of plain objects, at every depth, to camelCase. */
export function toCamel<T>(value: T): Camel<T> {
  return mapKeys(value, camelKey) as Camel<T>;
}

/** Converts the keys of plain objects, at every depth, to snake_case. */
export function toSnake(value: unknown): unknown {
  return mapKeys(value, snakeKey);
}
