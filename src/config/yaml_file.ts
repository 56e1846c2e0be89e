/** Reads YAML into values that know their lines. Everything the parser dislikes becomes a Problem. */
import { readFileSync } from 'node:fs';
import {
  type Alias,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type Document,
  type Node,
} from 'yaml';
import { ConfigError } from '../errors.js';
import type { Located, Location, Scalar } from './located.js';
import type { Problem } from './problems.js';

/** Aliases can make a small file arbitrarily large (or endless, when an anchor holds itself). */
const MAX_NODES = 10_000;
const MAX_DEPTH = 50;

const messages: Partial<Record<string, string>> = {
  DUPLICATE_KEY: 'this key stands twice in the same map',
  TAB_AS_INDENT: 'a tab in the indentation; YAML takes spaces only',
  MULTIPLE_DOCS: 'more than one YAML document in the file',
};

class Reader {
  readonly problems: Problem[] = [];
  private readonly lines = new LineCounter();
  private nodes = 0;
  private overflowed = false;

  constructor(
    private readonly file: string,
    private readonly positions: boolean,
  ) {}

  private at(offset: number | undefined): Location {
    if (!this.positions || offset === undefined) return { file: this.file };
    const { line, col } = this.lines.linePos(offset);
    return { file: this.file, line: Math.max(1, line), column: Math.max(1, col) };
  }

  private problem(offset: number | undefined, message: string): void {
    this.problems.push({ where: this.at(offset), key: '', message });
  }

  read(text: string): Located {
    const empty: Located = { value: new Map(), where: this.at(0) };
    const documents = parseAllDocuments(text, { lineCounter: this.lines, prettyErrors: false });
    if (!Array.isArray(documents) || documents.length === 0) return empty;
    const [document, second] = documents as Document.Parsed[];
    for (const error of [...document!.errors, ...document!.warnings]) {
      this.problem(error.pos[0], messages[error.code] ?? error.message);
    }
    if (second) this.problem(second.range[0], messages['MULTIPLE_DOCS']!);
    if (this.problems.length > 0 || document!.contents === null) return empty;
    return this.node(document!.contents, document!) ?? empty;
  }

  private node(node: Node | null, document: Document.Parsed, depth = 0): Located | undefined {
    const where = this.at(node?.range?.[0]);
    if (++this.nodes > MAX_NODES || depth > MAX_DEPTH) {
      if (!this.overflowed)
        this.problem(node?.range?.[0], 'nested too deeply or too large; an anchor may hold itself');
      this.overflowed = true;
      return undefined;
    }
    if (node === null) return { value: null, where };
    if (isAlias(node)) return this.alias(node, document, depth);
    if (isScalar(node)) return { value: this.scalar(node.value), where };
    if (isSeq(node)) {
      const items: Located[] = [];
      for (const item of node.items) {
        const read = this.node(item as Node | null, document, depth + 1);
        if (read) items.push(read);
      }
      return { value: items, where };
    }
    if (!isMap(node)) return undefined;
    const map = new Map<string, Located>();
    const defaults: Located[] = [];
    for (const pair of node.items) {
      if (!isPair(pair)) continue;
      const key = pair.key as Node;
      if (!isScalar(key)) {
        this.problem(key.range?.[0], 'a key must be a word');
        continue;
      }
      const value = this.node(pair.value as Node | null, document, depth + 1);
      if (!value) continue;
      const name = String(key.value);
      if (name === '<<') defaults.push(...(Array.isArray(value.value) ? value.value : [value]));
      else map.set(name, { ...value, key: this.at(key.range?.[0]) });
    }
    // `<<: *anchor` (YAML 1.1's merge key): the map's own keys go before, earlier maps before later ones.
    for (const source of defaults) {
      if (!(source.value instanceof Map)) this.problem(node.range?.[0], '"<<" takes a map or a list of maps');
      else for (const [name, value] of source.value) if (!map.has(name)) map.set(name, value);
    }
    return { value: map, where };
  }

  private alias(node: Alias, document: Document.Parsed, depth: number): Located | undefined {
    const target = node.resolve(document);
    if (target) return this.node(target as Node, document, depth + 1);
    this.problem(node.range?.[0], `no anchor "${node.source}" before this alias`);
    return undefined;
  }

  private scalar(value: unknown): Scalar {
    return value === null || ['string', 'number', 'boolean'].includes(typeof value)
      ? (value as Scalar)
      : String(value);
  }
}

/** Parses YAML text; `file` is the name that messages use. */
export function parseYaml(text: string, file: string): { root: Located; problems: Problem[] } {
  const reader = new Reader(file, true);
  const root = reader.read(text);
  if (reader.problems.length === 0 && !(root.value instanceof Map)) {
    reader.problems.push({ where: root.where, key: '', message: 'expected a map of keys, such as "train:"' });
  }
  return { root, problems: reader.problems };
}

/** Parses the value of a command-line option as YAML: `0.1`, `true`, `[1, 2]`, `{name: sgd}`. */
export function parseValue(text: string, option: string): { root: Located; problems: Problem[] } {
  const reader = new Reader(option, false);
  if (text.trim() === '') return { root: { value: null, where: { file: option } }, problems: [] };
  const root = reader.read(text);
  return { root, problems: reader.problems };
}

/** Reads a YAML file. @throws ConfigError if the file cannot be read */
export function readYaml(file: string): { root: Located; problems: Problem[] } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError({
      what: code === 'ENOENT' ? 'There is no such config file' : `The config file cannot be read (${code})`,
      where: file,
      fix:
        code === 'ENOENT'
          ? '`fornax init DIR` writes one for a folder of images'
          : 'give the path of a YAML file',
      cause: error,
    });
  }
  return parseYaml(text.replace(/^\uFEFF/, ''), file);
}
