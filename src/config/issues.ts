/** From zod's issues to problems with a place, what was expected, and a hint. */
import type { z } from 'zod';
import { nearest } from '../nearest.js';
import { nearestKey } from './hints.js';
import { describe, keysAt, literals, schemasAt, settingsNeeded } from './json_schema.js';
import { locate, nodeAt, showPath, type Located, type Path } from './located.js';
import type { Problem } from './problems.js';

type Issue = z.core.$ZodIssue;

/** Of a union's branches, the one that was meant: it fails inside the value, not at it. */
function flatten(issue: Issue, value: unknown): Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const inside = issue.errors.filter(
    (branch) =>
      branch.length > 0 &&
      branch.every((i) => i.path.length > 0 || i.code === 'unrecognized_keys' || i.code === 'invalid_union'),
  );
  const [meant] = inside;
  if (inside.length !== 1 || !meant || typeof value !== 'object') return [issue];
  return meant.flatMap((i) => flatten({ ...i, path: [...issue.path, ...i.path] } as Issue, value));
}

function show(value: unknown): string {
  if (typeof value === 'string') return `"${value}"`;
  if (Array.isArray(value)) return `[${value.map(show).join(', ')}]`;
  return typeof value === 'object' && value !== null ? 'a map' : String(value);
}

function valueAt(value: unknown, path: Path): unknown {
  let here = value;
  for (const step of path) {
    if (typeof here !== 'object' || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<string | number, unknown>)[step];
  }
  return here;
}

function wrongValue(root: Located, value: unknown, path: Path, issue: Issue): Problem {
  const where = locate(root, path);
  const key = showPath(path);
  const schemas = schemasAt(path, value);
  const expected = describe(schemas);
  if (path.length > 0 && !nodeAt(root, path)) return { where, key, message: `missing; expected ${expected}` };
  const got = valueAt(value, path);
  const message =
    issue.code === 'invalid_format' || issue.code === 'custom'
      ? `${issue.message}, got ${show(got)}`
      : `expected ${expected}, got ${show(got)}`;
  const needed = settingsNeeded(schemas, got);
  if (needed.length > 0) {
    const hint = `{name: ${String(got)}, ${needed.map((name) => `${name}: …`).join(', ')}}`;
    return { where, key, message: `${String(got)} needs settings of its own: ${needed.join(', ')}`, hint };
  }
  const close = typeof got === 'string' ? nearest(got, literals(schemas).map(String)) : undefined;
  return { where, key, message, ...(close && close !== got ? { hint: `did you mean "${close}"?` } : {}) };
}

/** The problems of a config that zod refused. */
export function toProblems(error: z.ZodError, root: Located, value: unknown): Problem[] {
  return error.issues
    .flatMap((issue) => flatten(issue, valueAt(value, issue.path as Path)))
    .flatMap((issue) => {
      const path = issue.path as Path;
      if (issue.code !== 'unrecognized_keys') return [wrongValue(root, value, path, issue)];
      const siblings = keysAt(path, value);
      return issue.keys.map((key): Problem => {
        const hint = nearestKey(key, path.map(String), siblings);
        return {
          where: locate(root, [...path, key], 'key'),
          key: showPath([...path, key]),
          message: 'unknown key',
          ...(hint ? { hint } : {}),
        };
      });
    });
}
