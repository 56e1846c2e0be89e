/** From a model to what the writers are given. */
import { ArgumentError } from '../errors.js';
import { formatExpr } from '../graph/size_expr.js';
import type { Graph, GraphGuard } from '../graph/format.js';
import type { InputSpec, ModelInfo } from '../model/info.js';
import { normalizeOf } from '../model/info.js';
import { portableProvenance } from '../model/provenance.js';
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

export type Resolution = number | readonly [number, number];

/** The inputs in the graph's order; images at another resolution, if one is given. */
function specsOf(graph: Graph, info: ModelInfo, resolution?: Resolution): InputSpec[] {
  const specs = graph.inputs.map(({ name }) => info.inputs.find((input) => input.name === name)!);
  if (resolution === undefined) return specs;
  const sides = typeof resolution === 'number' ? [resolution, resolution] : resolution;
  if (!sides.every((side) => Number.isSafeInteger(side) && side > 0)) {
    throw new ArgumentError(`a resolution is a number of pixels, not ${sides.join(' × ')}`);
  }
  return specs.map((spec) =>
    spec.shape.length === 4 ? { ...spec, shape: [...spec.shape.slice(0, 2), ...sides] } : spec,
  );
}

/** Images are brought to the resolution of the export, by the same share of what is cut off. */
function atResolution(info: ModelInfo, resolution: Resolution | undefined): ModelInfo {
  const { preprocessing } = info;
  if (resolution === undefined || preprocessing?.size == null) return info;
  const [height, width] = typeof resolution === 'number' ? [resolution, resolution] : resolution;
  const scale = Math.min(height, width) / Math.min(...preprocessing.size);
  const resize = Math.max(Math.round(preprocessing.resize! * scale), Math.min(height, width));
  const packed = preprocessing.pack_size;
  return {
    ...info,
    preprocessing: {
      ...preprocessing,
      pack_size: packed === null ? null : Math.max(packed, resize),
      resize,
      size: [height, width],
    },
  };
}

/** @throws GuardError if the graph was traced for other sizes, ExecutionError if it cannot run at these */
function checkSizes(graph: Graph, specs: readonly InputSpec[]): void {
  const native = new (loadAddon().Graph)(graph, { trusted: true });
  try {
    native.inferShapes(specs.map(({ shape, dtype }) => ({ shape: [...shape], dtype })));
  } finally {
    native.dispose();
  }
}

/**
 * @param options.preprocess put the model's normalisation inside: the export takes uint8 [N, H, W, C].
 * @param options.resolution height and width of image inputs, instead of those it was traced with.
 * @returns the source; `release` disposes what it made beyond the model's own tensors.
 * @throws GraphError for a graph without a form of inference, ConfigError for impossible preprocessing, GuardError for
 *   a resolution that the graph does not hold for.
 */
export function exportSource(
  model: Exportable,
  options: { preprocess?: boolean; resolution?: Resolution } = {},
): { source: ExportSource; release: () => void } {
  const plain = lower(model.graph);
  const specs = specsOf(plain, model.info, options.resolution);
  const own = { ...model.info, provenance: portableProvenance(model.info.provenance) };
  const info = atResolution(own, options.resolution);
  checkSizes(plain, specs);
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
    info,
    original: { graph: model.graph, info: own },
  };
  return { source, release: () => added.forEach(({ tensor }) => tensor.dispose()) };
}
