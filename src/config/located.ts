/** Values that remember where they were written, so that a message can point at the line. */

export interface Location {
  /** A file as it was named, or a command-line option (`--set train.lr=x`). */
  file: string;
  /** 1-based; absent for command-line options. */
  line?: number;
  column?: number;
}

export type Scalar = string | number | boolean | null;

/** A scalar, a list or a map, each with the place of the value and (inside a map) of its key. */
export interface Located {
  value: Scalar | Located[] | Map<string, Located>;
  where: Location;
  key?: Location;
}

export type Path = readonly (string | number)[];

export function plain(node: Located): unknown {
  const { value } = node;
  if (Array.isArray(value)) return value.map(plain);
  // fromEntries defines own properties, so that a key `__proto__` is a key like any other.
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  return value;
}

/** The node at a path, or undefined. */
export function nodeAt(root: Located, path: Path): Located | undefined {
  let node: Located | undefined = root;
  for (const step of path) {
    if (node?.value instanceof Map) node = node.value.get(String(step));
    else if (Array.isArray(node?.value)) node = node.value[Number(step)];
    else return undefined;
  }
  return node;
}

/** Where a path is written: its key, its value, or the nearest thing around it. */
export function locate(root: Located, path: Path, part: 'key' | 'value' = 'value'): Location {
  for (let length = path.length; length >= 0; length--) {
    const node = nodeAt(root, path.slice(0, length));
    if (node) return (part === 'key' || length < path.length ? node.key : undefined) ?? node.where;
  }
  return root.where;
}

export function showLocation(where: Location): string {
  return where.line === undefined ? where.file : `${where.file}:${where.line}:${where.column ?? 1}`;
}

export function showPath(path: Path): string {
  return path
    .map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`))
    .join('');
}
