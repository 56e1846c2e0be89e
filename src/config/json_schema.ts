/** The schema as JSON Schema: for editors, for docs/config.md, and to say in words what a key takes. */
import { z } from 'zod';
import type { Path } from './located.js';
import { configSchema } from './schema.js';

/** The parts of JSON Schema (2020-12) that zod writes for our schema. */
export interface JsonSchema {
  $schema?: string;
  type?: string | string[];
  description?: string;
  default?: unknown;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

let cached: JsonSchema | undefined;

export function jsonSchema(): JsonSchema {
  cached ??= z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;
  return cached;
}

/** A schema and, if it offers alternatives, each of those. */
export function alternatives(schema: JsonSchema): JsonSchema[] {
  const parts = schema.anyOf ?? schema.oneOf;
  if (parts) return parts.flatMap(alternatives);
  // `null` beside a type without limits of its own.
  return Array.isArray(schema.type) ? schema.type.map((type) => ({ ...schema, type })) : [schema];
}

/** All schemas that may apply at a path. `value` picks the alternative whose `name` it bears. */
export function schemasAt(path: Path, value?: unknown): JsonSchema[] {
  let here = alternatives(jsonSchema());
  let current = value;
  for (const step of path) {
    const named = here.filter((s) => isNamedLike(s, current));
    here = (named.length > 0 ? named : here).flatMap((s) => {
      const next =
        typeof step === 'number'
          ? (s.prefixItems?.[step] ?? s.items)
          : s.properties && Object.hasOwn(s.properties, step)
            ? s.properties[step]
            : undefined;
      return next ? alternatives(next) : [];
    });
    current =
      typeof current === 'object' && current !== null
        ? (current as Record<string, unknown>)[step]
        : undefined;
  }
  const named = here.filter((s) => isNamedLike(s, current));
  return named.length > 0 ? named : here;
}

/** A map that its `name` tells from others: an optimizer, a schedule, a loss. */
function isNamed(schema: JsonSchema): boolean {
  return schema.properties?.['name']?.const !== undefined;
}

function isNamedLike(schema: JsonSchema, value: unknown): boolean {
  const wanted = schema.properties?.['name']?.const;
  return wanted !== undefined && (value as { name?: unknown } | undefined | null)?.name === wanted;
}

/** What the map of this name cannot do without, so that the name alone is not enough; none of another value. */
export function settingsNeeded(schemas: readonly JsonSchema[], name: unknown): string[] {
  const meant = schemas.find(({ properties }) => properties?.['name']?.const === name);
  return typeof name === 'string' && meant ? (meant.required ?? []).filter((key) => key !== 'name') : [];
}

/** Keys that a map at this path may have. */
export function keysAt(path: Path, value?: unknown): string[] {
  return [...new Set(schemasAt(path, value).flatMap((s) => Object.keys(s.properties ?? {})))];
}

/** Every key of the schema by its full path: `train.batch_size`. */
export function allKeys(schema: JsonSchema = jsonSchema(), prefix: string[] = []): string[][] {
  return alternatives(schema).flatMap((s) =>
    Object.entries(s.properties ?? {}).flatMap(([key, child]) => [
      [...prefix, key],
      ...allKeys(child, [...prefix, key]),
    ]),
  );
}

function range(schema: JsonSchema): string {
  const low =
    schema.minimum !== undefined && schema.minimum > Number.MIN_SAFE_INTEGER ? schema.minimum : undefined;
  const high =
    schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER ? schema.maximum : undefined;
  const { exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  if (low !== undefined && high !== undefined) return ` from ${low} to ${high}`;
  const parts: string[] = [];
  if (low !== undefined) parts.push(`at least ${low}`);
  if (above !== undefined) parts.push(`above ${above}`);
  if (high !== undefined) parts.push(`at most ${high}`);
  if (below !== undefined) parts.push(`below ${below}`);
  return parts.length === 0 ? '' : ` ${parts.join(' and ')}`;
}

function describeOne(schema: JsonSchema): string {
  switch (schema.type) {
    case 'integer':
      return `a whole number${range(schema)}`;
    case 'number':
      return `a number${range(schema)}`;
    case 'null':
      return 'null';
    case 'object': {
      if (isNamed(schema)) return 'a map with its name and settings';
      const keys = Object.keys(schema.properties ?? {});
      if (keys.length === 0) return 'a map';
      return `a map with ${keys.slice(0, 6).join(', ')}${keys.length > 6 ? ', …' : ''}`;
    }
    case 'array':
      if (schema.prefixItems) {
        const first = schema.prefixItems[0] ? describeOne(schema.prefixItems[0]) : 'values';
        return `a list of ${schema.prefixItems.length}, each ${first}`;
      }
      if (schema.items && alternatives(schema.items).some(isNamed)) return 'a list of these';
      return `a list, each ${schema.items ? describeOne(schema.items) : 'a value'}`;
    default:
      return schema.pattern?.includes('cuda') ? 'a device (auto, cpu, cuda, cuda:1)' : 'a text';
  }
}

/** Literal values that the schemas allow. */
export function literals(schemas: JsonSchema[]): unknown[] {
  return [
    ...new Set(
      schemas.flatMap((s) =>
        s.type === 'boolean' ? [true, false] : (s.enum ?? (s.const === undefined ? [] : [s.const])),
      ),
    ),
  ];
}

/** In words: `auto or a whole number at least 1`. */
export function describe(schemas: JsonSchema[]): string {
  const values = literals(schemas).map(String);
  const others = schemas.filter((s) => literals([s]).length === 0).map(describeOne);
  const words = [...new Set([...values, ...others])];
  if (words.length <= 1) return words[0] ?? 'nothing';
  const list = `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
  return others.length === 0 && words.length > 2 ? `one of ${list}` : list;
}
