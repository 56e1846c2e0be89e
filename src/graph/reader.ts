/** Reads the parts of an untrusted graph, each with its limits; every refusal is a GraphError that says where. */
import { GraphError } from '../errors.js';
import { escapeControlCharacters, hasControlCharacters } from '../io/control_characters.js';
import { dtypes } from './dtypes.js';
import type { DType, GraphArg, GraphNode, ModeKind, SizeExpr } from './format.js';

export const modeKinds: readonly ModeKind[] = ['dropout', 'batch_norm', 'stochastic_depth'];

const sizeOperators = ['+', '-', '*', '//', '%', 'min', 'max'] as const;
const maxTextLength = 1024;
const maxListLength = 1 << 16;
const maxExprDepth = 64;

/** `aten::conv2d at layer1.0.conv1 (node 12)`, as the native core names it too. */
export function nodeName(node: Pick<GraphNode, 'op' | 'path'>, index: number): string {
  return `${node.op} at ${node.path || 'the root'} (node ${index})`;
}

export class Reader {
  private readonly source: string | undefined;

  constructor(source?: string) {
    this.source = source;
  }

  error(what: string, where: string, fix?: string): GraphError {
    return new GraphError({
      what: escapeControlCharacters(what),
      where: this.source === undefined ? where : `${this.source}: ${where}`,
      fix,
    });
  }

  /** An object with exactly these keys, and perhaps the optional ones. */
  object(
    value: unknown,
    where: string,
    keys: readonly string[],
    optional: readonly string[] = [],
  ): Record<string, unknown> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.error('this must be an object', where);
    }
    for (const key of keys) {
      if (!Object.hasOwn(value, key)) throw this.error(`'${key}' is missing`, where);
    }
    for (const key of Object.keys(value)) {
      if (!keys.includes(key) && !optional.includes(key))
        throw this.error(`'${key.slice(0, 80)}' does not belong here`, where);
    }
    return value as Record<string, unknown>;
  }

  array(value: unknown, where: string, limit: number): unknown[] {
    if (!Array.isArray(value)) throw this.error('this must be a list', where);
    if (value.length > limit) {
      throw this.error(`this list has ${value.length} entries, more than the ${limit} allowed`, where);
    }
    return value;
  }

  integer(value: unknown, where: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      throw this.error(`this must be an integer from ${least} to ${most}`, where);
    }
    return value;
  }

  boolean(value: unknown, where: string): boolean {
    if (typeof value !== 'boolean') throw this.error('this must be true or false', where);
    return value;
  }

  /** JSON's 1e999 is Infinity once parsed. */
  finite(value: unknown, where: string): number {
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw this.error('this must be a finite number', where);
    }
    return value;
  }

  text(value: unknown, where: string): string {
    if (typeof value !== 'string') throw this.error('this must be text', where);
    if (value.length > maxTextLength) {
      throw this.error(`this text has ${value.length} characters, more than ${maxTextLength}`, where);
    }
    return value;
  }

  /** Text that is printed and used as a key: no control characters. */
  path(value: unknown, where: string): string {
    const text = this.text(value, where);
    if (hasControlCharacters(text)) throw this.error('control characters in a name', where);
    return text;
  }

  name(value: unknown, where: string): string {
    const name = this.path(value, where);
    if (name === '') throw this.error('a name is empty', where);
    return name;
  }

  oneOf<T extends string>(value: unknown, choices: readonly T[], where: string): T {
    if (!choices.includes(value as T)) throw this.error(`this must be one of ${choices.join(', ')}`, where);
    return value as T;
  }

  dtype(value: unknown, where: string): DType {
    return this.oneOf(value, dtypes, `${where}, dtype`);
  }

  expr(value: unknown, where: string, depth = 0): SizeExpr {
    if (depth > maxExprDepth) throw this.error('the size expression is nested too deeply', where);
    if (typeof value === 'number') return this.integer(value, where, Number.MIN_SAFE_INTEGER);
    if (!Array.isArray(value) || value.length !== 3) {
      throw this.error('a size expression is an integer or a list of three entries', where);
    }
    if (value[0] === 'size') {
      return ['size', this.integer(value[1], where, 0), this.integer(value[2], where, -64, 63)];
    }
    const operator = this.oneOf(value[0], sizeOperators, where);
    return [operator, this.expr(value[1], where, depth + 1), this.expr(value[2], where, depth + 1)];
  }

  argument(value: unknown, where: string): GraphArg {
    if (!Array.isArray(value)) return this.single(value, where);
    const items = this.array(value, where, maxListLength).map((item) => this.item(item, where));
    const isSlot = (item: GraphArg): boolean =>
      item === null || (typeof item === 'object' && !Array.isArray(item) && 'slot' in item);
    if (items.some(isSlot) && !items.every(isSlot)) {
      throw this.error('a list holds both slots and constants', where);
    }
    return items;
  }

  private single(value: unknown, where: string): GraphArg {
    if (value === null || typeof value === 'boolean') return value;
    if (typeof value === 'number') return this.finite(value, where);
    if (typeof value === 'string') return this.text(value, where);
    const keys = typeof value === 'object' ? Object.keys(value) : [];
    const [key] = keys;
    const raw = value as Record<string, unknown>;
    if (keys.length === 1) {
      if (key === 'slot') return { slot: this.integer(raw[key], where, 0) };
      if (key === 'mode') return { mode: this.oneOf(raw[key], modeKinds, where) };
      if (key === 'expr') return { expr: this.expr(raw[key], where) };
      if (key === 'dtype') return { dtype: this.dtype(raw[key], where) };
      if (key === 'generator' && raw[key] === true) return { generator: true };
    }
    throw this.error('an argument is one of slot, mode, expr, dtype, generator or a constant', where);
  }

  private item(value: unknown, where: string): GraphArg {
    const item = Array.isArray(value) ? undefined : this.single(value, where);
    const fits =
      item === null ||
      typeof item === 'number' ||
      typeof item === 'boolean' ||
      (typeof item === 'object' && ('slot' in item || 'expr' in item));
    if (item === undefined || !fits) {
      throw this.error('a list holds slots, or integers, floats, booleans and size expressions', where);
    }
    return item;
  }
}
