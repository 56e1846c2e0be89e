/**
 * Which sizes of a graph are the same for every input that the export shall serve. The graph runs on the meta
 * device for several sizes of its free dimensions: a length that never changes is a constant of the export, any
 * other is computed in it.
 */
import { ExportError, FornaxError } from '../../errors.js';
import type { DType, Graph, SizeExpr } from '../../graph/format.js';
import { evaluate, formatExpr } from '../../graph/size_expr.js';
import type { NodeInfo } from '../../native/contract.js';
import { loadAddon } from '../../native.js';
import type { ExportSource } from '../format.js';

/**
 * Lengths of a free dimension, run by run, from the example's. In the first runs, which the model must bear, height
 * and width grow by multiples of 64, since networks with skip connections take only multiples of their total stride.
 * Then come, as far as the model takes them, lengths with other remainders, down to odd ones (else a padding that only
 * odd sizes need would pass for a constant), and smaller ones (else a length that grows in steps would).
 */
const lengths: Record<'batch' | 'height' | 'width', readonly ((length: number) => number)[]> = {
  batch: [0, 1, 3, 2, 4, 6, 5, 8, 7, 10, 12, 9, 11].map((more) => (length) => length + more),
  height: [
    ...[0, 64, 192, 1, 2, 3, 5, 8, 16, 24, 32].map((more) => (length: number) => length + more),
    ...[2, 4].map((part) => (length: number) => smaller(length, part)),
  ],
  width: [
    ...[0, 128, 64, 3, 1, 2, 7, 16, 8, 40, 48].map((more) => (length: number) => length + more),
    ...[4, 2].map((part) => (length: number) => smaller(length, part)),
  ],
};
const NEEDED = 3;

/** A part of a length, a multiple of 32 where it is large enough for that. */
function smaller(length: number, part: number): number {
  const side = length / part;
  return side >= 32 ? 32 * Math.floor(side / 32) : Math.ceil(side);
}

function tried(name: string, length: number, run: number): number {
  const kind = name === 'batch' || name === 'width' ? name : 'height';
  return lengths[kind][run]!(length);
}

/** How many runs tell all: the batch alone is free in a simple way. */
function runsFor(names: readonly string[]): number {
  if (names.length === 0) return 1;
  return names.every((name) => name === 'batch') ? NEEDED : lengths.batch.length;
}

interface Run {
  /** Of every slot; undefined for a result that is not used. */
  shapes: number[][];
  /** Lengths of the free dimensions by name. */
  free: Map<string, number>;
}

/** The lengths of every tensor as far as the export knows them. */
export class Shapes {
  private readonly runs: Run[];
  private readonly dtypes: DType[] = [];

  /** @throws ExportError if the graph does not hold for other sizes of a dimension that shall be free */
  constructor(source: ExportSource) {
    const names = [
      ...new Set(source.inputs.flatMap(({ dims }) => dims.filter((d) => typeof d === 'string'))),
    ];
    // Without a state of its own: parameters become inputs.
    const { graph } = source;
    const stateless: Graph = {
      ...graph,
      inputs: [
        ...graph.inputs,
        ...graph.parameters.map(({ name, slot }) => ({ name: `parameter ${name}`, slot })),
      ],
      parameters: [],
    };
    const native = new (loadAddon().Graph)(stateless, { trusted: true });
    try {
      this.runs = Array.from({ length: runsFor(names) }, (_, run) => {
        const free = new Map<string, number>();
        const inputs = source.inputs.map(({ shape, dims, dtype }) => ({
          shape: shape.map((length, i) => {
            const name = dims[i]!;
            if (typeof name === 'number') return length;
            if (!free.has(name)) free.set(name, tried(name, length, run));
            return free.get(name)!;
          }),
          dtype,
        }));
        const all = [...inputs, ...graph.parameters.map(({ shape, dtype }) => ({ shape, dtype }))];
        try {
          return { shapes: this.collect(graph, native.inferShapes(all), all), free };
        } catch (error) {
          if (run === 0 || !(error instanceof FornaxError)) throw error;
          if (run >= NEEDED) return null;
          throw new ExportError({
            what: `the model does not work for other sizes of ${names.join(', ')}: ${error.what}`,
            where: error.where,
            fix: 'export it with fixed sizes',
            cause: error,
          });
        }
      }).filter((run) => run !== null);
    } finally {
      native.dispose();
    }
    this.checkGuards(graph);
  }

  private collect(
    graph: Graph,
    infos: readonly NodeInfo[],
    inputs: readonly { shape: number[]; dtype: DType }[],
  ): number[][] {
    const shapes: number[][] = [];
    for (const [i, { slot }] of [...graph.inputs, ...graph.parameters].entries()) {
      shapes[slot] = inputs[i]!.shape;
      this.dtypes[slot] = inputs[i]!.dtype;
    }
    for (const [i, node] of graph.nodes.entries()) {
      const used = node.outs.filter((slot) => slot !== null);
      for (const [j, slot] of used.entries()) {
        shapes[slot] = infos[i]!.outputs[j]!;
        this.dtypes[slot] = infos[i]!.dtypes[j]!;
      }
    }
    return shapes;
  }

  /** A file of this format cannot refuse an input: what tracing relied on must hold for every size it takes. */
  private checkGuards(graph: Graph): void {
    for (const { left, compare, right, path } of graph.guards) {
      if (this.constant(left) && this.constant(right)) continue;
      throw new ExportError({
        what: `the graph holds only where ${formatExpr(left)} ${compare} ${formatExpr(right)}, which an ONNX file cannot check`,
        where: path,
        fix: 'export it with fixed sizes',
      });
    }
  }

  dtype(slot: number): DType {
    return this.dtypes[slot]!;
  }

  rank(slot: number): number {
    return this.runs[0]!.shapes[slot]!.length;
  }

  /** The lengths for the example inputs. */
  example(slot: number): readonly number[] {
    return this.runs[0]!.shapes[slot]!;
  }

  /** The length of each dimension; null where it depends on the input. */
  fixed(slot: number): (number | null)[] {
    return this.example(slot).map((length, dim) =>
      this.runs.every(({ shapes }) => shapes[slot]![dim] === length) ? length : null,
    );
  }

  /**
   * The value of an expression all of whose lengths are fixed, else null. That it came out the same in every run is
   * not enough: a step at some size beyond those that were tried would be lost.
   */
  fold(expr: SizeExpr): number | null {
    if (typeof expr === 'number') return expr;
    if (expr[0] === 'size') return this.fixed(expr[1]).at(expr[2])!;
    const [a, b] = [this.fold(expr[1]), this.fold(expr[2])];
    return a === null || b === null ? null : evaluate([expr[0], a, b], () => NaN);
  }

  /** Whether an expression came out the same in every run. */
  private constant(expr: SizeExpr): boolean {
    const values = this.runs.map(({ shapes }) => evaluate(expr, (slot, dim) => shapes[slot]!.at(dim)!));
    return values.every((value) => value === values[0]);
  }

  /** Lengths as an ONNX file declares them: numbers, names of free dimensions, null for anything else. */
  declared(slot: number): (number | string | null)[] {
    return this.fixed(slot).map((length, dim) => {
      if (length !== null) return length;
      for (const name of this.runs[0]!.free.keys()) {
        if (this.runs.every(({ shapes, free }) => shapes[slot]![dim] === free.get(name))) return name;
      }
      return null;
    });
  }
}
