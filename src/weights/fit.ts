/**
 * Brings the names in a file of weights to those of a model: prefixes of wrappers (`module.` of DataParallel)
 * come off, the names of other publications are translated, a classifier of another size may be left out.
 * Every such step is reported, none is guessed beyond the names.
 */
import { WeightsError } from '../errors.js';
import type { GraphParameter } from '../graph/format.js';
import type { FileTensor } from '../native/contract.js';
import { renameMaps, type RenameMap } from './renames/index.js';
import type { TensorDirectory } from './tensor_directory.js';

export interface FitOptions {
  /** Leave the classifier as it is if it differs only in the number of classes. Default false. */
  replaceHead?: boolean;
  /** Names in the file to ignore: heads that the model does not have. */
  ignore?: readonly RegExp[];
}

export interface FittedWeights {
  /** With the model's names. Those that fit nothing keep their own. */
  tensors: FileTensor[];
  /** Names in the file by those in the model, where they differ. */
  renamed: Map<string, string>;
  /** Parameters that may stay as they were drawn without being missing. */
  derived: string[];
  /** Tensors of the classifier that are left as they were drawn. */
  replaced: string[];
  /** Why the model would compute something else than the one these weights are of, though all names fit. */
  caveat: string | null;
  notes: string[];
}

/** What wrappers put before the names: DataParallel, torch.compile, Lightning modules, EMA, timm's checkpoints. */
const PREFIXES = [
  'module.',
  '_orig_mod.',
  'model.',
  'net.',
  'network.',
  'ema_model.',
  'ema.',
  'encoder.',
  'backbone.',
];
const MAX_PREFIXES = 4;
/** Far above any model: names are matched against patterns, whose time a file must not decide. */
const MAX_TENSORS = 100_000;
const MAX_NAME = 1000;

/** Batch norm counts its batches only since PyTorch 0.4.1; the count matters for no result in eval mode. */
const COUNTER = /(^|\.)num_batches_tracked$/;

type Names = ReadonlyMap<string, GraphParameter>;

function hits(tensors: readonly FileTensor[], model: Names): number {
  let count = 0;
  for (const { name } of tensors) if (model.has(name)) count++;
  return count;
}

/** Takes prefixes off as long as more names become those of the model. */
function stripPrefixes(
  tensors: FileTensor[],
  score: (tensors: FileTensor[]) => number,
): [FileTensor[], string[]] {
  const stripped: string[] = [];
  let best = tensors;
  for (let round = 0; round < MAX_PREFIXES; round++) {
    const candidates = PREFIXES.filter((prefix) => best.some(({ name }) => name.startsWith(prefix)));
    let found = false;
    for (const prefix of candidates) {
      const shorter = best.map((tensor) =>
        tensor.name.startsWith(prefix) ? { ...tensor, name: tensor.name.slice(prefix.length) } : tensor,
      );
      // A wrapper within a wrapper shows only when both are off: no loss is enough to go on if all have it.
      const gain = score(shorter) - score(best);
      if (gain > 0 || (gain === 0 && best.every(({ name }) => name.startsWith(prefix)))) {
        best = shorter;
        stripped.push(prefix);
        found = true;
        break;
      }
    }
    if (!found) break;
  }
  return score(best) > score(tensors) ? [best, stripped] : [tensors, []];
}

interface Translation {
  tensors: FileTensor[];
  map: RenameMap | null;
  stripped: string[];
}

/**
 * Weights of a whole network for a part of the model: a classifier's for the backbone of a segmenter, whose names
 * begin with `backbone.`. Null unless at least half of that part is found.
 */
function asPart(tensors: FileTensor[], model: Names): (Translation & { part: string }) | null {
  const parts = new Map<string, Map<string, GraphParameter>>();
  for (const [name, parameter] of model) {
    const end = name.indexOf('.') + 1;
    if (end === 0) continue;
    const part = parts.get(name.slice(0, end)) ?? new Map<string, GraphParameter>();
    parts.set(name.slice(0, end), part.set(name.slice(end), parameter));
  }
  for (const [part, names] of parts) {
    const found = translate(tensors, names, renameMaps);
    if (2 * hits(found.tensors, names) < names.size) continue;
    const inPart = found.tensors.map((tensor) =>
      names.has(tensor.name) ? { ...tensor, name: part + tensor.name } : tensor,
    );
    return { ...found, tensors: inPart, part };
  }
  return null;
}

/** The translation that makes most names those of the model, if any does better than none. */
function translate(tensors: FileTensor[], model: Names, maps: readonly RenameMap[]): Translation {
  const plain = (candidate: FileTensor[]): number => hits(candidate, model);
  const [unprefixed, stripped] = stripPrefixes(tensors, plain);
  let best = { tensors: unprefixed, map: null as RenameMap | null, stripped };
  if (plain(unprefixed) === model.size) return best;
  for (const map of maps) {
    const apply = (candidate: FileTensor[]): FileTensor[] => {
      const rename = map.renamer(candidate.map(({ name }) => name));
      return candidate.map((tensor) => {
        const name = rename(tensor.name);
        return name === null || name === tensor.name ? tensor : { ...tensor, name };
      });
    };
    const [candidate, prefixes] = stripPrefixes(tensors, (given) => plain(apply(given)));
    const renamed = apply(candidate);
    if (plain(renamed) > plain(best.tensors)) best = { tensors: renamed, map, stripped: prefixes };
  }
  return best;
}

/**
 * @param parameters of the model's graph.
 * @throws WeightsError if two names of the file become one.
 */
export function fitWeights(
  directory: TensorDirectory,
  parameters: readonly GraphParameter[],
  options: FitOptions = {},
): FittedWeights {
  const model: Names = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const notes = [...directory.notes];
  const endless = directory.tensors.find(({ name }) => name.length > MAX_NAME);
  if (directory.tensors.length > MAX_TENSORS || endless) {
    const what = endless
      ? `a name of ${endless.name.length} characters`
      : `${directory.tensors.length} tensors`;
    throw new WeightsError(`the file holds ${what}, more than any model has`);
  }
  let given = directory.tensors.filter(({ name }) => !options.ignore?.some((pattern) => pattern.test(name)));
  const ignored = directory.tensors.length - given.length;
  if (ignored > 0) notes.push(`ignored ${ignored} tensors of parts that the model does not have`);
  let { tensors, map, stripped } = translate(given, model, renameMaps);
  const redundant = map?.redundant;
  if (redundant && given.some(({ name }) => redundant.test(name))) {
    given = given.filter(({ name }) => !redundant.test(name));
    ({ tensors, map, stripped } = translate(given, model, renameMaps));
  }
  const part = hits(tensors, model) === 0 ? asPart(given, model) : null;
  if (part) {
    ({ tensors, map, stripped } = part);
    notes.push(`these are weights of a whole network, taken for '${part.part}*' of this one`);
  }
  if (stripped.length > 0) notes.push(`took '${stripped.join('')}' off the names`);
  if (map) notes.push(`translated the names: ${map.name}`);
  const caveat = map?.caveat?.(given.map(({ name }) => name)) ?? null;
  if (caveat !== null) notes.push(caveat);

  const renamed = new Map<string, string>();
  const seen = new Set<string>();
  for (const [i, { name }] of tensors.entries()) {
    if (seen.has(name)) throw new WeightsError(`two tensors of the file would become '${name}' of the model`);
    seen.add(name);
    if (name !== given[i]!.name) renamed.set(name, given[i]!.name);
  }
  const reshaped = tensors.map((tensor) => reshape(tensor, model.get(tensor.name), map));
  const derived = derivedNames(parameters, seen, map, notes);
  const replaced = options.replaceHead ? headOf(reshaped, model) : [];
  if (replaced.length > 0) {
    const shapes = replaced.map((name) => {
      const before = reshaped.find((tensor) => tensor.name === name)!.shape[0];
      return `${name} (${before} → ${model.get(name)!.shape[0]})`;
    });
    notes.push(
      `the number of classes differs, so the classifier stays as it was drawn: ${shapes.join(', ')}`,
    );
  }
  const left = new Set(replaced);
  return {
    tensors: reshaped.filter(({ name }) => !left.has(name)),
    renamed,
    derived,
    replaced,
    caveat,
    notes,
  };
}

/** The same elements under another shape: `gamma` [C] is `layer_scale` [C, 1, 1]. */
function reshape(tensor: FileTensor, target: GraphParameter | undefined, map: RenameMap | null): FileTensor {
  if (!target || !map?.reshapes || tensor.strides || tensor.shape.join() === target.shape.join())
    return tensor;
  const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
  // The first dimension stays: anything else would not be the same layer.
  const same = tensor.shape[0] === target.shape[0] && count(tensor.shape) === count(target.shape);
  return same ? { ...tensor, shape: [...target.shape] } : tensor;
}

/** Parameters that files of this kind lack by right. */
function derivedNames(
  parameters: readonly GraphParameter[],
  seen: ReadonlySet<string>,
  map: RenameMap | null,
  notes: string[],
): string[] {
  const missing = parameters.filter(({ name }) => !seen.has(name));
  const counters = [...seen].some((name) => COUNTER.test(name))
    ? []
    : missing.filter(({ name, kind }) => kind === 'buffer' && COUNTER.test(name));
  if (counters.length > 0)
    notes.push(`the file is of a PyTorch before 0.4.1: ${counters.length} counters of batch norm stay at 0`);
  const tables = missing.filter(({ name, kind }) => kind === 'buffer' && map?.derived?.test(name));
  if (tables.length > 0)
    notes.push(`${tables.length} tables that follow from the architecture are not in the file`);
  return [...counters, ...tables].map(({ name }) => name);
}

/**
 * Names of the classifier if it alone has another shape, and only in the number of classes: all that differ do so
 * in the first dimension, from one number to one other, and belong to at most three modules (auxiliary heads).
 */
function headOf(tensors: readonly FileTensor[], model: Names): string[] {
  const differing = tensors.filter(({ name, shape }) => {
    const target = model.get(name);
    return target !== undefined && target.shape.join() !== shape.join();
  });
  const [first] = differing;
  if (!first || first.shape.length === 0) return [];
  const from = first.shape[0];
  const to = model.get(first.name)!.shape[0];
  const onlyClasses = differing.every(({ name, shape }) => {
    const target = model.get(name)!.shape;
    return shape[0] === from && target[0] === to && shape.slice(1).join() === target.slice(1).join();
  });
  const modules = new Set(differing.map(({ name }) => name.slice(0, name.lastIndexOf('.'))));
  return onlyClasses && modules.size <= 3 ? differing.map(({ name }) => name) : [];
}
