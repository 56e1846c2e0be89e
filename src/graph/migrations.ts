/** Upgrades graphs of older format versions, step by step, before they are validated. */
import { GraphError } from '../errors.js';
import { GRAPH_FORMAT_VERSION } from './format.js';

/** A graph as it was read: nothing is known of it but that it is an object. */
export type RawGraph = Record<string, unknown>;

/** From one version to the next. Returns a new object without touching the old. */
export type Migration = (graph: RawGraph) => RawGraph;

/** `migrations.get(n)` upgrades version n to n + 1. A test keeps one file of every version. */
export const migrations: ReadonlyMap<number, Migration> = new Map();

/** @throws GraphError for a version that is newer than this reader, or that never existed */
export function upgraded(
  graph: RawGraph,
  steps: ReadonlyMap<number, Migration> = migrations,
  newest: number = GRAPH_FORMAT_VERSION,
): RawGraph {
  const version = graph['format_version'];
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) {
    throw new GraphError({
      what: 'the graph has no valid format_version',
      fix: `this Fornax reads versions 1 to ${newest}`,
    });
  }
  if (version > newest) {
    throw new GraphError({
      what: `the graph has format_version ${version}, newer than this Fornax reads (${newest})`,
      fix: 'update fornax, or save the model again with this version',
    });
  }
  let current = graph;
  for (let from = version; from < newest; from++) {
    const step = steps.get(from);
    if (step === undefined) {
      throw new GraphError({
        what: `graphs of format_version ${version} can no longer be read`,
        fix: `this Fornax upgrades from version ${from + 1} on`,
      });
    }
    current = { ...step(current), format_version: from + 1 };
  }
  return current;
}
