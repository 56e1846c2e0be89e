/** Lays one config over another: maps are merged key by key, lists and scalars replaced. */
import type { Located } from './located.js';

/** Keys that take a name alone instead of a map with settings. */
const named = new Map([
  ['train.optimizer', 'sgd'],
  ['train.schedule', 'cosine'],
  ['train.loss', 'cross_entropy'],
]);
const phases = ['train', 'eval', 'export'];

function isMap(node: Located): node is Located & { value: Map<string, Located> } {
  return node.value instanceof Map;
}

/** `train`, `data`, …: what takes a map and nothing else. */
function isSection(path: string): boolean {
  return !path.includes('.') && !['', 'name', 'device'].includes(path);
}

/** Spells out a name as the map it stands for, so that settings can be laid over it. */
function spellOut(node: Located, path: string): Located {
  if (typeof node.value !== 'string') return node;
  if (named.has(path)) return { ...node, value: new Map([['name', node]]) };
  if (path === 'device') return { ...node, value: new Map(phases.map((phase) => [phase, node])) };
  return node;
}

function namesAnother(below: Map<string, Located>, above: Map<string, Located>): boolean {
  const [before, now] = [below.get('name')?.value, above.get('name')?.value];
  return before !== undefined && now !== undefined && before !== now;
}

export function merge(below: Located | undefined, above: Located, path = ''): Located {
  if (!isMap(above)) return above;
  // No section that anything could be laid over: it stays, to be refused at its own place.
  if (below && !isMap(below) && isSection(path)) return below;
  let base = below && spellOut(below, path);
  const usual = named.get(path);
  if (usual !== undefined) {
    const name = above.value.get('name')?.value;
    if (base && isMap(base) && name !== undefined && base.value.get('name')?.value !== name) {
      // Another optimizer: the settings of the one below do not apply to it.
      base = undefined;
    }
    base ??= { value: new Map([['name', { value: usual, where: above.where }]]), where: above.where };
  }
  if (path === 'model' && base && isMap(base) && namesAnother(base.value, above.value)) {
    // Another architecture: it has options of its own.
    base = { ...base, value: new Map([...base.value].filter(([key]) => key !== 'options')) };
  }
  const merged = new Map(base && isMap(base) ? base.value : []);
  for (const [key, value] of above.value) {
    merged.set(key, merge(merged.get(key), value, path === '' ? key : `${path}.${key}`));
  }
  return { ...above, value: merged };
}
