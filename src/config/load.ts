/**
 * From files and command-line overrides to one checked config. Files are laid over each other in order, then the
 * overrides; every problem found is reported at once, with its file and line.
 */
import { toSnake } from './case.js';
import { checkRules } from './check.js';
import { checkLosses } from './check_losses.js';
import { toProblems } from './issues.js';
import type { Located, Scalar } from './located.js';
import { plain } from './located.js';
import { merge } from './merge.js';
import { ConfigProblemsError, type Problem } from './problems.js';
import { complete, type Circumstances } from './resolve.js';
import { configSchema, type Config, type ConfigInput } from './schema.js';
import { parseValue, readYaml } from './yaml_file.js';

/** A value given on the command line. */
export interface Override {
  /** `train.batch_size` */
  key: string;
  /** The option as messages name it: `--epochs`. */
  option: string;
  value: Scalar;
}

export interface ConfigSources {
  /** YAML files; later ones win. */
  files?: readonly string[];
  /** `a.b=value` with a YAML value, as given to `--set`; wins over files. */
  sets?: readonly string[];
  /** From options of their own (`--data`, `--epochs`); win over everything. */
  overrides?: readonly Override[];
  /** That train together, each with batches of its own: the learning rate `auto` goes by all of them. Default 1. */
  processes?: number;
}

/** `a.b` and a value as the map `{a: {b: value}}`. */
function nest(key: string, node: Located): Located {
  return key
    .split('.')
    .reduceRight<Located>(
      (inner, name) => ({ value: new Map([[name, { ...inner, key: node.where }]]), where: node.where }),
      node,
    );
}

function readSet(text: string, problems: Problem[]): Located | undefined {
  const option = `--set ${text}`;
  const equals = text.indexOf('=');
  const key = text.slice(0, Math.max(0, equals)).trim();
  if (equals < 0 || !/^[^.\s]+(\.[^.\s]+)*$/.test(key)) {
    problems.push({
      where: { file: option },
      key: '',
      message: 'expected key=value',
      hint: 'for example --set train.batch_size=32',
    });
    return undefined;
  }
  const { root, problems: found } = parseValue(text.slice(equals + 1), option);
  problems.push(...found.map((problem) => ({ ...problem, key })));
  return nest(key, root);
}

/**
 * Reads, merges and checks.
 * @throws ConfigError listing every problem: unknown keys, wrong values, broken YAML, contradictions
 */
export function loadConfig(sources: ConfigSources): Config {
  const problems: Problem[] = [];
  const layers: Located[] = [];
  for (const file of sources.files ?? []) {
    const read = readYaml(file);
    problems.push(...read.problems);
    layers.push(read.root);
  }
  for (const text of sources.sets ?? []) {
    const layer = readSet(text, problems);
    if (layer) layers.push(layer);
  }
  for (const { key, option, value } of sources.overrides ?? []) {
    layers.push(nest(key, { value, where: { file: option } }));
  }
  if (problems.length > 0) throw new ConfigProblemsError(problems);
  const empty: Located = { value: new Map(), where: { file: 'the command line' } };
  const root = layers.reduce((below, layer) => merge(below, layer), empty);
  const { processes } = sources;
  const config = checkConfig(root, processes === undefined ? {} : { processes });
  const unfed = checkLosses(config, root);
  if (unfed.length > 0) throw new ConfigProblemsError(unfed);
  return config;
}

function checkConfig(
  root: Located,
  { metrics = [], ...circumstances }: Circumstances & { metrics?: readonly string[] },
): Config {
  const value = plain(root);
  const parsed = configSchema.safeParse(value);
  if (!parsed.success) throw new ConfigProblemsError(toProblems(parsed.error, root, value));
  const problems = checkRules(parsed.data, root, metrics);
  if (problems.length > 0) throw new ConfigProblemsError(problems);
  return complete(parsed.data, circumstances);
}

function located(value: unknown): Located {
  const where = { file: 'the config given by the script' };
  if (Array.isArray(value)) return { value: value.map(located), where };
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    return { value: new Map(entries.map(([key, item]) => [key, located(item)])), where };
  }
  return { value: value as Scalar, where };
}

/**
 * Checks a config written in a script (camelCase keys) and fills in the defaults.
 * @param options.metrics names of figures that the script adds to the evaluation, for `checkpoint.monitor`
 * @param options.classes whether the data have classes, for `checkpoint.monitor: auto`; default true
 * @throws ConfigError listing every problem
 */
export function defineConfig(
  input: ConfigInput,
  options: { metrics?: readonly string[]; classes?: boolean } = {},
): Config {
  return checkConfig(merge(undefined, located(toSnake(input))), options);
}
