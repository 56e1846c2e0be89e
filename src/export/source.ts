/** From a model to what the writers are given. */
import { formatExpr } from '../graph/size_expr.js';
import type { Graph, GraphGuard } from '../graph/format.js';
import type { InputSpec, ModelInfo } from '../model/info.js';
import { normalizeOf } from '../model/info.js';
import type { NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { freeDimensions } from './dimensions.js';
import type { ExportInput, ExportSource, ExportTensor } from './format.js';
import { lower } from './lower.js';
import { withPreprocessing } from './preprocess.js';

/** A model as its parts. */
export interface Exportable {
  graph: Graph;
  state: readonly { name: string; kind: 'parameter' | 'buffer'; tensor: NativeTensor }[];
  info: ModelInfo;
}

/** `features.1: %5.size(2) % 7 == 0` */
function guardText({ left, compare, right, path }: GraphGuard): string {
  return `${path === '' ? 'the model' : path}: ${formatExpr(left)} ${compare} ${formatExpr(right)}`;
}

/** The inputs that inference reads, in the graph's order. */
function specsOf(graph: Graph, info: ModelInfo): InputSpec[] {
  return graph.inputs.map(({ name }) => info.inputs.find((input) => input.name === name)!);
}

/**
 * @param options.preprocess put the model's normalisation inside: the export takes uint8 [N, H, W, C].
 * @returns the source; `release` disposes what it made beyond the model's own tensors.
 * @throws GraphError for a graph without a form of inference, ConfigError for impossible preprocessing.
 */
export function exportSource(
  model: Exportable,
  options: { preprocess?: boolean } = {},
): { source: ExportSource; release: () => void } {
  const plain = lower(model.graph);
  const specs = specsOf(plain, model.info);
  const dims = freeDimensions(plain, specs);
  const plainInputs = specs.map(({ name, dtype, shape }, i): ExportInput => ({
    name,
    dtype,
    shape: [...shape],
    dims: dims[i]!,
  }));
  const { graph, inputs, constants } = options.preprocess
    ? withPreprocessing(plain, plainInputs, normalizeOf(model.info.preprocessing))
    : { graph: plain, inputs: plainInputs, constants: new Set<string>() };
  const added = graph.parameters
    .filter(({ name }) => constants.has(name))
    .map(({ name, shape, dtype, init }): ExportTensor => ({
      name,
      kind: 'buffer',
      tensor: loadAddon().drawInit(init, shape, dtype, 0),
    }));
  const source: ExportSource = {
    graph,
    state: [...model.state, ...added],
    constants,
    inputs,
    guards: graph.guards.map(guardText),
    info: model.info,
    original: { graph: model.graph, info: model.info },
  };
  return { source, release: () => added.forEach(({ tensor }) => tensor.dispose()) };
}
