/**
 * Reads an object of a golden file key by key and remembers which keys were read, so that nothing in the file can
 * stay uncompared unnoticed.
 */

/** The file does not have the form of its kind. */
export class MalformedGolden extends Error {
  constructor(where: string, what: string) {
    super(`${where}: ${what}`);
    this.name = 'MalformedGolden';
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export class Fields {
  private readonly values: Record<string, unknown>;
  private readonly unread: Set<string>;
  private readonly children: Fields[] = [];

  /** @param where the path of the object, for messages: `models.resnet18.train` */
  constructor(
    value: unknown,
    readonly where: string,
  ) {
    if (!isObject(value)) throw new MalformedGolden(where, 'is not an object');
    this.values = value;
    this.unread = new Set(Object.keys(value));
  }

  keys(): string[] {
    return Object.keys(this.values);
  }

  has(key: string): boolean {
    return Object.hasOwn(this.values, key);
  }

  /** The value as it is; it must exist. */
  raw(key: string): unknown {
    if (!this.has(key)) throw new MalformedGolden(this.where, `has no field '${key}'`);
    this.unread.delete(key);
    return this.values[key];
  }

  /** Marks a field as read that is prose for people. */
  note(key: string): void {
    if (this.has(key)) this.text(key);
  }

  text(key: string): string {
    const value = this.raw(key);
    if (typeof value !== 'string') throw this.wrong(key, 'a string');
    return value;
  }

  number(key: string): number;
  number(key: string, fallback: number): number;
  number(key: string, fallback?: number): number {
    if (fallback !== undefined && !this.has(key)) return fallback;
    const value = this.raw(key);
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.wrong(key, 'a number');
    return value;
  }

  /** A whole number of at least `minimum`. */
  integer(key: string, minimum = 0): number {
    const value = this.number(key);
    if (!Number.isSafeInteger(value) || value < minimum) {
      throw this.wrong(key, `a whole number of at least ${minimum}`);
    }
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    if (!this.has(key)) return fallback;
    const value = this.raw(key);
    if (typeof value !== 'boolean') throw this.wrong(key, 'true or false');
    return value;
  }

  /** A list of numbers, not empty: an empty one would compare nothing. */
  numbers(key: string): number[] {
    return this.numbersOf(this.raw(key), key);
  }

  numbersOf(value: unknown, key: string): number[] {
    const valid =
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((n) => typeof n === 'number' && Number.isFinite(n));
    if (!valid) throw this.wrong(key, 'a list of numbers, not empty');
    return value as number[];
  }

  list(key: string): unknown[] {
    const value = this.raw(key);
    if (!Array.isArray(value) || value.length === 0) throw this.wrong(key, 'a list, not empty');
    return value;
  }

  /** The object under `key`; its own unread fields count as this one's. */
  child(key: string): Fields {
    return this.adopt(this.raw(key), key);
  }

  /** `value`, found under `key`, as an object. */
  adopt(value: unknown, key: string): Fields {
    const child = new Fields(value, `${this.where}.${key}`);
    this.children.push(child);
    return child;
  }

  /** An object whose keys are names; it must have some. */
  map(key: string): Fields {
    const map = this.child(key);
    if (map.keys().length === 0) throw this.wrong(key, 'an object that has fields');
    return map;
  }

  /** Paths of all fields that nobody has read. */
  unreadPaths(): string[] {
    const own = [...this.unread].map((key) => `${this.where}.${key}`);
    return [...own, ...this.children.flatMap((child) => child.unreadPaths())];
  }

  wrong(key: string, expected: string): MalformedGolden {
    const text = JSON.stringify(this.values[key]) ?? 'nothing';
    return new MalformedGolden(`${this.where}.${key}`, `must be ${expected}, not ${text.slice(0, 80)}`);
  }
}
