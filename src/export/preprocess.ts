/** Preprocessing inside the exported model: it takes uint8 images as they are decoded, [N, H, W, C]. */
import { ConfigError } from '../errors.js';
import type { Graph, GraphNode, GraphParameter } from '../graph/format.js';
import type { Normalize } from '../native/contract.js';
import type { ExportInput } from './format.js';
import { withoutDeadNodes } from './lower.js';

function freeName(name: string, graph: Graph): string {
  const taken = new Set(graph.parameters.map((parameter) => parameter.name));
  let free = name;
  while (taken.has(free)) free += '_';
  return free;
}

/**
 * Puts `(x / 255 − mean) / std` and the change of layout before a lowered graph, whose only input is a float32 image
 * [N, C, H, W].
 *
 * @returns the graph, the inputs it takes, and the names of its new constants, which are its last parameters.
 * @throws ConfigError if the model has no such input or does not know its normalisation.
 */
export function withPreprocessing(
  graph: Graph,
  inputs: readonly ExportInput[],
  normalize: Normalize | null,
): { graph: Graph; inputs: ExportInput[]; constants: Set<string> } {
  const [port] = graph.inputs;
  const [input] = inputs;
  if (!port || !input || inputs.length !== 1 || input.shape.length !== 4 || input.dtype !== 'float32') {
    throw new ConfigError({
      what: 'preprocessing can be put only before a model whose one input is a float32 image [N, C, H, W]',
      fix: 'export without preprocessing',
    });
  }
  const channels = input.shape[1]!;
  if (normalize === null) {
    throw new ConfigError({
      what: 'the model does not know how its input is normalised, so that cannot be put inside the export',
      fix: 'export without preprocessing, or give the model its `preprocessing` when you create it',
    });
  }
  if (normalize.mean.length !== channels || normalize.std.length !== channels) {
    throw new ConfigError({
      what: `the model's normalisation has ${normalize.mean.length} channels, its input ${channels}`,
    });
  }
  let slots = graph.slots;
  const constant = (name: string, values: number[]): GraphParameter => ({
    name: freeName(name, graph),
    shape: [channels],
    dtype: 'float32',
    kind: 'buffer',
    slot: slots++,
    init: { kind: 'values', values: values.map(Math.fround) },
  });
  // The very numbers of the native core's own normalisation (native/graph/operators.cc).
  const scale = constant(
    'preprocessing_scale',
    normalize.std.map((std) => 1 / (255 * std)),
  );
  const shift = constant(
    'preprocessing_shift',
    normalize.mean.map((mean, c) => -mean / normalize.std[c]!),
  );
  const pixels = slots++;
  const [ordered, floats, scaled, shifted] = [slots++, slots++, slots++, slots++];
  const node = (op: string, args: GraphNode['args'], out: number): GraphNode => ({
    op,
    path: '',
    args,
    outs: [out],
  });
  // Images come as RGB, means and deviations in the model's order.
  const reversed = normalize.channel_order === 'bgr';
  const nodes = [
    ...(reversed ? [node('aten::flip', [{ slot: pixels }, [3]], ordered)] : []),
    node('aten::to.dtype', [{ slot: reversed ? ordered : pixels }, { dtype: 'float32' }], floats),
    node('aten::mul.Tensor', [{ slot: floats }, { slot: scale.slot }], scaled),
    node('aten::add.Tensor', [{ slot: scaled }, { slot: shift.slot }], shifted),
    node('aten::permute', [{ slot: shifted }, [0, 3, 1, 2]], port.slot),
  ];
  const [n, c, h, w] = input.dims;
  const [batch, , height, width] = input.shape;
  return {
    graph: withoutDeadNodes({
      ...graph,
      slots,
      inputs: [{ ...port, slot: pixels }],
      parameters: [...graph.parameters, scale, shift],
      nodes: [...nodes, ...graph.nodes],
    }),
    inputs: [
      {
        name: input.name,
        dtype: 'uint8',
        shape: [batch!, height!, width!, channels],
        dims: [n!, h!, w!, c!],
      },
    ],
    constants: new Set([scale.name, shift.name]),
  };
}
