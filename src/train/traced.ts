/** Losses and metrics that a script writes as functions over the model's outputs and the batch's fields. */
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { trace } from '../graph/trace.js';
import { nearest } from '../nearest.js';
import { Module, type Tensor } from '../nn/index.js';

/**
 * Called once, with symbolic tensors by name: what it does becomes a graph, and nothing of it runs in JavaScript
 * afterwards. `({ output, label }) => output.argmax(1).eq(label)`.
 */
export type TracedFunction = (tensors: Record<string, Tensor>) => Tensor;

/** What a graph may read: the model's outputs and the fields of a batch. */
export interface Readable {
  outputs: readonly string[];
  fields: readonly string[];
}

/** @param where the setting it belongs to, for the error. @throws ConfigError naming what there is */
function refuseUnknown(name: string, { outputs, fields }: Readable, where: string): never {
  const near = nearest(name, [...outputs, ...fields]);
  throw new ConfigError({
    what: `'${name}' is neither an output of the model (${outputs.join(', ')}) nor a field of the data (${fields.join(', ')})`,
    where,
    ...(near ? { fix: `did you mean '${near}'?` } : {}),
  });
}

/** @throws ConfigError if the graph reads something that is not there. */
export function checkReads(graph: Graph, readable: Readable, where: string): void {
  const known = new Set([...readable.outputs, ...readable.fields]);
  for (const { name } of graph.inputs) if (!known.has(name)) refuseUnknown(name, readable, where);
}

class FunctionModule extends Module {
  constructor(
    private readonly compute: TracedFunction,
    private readonly names: readonly string[],
    /** Told which of them the function asks for. */
    private readonly asked: (name: string) => void,
  ) {
    super();
  }

  forward(...tensors: Tensor[]): Tensor {
    const given = Object.fromEntries(this.names.map((name, i) => [name, tensors[i]!]));
    return this.compute(
      new Proxy(given, {
        get: (target, key) => {
          if (typeof key !== 'string') return undefined;
          this.asked(key);
          return target[key];
        },
      }),
    );
  }
}

/**
 * Traces a function; the inputs of the graph are what it reads.
 *
 * @param output name of the graph's output.
 * @throws ConfigError if it reads something that is not there; GraphError for what a graph cannot hold.
 */
export function traceFunction(
  compute: TracedFunction,
  readable: Readable,
  { output, where }: { output: string; where: string },
): Graph {
  const all = [...new Set([...readable.outputs, ...readable.fields])];
  const known = new Set(all);
  const used = new Set<string>();
  const ask = (name: string): void => {
    if (!known.has(name)) refuseUnknown(name, readable, where);
    used.add(name);
  };
  const traceOver = (names: readonly string[]): Graph =>
    trace(new FunctionModule(compute, names, ask), {
      inputs: names.map((name) => ({ name, shape: null })),
      output,
    });
  traceOver(all);
  const graph = traceOver(all.filter((name) => used.has(name)));
  if (graph.outputs.length !== 1 || graph.outputs[0]!.name !== output) {
    throw new ConfigError({
      what: `one tensor is expected, but the function returns ${graph.outputs.map(({ name }) => name).join(', ')}`,
      where,
      fix: 'return the tensor itself',
    });
  }
  return graph;
}
