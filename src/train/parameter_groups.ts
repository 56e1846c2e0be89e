/** Which parameters are trained, and each one's learning rate and weight decay, as groups for the optimizer. */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import type { Graph, GraphParameter } from '../graph/format.js';
import { layersOf } from '../graph/layers.js';
import type { Modes, ParameterGroup } from '../native/contract.js';
import { nearest } from '../nearest.js';
import type { RunFeature } from './run_features.js';

type TrainConfig = Config['train'];

/** The settings of `train` that say how each parameter is trained. */
export type GroupConfig = Pick<TrainConfig, 'frozen' | 'weightDecay' | 'decayNormAndBias'> &
  Partial<Pick<TrainConfig, 'lr' | 'layerDecay' | 'headLr' | 'groups'>>;

/** How one parameter is trained. */
interface Settings {
  lrScale: number;
  weightDecay: number;
  frozen: boolean;
}

/** A prefix is a whole path: `layer1` covers `layer1.0.conv1`, not `layer10`. */
export function isUnder(name: string, prefix: string): boolean {
  return name === prefix || name.startsWith(prefix + '.');
}

/** Whether a module path, or a pattern with `*`, covers a name. */
function matcherOf(match: string): (name: string) => boolean {
  if (!match.includes('*')) return (name) => isUnder(name, match);
  const escaped = match.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  const pattern = new RegExp(`^${escaped.join('.*')}(\\..*)?$`);
  return (name) => pattern.test(name);
}

/** All module paths and names of parameters. */
function pathsOf(graph: Graph): Set<string> {
  const paths = new Set<string>();
  for (const { name } of graph.parameters) {
    const parts = name.split('.');
    for (let i = 1; i <= parts.length; i++) paths.add(parts.slice(0, i).join('.'));
  }
  return paths;
}

/** @throws ConfigError if nothing in the model has this path, or fits this pattern */
function requireMatch(graph: Graph, match: string, where: string): void {
  const matches = matcherOf(match);
  if (graph.parameters.some(({ name }) => matches(name))) return;
  const near = match.includes('*') ? undefined : nearest(match, pathsOf(graph));
  throw new ConfigError({
    what: match.includes('*')
      ? `no parameter of the model fits '${match}'`
      : `the model has no module or parameter '${match}'`,
    where,
    fix: near ? `did you mean '${near}'?` : 'see `model.summary()` for the paths',
  });
}

/** Factor of the head's rate on that of the rest. */
function headScale({ headLr = null, lr }: GroupConfig): number {
  if (headLr === null) return 1;
  if (typeof headLr === 'string') return Number(headLr.slice(0, -1));
  if (lr === undefined || lr === 'auto')
    throw new ConfigError({ what: 'head_lr needs lr', where: 'train.head_lr' });
  return headLr / lr;
}

/** @throws ConfigError for a path that the model does not have */
function settingsOf(graph: Graph, train: GroupConfig): (parameter: GraphParameter) => Settings {
  const { layerDecay = null, groups = [], frozen } = train;
  for (const prefix of frozen) requireMatch(graph, prefix, 'train.frozen');
  const overrides = groups.map((group, i) => {
    for (const match of group.match) requireMatch(graph, match, `train.groups[${i}].match`);
    const matchers = group.match.map(matcherOf);
    return { ...group, matches: (name: string) => matchers.some((matches) => matches(name)) };
  });
  const layers = layersOf(graph);
  const scale = headScale(train);
  if (scale !== 1 && layers.head.size === 0) {
    throw new ConfigError({
      what: 'the model has no head: no operator before its outputs has weights',
      where: 'train.head_lr',
      fix: 'use train.groups instead',
    });
  }
  return ({ name, shape }) => {
    const depth = layers.count - 1 - layers.of.get(name)!;
    const settings: Settings = {
      lrScale: (layerDecay ?? 1) ** depth * (layers.head.has(name) ? scale : 1),
      weightDecay: train.decayNormAndBias || shape.length > 1 ? train.weightDecay : 0,
      frozen: frozen.some((prefix) => isUnder(name, prefix)),
    };
    for (const group of overrides) {
      if (!group.matches(name)) continue;
      settings.lrScale = group.lrScale ?? settings.lrScale;
      settings.weightDecay = group.weightDecay ?? settings.weightDecay;
      settings.frozen = group.frozen ?? settings.frozen;
    }
    return settings;
  };
}

/**
 * Parameters that are trained, in groups of equal rate and weight decay, those next to the input first. Frozen ones
 * are in none.
 *
 * @throws ConfigError if `frozen` or `groups` name something the model does not have, or leave nothing to train.
 */
export function parameterGroups(graph: Graph, train: GroupConfig): ParameterGroup[] {
  const settings = settingsOf(graph, train);
  const groups = new Map<string, ParameterGroup>();
  for (const parameter of graph.parameters) {
    if (parameter.kind !== 'parameter') continue;
    const { lrScale, weightDecay, frozen } = settings(parameter);
    if (frozen) continue;
    const key = `${lrScale} ${weightDecay}`;
    const group = groups.get(key);
    if (group) group.parameters.push(parameter.name);
    else {
      groups.set(key, {
        parameters: [parameter.name],
        weight_decay: weightDecay,
        ...(lrScale === 1 ? {} : { lr_scale: lrScale }),
      });
    }
  }
  if (groups.size === 0)
    throw new ConfigError({ what: 'no parameter is left to train', where: 'train.frozen' });
  return [...groups.values()];
}

/**
 * Module paths whose batch norm uses its running statistics: those of `train.frozen`, and the batch norms whose
 * weights `train.groups` freezes.
 */
export function frozenPaths(graph: Graph, train: GroupConfig): string[] {
  if (!train.groups?.some(({ frozen }) => frozen !== null)) return [...train.frozen];
  const settings = settingsOf(graph, train);
  const byName = new Map(graph.parameters.map((parameter) => [parameter.name, parameter]));
  const paths = new Set<string>();
  for (const { path, args } of graph.nodes) {
    const modal = args.some(
      (arg) => typeof arg === 'object' && arg !== null && 'mode' in arg && arg.mode === 'batch_norm',
    );
    if (!modal) continue;
    const weight = byName.get(`${path}.weight`);
    const isFrozen = weight ? settings(weight).frozen : train.frozen.some((prefix) => isUnder(path, prefix));
    if (isFrozen) paths.add(path);
  }
  return [...paths];
}

/** Training modes; batch norm under these paths uses its running statistics. */
export function trainModes(frozen: readonly string[]): Modes {
  return {
    dropout: 'train',
    batch_norm: 'train',
    stochastic_depth: 'train',
    overrides: frozen.map((prefix) => ({ prefix, kind: 'batch_norm', mode: 'eval' })),
  };
}

/** Rows of the table that are shown at each of its ends: a deep model has more groups than anybody reads. */
const ROWS_AT_EACH_END = 12;

/** What stands for a group: the module that all of it is in, else the modules at its ends. */
function whereIs(names: readonly string[]): string {
  const paths = names.map((name) => name.split('.').slice(0, -1));
  const [first = []] = paths;
  const differs = first.findIndex((part, i) => paths.some((path) => path[i] !== part));
  const common = first.slice(0, differs < 0 ? undefined : differs);
  if (names.length === 1) return names[0]!;
  if (common.length > 0) return common.join('.');
  const modules = [...new Set(names.map((name) => name.split('.')[0]!))];
  return modules.length > 3 ? `${modules.slice(0, 2).join(', ')} … ${modules.at(-1)!}` : modules.join(', ');
}

/**
 * A line for each group, under a heading, as a table; null where all parameters are trained alike.
 *
 * @param lr peak rate of the schedule
 */
export function describeGroups(graph: Graph, train: GroupConfig & Pick<TrainConfig, 'lr'>): string | null {
  const groups = parameterGroups(graph, train);
  const byName = new Map(graph.parameters.map(({ name, shape }) => [name, shape.reduce((a, b) => a * b, 1)]));
  const countOf = (names: readonly string[]): number =>
    names.reduce((sum, name) => sum + byName.get(name)!, 0);
  const trained = new Set(groups.flatMap(({ parameters }) => parameters));
  const frozen = graph.parameters
    .filter(({ kind, name }) => kind === 'parameter' && !trained.has(name))
    .map(({ name }) => name);
  if (groups.length === 1 && frozen.length === 0) return null;
  const rate = (value: number): string => String(Number(value.toPrecision(4)));
  const rows = [
    ['lr', 'decay', 'tensors', 'parameters', 'where'],
    ...groups.map(({ parameters, weight_decay, lr_scale = 1 }) => [
      rate(Number(train.lr) * lr_scale),
      rate(weight_decay),
      String(parameters.length),
      countOf(parameters).toLocaleString('en-US'),
      whereIs(parameters),
    ]),
    ...(frozen.length > 0
      ? [['frozen', '', String(frozen.length), countOf(frozen).toLocaleString('en-US'), whereIs(frozen)]]
      : []),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const shown =
    rows.length <= 2 * ROWS_AT_EACH_END + 1
      ? rows
      : [...rows.slice(0, ROWS_AT_EACH_END + 1), ['…', '', '', '', ''], ...rows.slice(-ROWS_AT_EACH_END)];
  const lines = shown.map((row) =>
    row.map((cell, column) => (column === 4 ? cell : cell.padStart(widths[column]!))).join('  '),
  );
  return `Parameter groups:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** Tells at the beginning of a run how its parameters are trained. */
export const groupsFeature: RunFeature = {
  attach({ options, train, session }) {
    const message = session.stepCount === 0 ? describeGroups(options.model.graph, train) : null;
    if (message !== null) options.report({ type: 'info', message });
  },
};
