/**
 * Operators change between versions of libtorch. A model file holds the schema of each operator its graph uses;
 * on load they are compared with those of the libtorch at hand, so that a changed one is an error and never a
 * wrong result.
 */
import type { Graph } from '../graph/format.js';
import type { OperatorSchema } from '../native/contract.js';

/** A schema as text: `['Tensor input', 'Tensor? bias=None', 'int groups=1']` and `['Tensor']`. */
export interface StoredSchema {
  arguments: string[];
  returns: string[];
}

export function storeSchema(schema: OperatorSchema): StoredSchema {
  return {
    arguments: schema.arguments.map(
      (argument) =>
        `${argument.type} ${argument.name}` + (argument.default === null ? '' : `=${argument.default}`),
    ),
    returns: schema.returns,
  };
}

/** The schemas of all operators of a graph, by name. */
export function schemasOf(
  graph: Graph,
  lookUp: (op: string) => OperatorSchema | null,
): Record<string, StoredSchema> {
  const schemas: Record<string, StoredSchema> = {};
  for (const { op } of graph.nodes) {
    if (Object.hasOwn(schemas, op)) continue;
    const schema = lookUp(op);
    if (schema) schemas[op] = storeSchema(schema);
  }
  return schemas;
}

/**
 * Whether calls written against `stored` mean the same under `present`: the same arguments in the same order with
 * the same defaults, followed only by new ones that have a default; the same results.
 *
 * @returns null if so, else what differs.
 */
export function schemaDifference(stored: StoredSchema, present: OperatorSchema): string | null {
  const now = storeSchema(present);
  for (const [i, argument] of stored.arguments.entries()) {
    if (now.arguments[i] !== argument) {
      return `argument ${i + 1} was '${argument}' and is ${now.arguments[i] ? `'${now.arguments[i]}'` : 'gone'}`;
    }
  }
  const required = now.arguments.slice(stored.arguments.length).find((argument) => !argument.includes('='));
  if (required) return `it has the new argument '${required}' without a default`;
  if (now.returns.join() !== stored.returns.join()) {
    return `its results were (${stored.returns.join(', ')}) and are (${now.returns.join(', ')})`;
  }
  return null;
}
