/** The networks of a file of kind `faces`: state dict, and raw outputs in eval mode. */
import { join } from 'node:path';
import { Model } from '#fornax/model.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { architectures } from '#fornax/models/registry.js';
import { testData, whyNoData } from '../support/data.js';
import type { Comparison } from './comparison.js';
import type { FaceSettings } from './faces_settings.js';
import { type Fields, MalformedGolden } from './fields.js';
import { fillInput, fillModel, fillUnit } from './fill.js';
import { type GoldenCase, Unsupported } from './kind.js';

/** A file and what its prose says. */
export interface FaceFile {
  golden: Fields;
  settings: FaceSettings;
  /** By name. */
  models: ReadonlyMap<string, Fields>;
  images: ReadonlyMap<string, Fields>;
}

/** The architecture that each repository of the file publishes. */
const architectureOf: Record<string, string> = {
  retinaface: 'retinaface_mobilenet025',
  featherface: 'featherface',
  featherface_v1: 'featherface_baseline',
  featherface_eca: 'featherface_eca_cbam',
};

function fieldsOf(file: FaceFile, model: string): Fields {
  const fields = file.models.get(model);
  if (!fields) throw new MalformedGolden(file.golden.where, `has no model '${model}'`);
  return fields;
}

/** An untrained network of the file, for images of this size. */
export function makeModel(file: FaceFile, name: string, size: readonly number[], batch = 1): Model {
  const repository = fieldsOf(file, name).text('repository');
  const architecture = architectureOf[repository];
  if (!architecture || !architectures.some((known) => known.name === architecture)) {
    throw new Unsupported(`the zoo has no architecture of the repository '${repository}'`);
  }
  return Model.create(architecture, { inputs: [[batch, 3, ...size]] });
}

/** Gives a network the weights that the file was made with. @throws Unsupported where they are missing */
export async function giveWeights(file: FaceFile, name: string, model: Model): Promise<void> {
  const weights = fieldsOf(file, name).raw('weights');
  if (weights === null) {
    fillFusion(model, file.settings.fusion(name));
    return;
  }
  const folder = testData('weights');
  if (folder === null) throw new Unsupported(String(whyNoData('weights')));
  await model.loadWeights(join(folder, String(weights)));
}

/** The fill of all golden files, then the weights of the BiFPN's fusions: those of the fill would be negative. */
function fillFusion(model: Model, { base, slope }: { base: number; slope: number }): void {
  fillModel(model.native);
  const { Tensor } = loadAddon();
  const entries: Record<string, NativeTensor> = {};
  for (const [t, { name, tensor }] of model.native.state().entries()) {
    const { shape } = tensor;
    tensor.dispose();
    if (!/\.p\d+_w\d+$/.test(name)) continue;
    const values = Float32Array.from(
      { length: shape[0]! },
      (_, j) => base + slope * (2 * fillUnit(j, t) - 1),
    );
    entries[name] = Tensor.fromTypedArray(values, shape);
  }
  model.native.loadState(entries, { strict: false });
  for (const tensor of Object.values(entries)) tensor.dispose();
}

/** The input of a network: the fill times the network's gain. */
export function modelInput(settings: FaceSettings, name: string, shape: number[]): NativeTensor {
  const gain = settings.inputGain(name);
  const count = shape.reduce((product, length) => product * length, 1);
  const values = fillInput(count, settings.inputT).map((value) => value * gain);
  return loadAddon().Tensor.fromTypedArray(values, shape);
}

export function sizeOf(text: string): [number, number] {
  const [height, width] = text.split('x').map(Number);
  return [height!, width!];
}

export function faceCasesOfModels(file: FaceFile): GoldenCase[] {
  return [...file.models].map(([name, fields]) => ({
    name: `models/${name}`,
    fields,
    run: (comparison) => runModel(file, name, comparison),
  }));
}

async function runModel(file: FaceFile, name: string, comparison: Comparison): Promise<void> {
  const fields = fieldsOf(file, name);
  const raw = fields.map('raw');
  const sizes = raw.keys();
  const model = makeModel(file, name, sizeOf(sizes[0]!));
  try {
    compareState(fields, model, comparison);
    if (comparison.misses.length > 0) return;
    await giveWeights(file, name, model);
    for (const size of sizes) {
      const x = modelInput(file.settings, name, [1, 3, ...sizeOf(size)]);
      await compareRaw(file.settings, raw.child(size), model, x, `${size}.`, comparison);
      x.dispose();
    }
  } finally {
    model.dispose();
  }
}

function compareState(fields: Fields, model: Model, comparison: Comparison): void {
  const state = model.native.state().map(({ name, tensor }) => {
    const entry = [name, tensor.shape, tensor.dtype];
    tensor.dispose();
    return entry;
  });
  const expected = fields.list('state') as [string, number[], string][];
  comparison.equalNames(
    'state',
    state.map(([name]) => String(name)),
    expected.map(([name]) => name),
  );
  for (const [i, entry] of expected.entries()) comparison.equal(`state ${entry[0]}`, state[i], entry);
  comparison.equal('parameters', model.parameterCount, fields.integer('parameters'));
  const head = model.graph.parameters.find(({ name }) => name === 'ClassHead.0.conv1x1.weight');
  comparison.equal('out_channel', head?.shape[1], fields.integer('out_channel'));
}

async function compareRaw(
  { tolerances }: FaceSettings,
  fields: Fields,
  model: Model,
  x: NativeTensor,
  what: string,
  comparison: Comparison,
): Promise<void> {
  const session = new (loadAddon().InferenceSession)(model.native, {});
  try {
    const { loc, conf, landm } = await session.forward({ image: x });
    // The detector gives class scores; what the file calls `conf` is their softmax.
    const [softmax] = loadAddon().Tensor.call('aten::softmax.int', [conf!, -1]);
    const outputs = { loc: loc!, conf: softmax!, landm: landm!, conf_logits: conf! };
    for (const [name, tensor] of Object.entries(outputs)) {
      const expected = fields.child(name);
      const values = tensor.toTypedArray() as Float32Array;
      comparison.equal(`${what}${name}.shape`, tensor.shape, expected.numbers('shape'));
      const first = expected.numbers('first');
      comparison.allClose(`${what}${name}.first`, values.subarray(0, first.length), first, tolerances.raw);
      const spread = expected.numbers('spread');
      const at = spread.map((_, i) => values[Math.floor((i * (values.length - 1)) / (spread.length - 1))]!);
      comparison.allClose(`${what}${name}.spread`, at, spread, tolerances.raw);
      const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
      const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length;
      comparison.close(`${what}${name}.mean`, mean, expected.number('mean'), tolerances.rawMoments);
      comparison.close(
        `${what}${name}.std`,
        Math.sqrt(variance),
        expected.number('std'),
        tolerances.rawMoments,
      );
      expected.number('f64'); // How far the original itself is from its run in double.
      tensor.dispose();
    }
  } finally {
    session.dispose();
  }
}
