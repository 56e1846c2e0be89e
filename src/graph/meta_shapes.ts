/**
 * Shapes of the tensors of a trace under way, for its example inputs. Nodes run on the meta device, natively and
 * only once somebody asks; each runs once.
 */
import { GraphError } from '../errors.js';
import { loadAddon } from '../native.js';
import { GRAPH_FORMAT_VERSION, type DType, type GraphNode, type GraphParameter } from './format.js';
import { forEachArgumentSlot, mapArgumentSlots } from './slots.js';

interface Known {
  shape: readonly number[];
  dtype: DType;
}

export class MetaShapes {
  private readonly known = new Map<number, Known>();
  private readonly parameters = new Map<number, GraphParameter>();
  /** Nodes whose results nobody has asked for yet. */
  private pending: GraphNode[] = [];

  set(slot: number, shape: readonly number[], dtype: DType): void {
    this.known.set(slot, { shape: [...shape], dtype });
  }

  addParameter(parameter: GraphParameter): void {
    this.parameters.set(parameter.slot, parameter);
    this.set(parameter.slot, parameter.shape, parameter.dtype);
  }

  add(node: GraphNode): void {
    this.pending.push(node);
  }

  of(slot: number): readonly number[] {
    if (!this.known.has(slot) && this.pending.length > 0) this.runPending();
    return this.need(slot).shape;
  }

  private need(slot: number): Known {
    const known = this.known.get(slot);
    if (known !== undefined) return known;
    throw new GraphError({
      what: 'forward() needs a size as a number, but the shape of an input is not known',
      fix: 'give trace() or traceLoss() an example shape for each input',
    });
  }

  /** Runs the pending nodes as a graph of their own, whose inputs are the known slots that they use. */
  private runPending(): void {
    const nodes = this.pending;
    const local = new Map<number, number>();
    const inputs: number[] = [];
    const parameters: GraphParameter[] = [];
    const use = (slot: number): void => {
      if (local.has(slot)) return;
      local.set(slot, local.size);
      const parameter = this.parameters.get(slot);
      if (parameter === undefined) inputs.push(slot);
      else parameters.push({ ...parameter, slot: local.get(slot)! });
    };
    const made = new Set(nodes.flatMap((node) => node.outs));
    for (const node of nodes) {
      forEachArgumentSlot(node.args, (slot) => {
        if (!made.has(slot)) use(slot);
      });
    }
    const examples = inputs.map((slot) => {
      const { shape, dtype } = this.need(slot);
      return { shape: [...shape], dtype };
    });
    for (const slot of made) if (slot !== null) local.set(slot, local.size);
    const map = (slot: number): number => local.get(slot)!;
    const last = nodes.at(-1)!;
    const graph = new (loadAddon().Graph)(
      {
        format_version: GRAPH_FORMAT_VERSION,
        slots: local.size,
        inputs: inputs.map((slot) => ({ name: `slot_${slot}`, slot: map(slot) })),
        outputs: [{ name: 'last', slot: map(last.outs.find((slot) => slot !== null)!) }],
        parameters,
        nodes: nodes.map((node) => ({
          ...node,
          args: node.args.map((arg) => mapArgumentSlots(arg, map)),
          outs: node.outs.map((slot) => (slot === null ? null : map(slot))),
        })),
        guards: [],
      },
      { trusted: true },
    );
    try {
      const infos = graph.inferShapes(examples);
      for (const [i, node] of nodes.entries()) {
        // Unused results are left out of the lists.
        const { outputs, dtypes } = infos[i]!;
        const used = node.outs.filter((slot) => slot !== null);
        for (const [j, slot] of used.entries()) this.set(slot, outputs[j]!, dtypes[j]!);
      }
    } finally {
      graph.dispose();
    }
    this.pending = [];
  }
}
