/**
 * Finds the state dict in what a checkpoint holds: the dict itself, one under `state_dict`, `model` and the like
 * beside optimizer and epoch, or a whole module, whose attributes are walked without running any of its code.
 */
import { WeightsError } from '../errors.js';
import { escapeControlCharacters } from '../io/control_characters.js';
import { InertObject, PickledTensor, type PickleValue } from './pickle/values.js';

export interface FoundTensors {
  tensors: [name: string, tensor: PickledTensor][];
  /** Entries that are no tensors. */
  skipped: { name: string; reason: string }[];
  notes: string[];
}

/** Under which the state dict of a model stands, in the order they are looked for. */
const WRAPPERS = [
  ...['state_dict', 'model_state_dict', 'model_state', 'model', 'net', 'network', 'module', 'weights'],
  ...['params', 'state_dict_ema', 'model_ema', 'ema_state_dict', 'ema', 'params_ema', 'teacher', 'student'],
];
/** Never a model's weights. */
const OTHERS = /^(optim|sched|lr_|scaler|rng|epoch|args|config|criterion|loss|best_|meta)/i;
const MAX_DEPTH = 64;
const MAX_VISITS = 500_000;
/** Wrappers within wrappers: Lightning's checkpoint of a DataParallel of an EMA has three. */
const MAX_WRAPPERS = 8;
/** Entries looked at in one search. Dicts that hold themselves or share parts have paths without end. */
const MAX_SEARCHED = 20_000_000;

/** What a search may still look at. */
class Budget {
  private left = MAX_SEARCHED;

  spend(entries: number): void {
    this.left -= entries + 1;
    if (this.left < 0) throw new WeightsError('the dicts and modules in the file are nested without end');
  }
}

/**
 * @param value what the pickle holds.
 * @param key take the dict under this key (`model_ema`; `a.b` for a nested one) instead of looking for it.
 * @throws WeightsError if there is none, or more than one to choose from.
 */
export function findStateDict(value: PickleValue, key?: string): FoundTensors {
  const notes: string[] = [];
  const budget = new Budget();
  let found = value;
  if (key !== undefined) {
    for (const part of key.split('.')) {
      const next: PickleValue | undefined = found instanceof Map ? found.get(part) : undefined;
      if (next === undefined) {
        throw new WeightsError({
          what: `the file has no entry '${key}'`,
          fix: `it has: ${keysOf(found)}`,
        });
      }
      found = next;
    }
    const direct = flatten(found, budget);
    if (direct) return { ...direct, notes: [`took the weights under '${key}'`] };
  }
  const path: string[] = [];
  for (let depth = 0; depth < MAX_WRAPPERS; depth++) {
    const inner = innerDict(found, budget);
    if (!inner) break;
    path.push(inner.key);
    if (inner.also.length > 0) {
      const others = inner.also.map((name) => `'${name}'`).join(', ');
      notes.push(`also there: ${others} (choose with the option 'key')`);
    }
    found = inner.value;
  }
  if (path.length > 0) notes.unshift(`took the weights under '${path.join('.')}'`);
  const tensors = flatten(found, budget);
  if (!tensors) {
    throw new WeightsError({
      what: 'the file holds no state dict: no dict from names to tensors was found in it',
      fix: `its entries are: ${keysOf(found)}; name the one that holds the weights with the option 'key'`,
    });
  }
  return { ...tensors, notes };
}

function keysOf(value: PickleValue): string {
  if (!(value instanceof Map)) return 'none, it is no dict';
  const keys = [...value.keys()].filter((key) => typeof key === 'string');
  return escapeControlCharacters(
    keys
      .slice(0, 12)
      .map((name) => `'${name.slice(0, 60)}'`)
      .join(', ') + (keys.length > 12 ? ', …' : ''),
  );
}

/** A dict or module with tensors that is an entry of this dict, and which others are. */
function innerDict(
  value: PickleValue,
  budget: Budget,
  depth = 0,
): { key: string; value: PickleValue; also: string[] } | null {
  if (!(value instanceof Map) || depth >= MAX_WRAPPERS) return null;
  budget.spend(value.size);
  const isWeights = (key: string): boolean => {
    const entry = value.get(key);
    return (
      entry !== undefined && (flatten(entry, budget) !== null || innerDict(entry, budget, depth + 1) !== null)
    );
  };
  const known = WRAPPERS.filter((key) => value.has(key) && isWeights(key));
  if (known.length > 0) return { key: known[0]!, value: value.get(known[0]!)!, also: known.slice(1) };
  if ([...value.values()].some((entry) => entry instanceof PickledTensor)) return null;
  const candidates = [...value.keys()].filter(
    (key): key is string =>
      typeof key === 'string' && !OTHERS.test(key) && flatten(value.get(key)!, budget) !== null,
  );
  if (candidates.length > 1) {
    throw new WeightsError({
      what: `the file holds several state dicts: ${escapeControlCharacters(
        candidates
          .slice(0, 12)
          .map((name) => `'${name.slice(0, 60)}'`)
          .join(', '),
      )}`,
      fix: "name the one to load with the option 'key'",
    });
  }
  const [only] = candidates;
  return only === undefined ? null : { key: only, value: value.get(only)!, also: [] };
}

/** A state dict's or a module's tensors, or null if the value is neither. */
function flatten(value: PickleValue, budget: Budget): Omit<FoundTensors, 'notes'> | null {
  if (value instanceof InertObject) return flattenModule(value, budget);
  if (!(value instanceof Map)) return null;
  budget.spend(value.size);
  const tensors: FoundTensors['tensors'] = [];
  const skipped: FoundTensors['skipped'] = [];
  for (const [name, entry] of value) {
    if (typeof name !== 'string') continue;
    if (entry instanceof PickledTensor) tensors.push([name, entry]);
    else skipped.push({ name, reason: 'it is no tensor' });
  }
  return tensors.length > 0 ? { tensors, skipped } : null;
}

/**
 * The state dict of a pickled module: `_parameters`, `_buffers` and `_modules` of a Python module; the attributes
 * of a TorchScript one.
 */
export function flattenModule(
  root: InertObject,
  budget: Budget = new Budget(),
): Omit<FoundTensors, 'notes'> | null {
  const tensors: FoundTensors['tensors'] = [];
  let visits = 0;
  const add = (entries: PickleValue | undefined, prefix: string, except: PickleValue | undefined): void => {
    if (!(entries instanceof Map)) return;
    budget.spend(entries.size);
    for (const [name, entry] of entries) {
      if (typeof name !== 'string' || !(entry instanceof PickledTensor)) continue;
      if (except instanceof Set && except.has(name)) continue;
      tensors.push([prefix + name, entry]);
    }
  };
  const walk = (object: InertObject, prefix: string, depth: number): void => {
    // A damaged file may name a module as its own child, or share children so that paths multiply.
    if (depth > MAX_DEPTH || ++visits > MAX_VISITS || tensors.length > MAX_VISITS)
      throw new WeightsError('the modules in the file are nested without end');
    const attributes = object.state;
    if (!(attributes instanceof Map)) return;
    budget.spend(attributes.size);
    const python = attributes.get('_modules') instanceof Map;
    let children = attributes;
    if (python) {
      add(attributes.get('_parameters'), prefix, undefined);
      add(attributes.get('_buffers'), prefix, attributes.get('_non_persistent_buffers_set'));
      children = attributes.get('_modules') as typeof attributes;
      budget.spend(children.size);
    } else add(attributes, prefix, undefined);
    for (const [name, child] of children) {
      if (typeof name !== 'string' || !(child instanceof InertObject)) continue;
      if (python || child.type.startsWith('__torch__.')) walk(child, `${prefix}${name}.`, depth + 1);
    }
  };
  const isModule =
    root.type.startsWith('__torch__.') || (root.state instanceof Map && root.state.has('_modules'));
  if (!isModule) return null;
  walk(root, '', 0);
  return tensors.length > 0 ? { tensors, skipped: [] } : null;
}
