/** Anchors, target matching and losses of a file of kind `faces`. */
import { multiBox, multiBoxParts, type MultiBoxLossOptions } from '#fornax/losses/index.js';
import { faceAnchors } from '#fornax/detect/index.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type FaceFile, giveWeights, makeModel, modelInput } from './faces_models.js';
import {
  type Face,
  faceFields,
  facesOfImage,
  matchFaces,
  priorsFor,
  quirkFaces,
  targetRow,
} from './faces_targets.js';
import type { Fields } from './fields.js';
import type { GoldenCase } from './kind.js';

export function trainingCases(file: FaceFile): GoldenCase[] {
  const training = file.golden.child('training');
  const priors = training.child('priors');
  const matches = training.list('match').map((match, i) => training.adopt(match, `match[${i}]`));
  const quirks = training.child('quirks');
  const losses = training.map('losses');
  const { size } = file.settings.targets;
  return [
    { name: 'training/priors', fields: priors, run: async (to) => comparePriors(priors, to) },
    ...matches.map((match): GoldenCase => ({
      name: `training/match/${match.text('image')}`,
      fields: match,
      run: async (to) => compareMatch(file, match, await facesOfImage(file, match), to),
    })),
    {
      name: 'training/quirks',
      fields: quirks,
      run: (to) => compareQuirks(file, quirks, quirkFaces(quirks, size), to),
    },
    ...losses.keys().map((name): GoldenCase => {
      const fields = losses.child(name);
      return {
        name: `training/losses/${name}`,
        fields,
        run: (to) => compareLosses(file, name, fields, matches, to),
      };
    }),
  ];
}

function comparePriors(fields: Fields, comparison: Comparison): void {
  const count = fields.keys().find((key) => /^count_\d+x\d+$/.test(key)) ?? 'count_640x640';
  const [height, width] = /(\d+)x(\d+)/.exec(count)!.slice(1).map(Number) as [number, number];
  const priors = priorsFor([height, width]);
  const values = priors.toTypedArray() as Float32Array;
  priors.dispose();
  comparison.equal('count', values.length / 4, fields.integer(count));
  const first = (fields.list('first8_cx_cy_w_h') as number[][]).flat();
  const last = fields.numbers('last');
  // Nine digits tell every float32: no tolerance.
  comparison.allClose('first8', values.subarray(0, first.length), first.map(Math.fround), 0);
  comparison.allClose('last', values.subarray(-last.length), last.map(Math.fround), 0);
  const sums = fields.numbers('sums');
  for (const [k, expected] of sums.entries()) {
    const sum = values.reduce((total, value, i) => (i % 4 === k ? total + value : total), 0);
    comparison.close(`sums[${k}]`, sum, expected, 1e-7 * Math.abs(expected));
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The columns' sums over the rows at `places`. */
function columnSums(values: Float32Array, places: readonly number[], width: number): number[] {
  return Array.from({ length: width }, (_, k) => sum(places.map((p) => values[p * width + k]!)));
}

function compareMatch(file: FaceFile, fields: Fields, faces: readonly Face[], comparison: Comparison): void {
  const { targets, tolerances } = file.settings;
  const { loc, conf, landm } = matchFaces(file.settings, faces);
  const positives = [...conf.keys()].filter((p) => conf[p] !== 0);
  const labelled = positives.filter((p) => conf[p]! > 0);
  comparison.equal('faces', faces.length, fields.integer('faces'));
  const withLandmarks = faces.filter(({ label }) => label > 0).length;
  comparison.equal('faces_with_landmarks', withLandmarks, fields.integer('faces_with_landmarks'));
  // A face that overlaps nothing by 0.2 matches nothing if it is alone, and any other at least one anchor.
  const lonely = faces.filter((face) => matchFaces(file.settings, [face]).conf.every((label) => label === 0));
  comparison.equal('faces under 0.2', lonely.length, fields.integer('faces_best_overlap_under_0.2'));
  for (const [key, i] of [
    ['first_target_row', 0],
    ['third_target_row', 2],
  ] as const) {
    const row = fields.numbers(key);
    comparison.allClose(key, targetRow(faces[i]!), row, 1e-8);
  }
  comparison.equal('positives', positives.length, fields.integer('positives'));
  comparison.equal('with landmarks', labelled.length, fields.integer('positives_with_landmarks'));
  const first = fields.numbers('first_positives');
  comparison.equal('first_positives', positives.slice(0, first.length), first);
  comparison.equal('index_sum', sum(positives), fields.integer('index_sum'));
  const close = (what: string, actual: number, expected: number): void =>
    comparison.close(what, actual, expected, tolerances.sums * Math.abs(expected));
  const sums = {
    loc_t: columnSums(loc, positives, 4),
    landm_t: columnSums(landm, labelled, targets.points.length * 2),
  };
  for (const [key, columns] of Object.entries(sums)) {
    close(`${key}_sum`, sum(columns), fields.number(`${key}_sum`));
    for (const [k, expected] of fields.numbers(`${key}_sums`).entries()) {
      close(`${key}_sums[${k}]`, columns[k] ?? NaN, expected);
    }
  }
  const all = sum(columnSums(landm, positives, targets.points.length * 2));
  close('landm_t_sum_all_positives', all, fields.number('landm_t_sum_all_positives'));
}

async function compareQuirks(
  file: FaceFile,
  fields: Fields,
  faces: readonly Face[],
  comparison: Comparison,
): Promise<void> {
  const { loc, conf } = matchFaces(file.settings, faces);
  const positives = [...conf.keys()].filter((p) => conf[p] !== 0);
  comparison.equal('positives', positives, fields.numbers('positives'));
  const expected = fields.list('loc_t') as number[][];
  const largest = Math.max(...expected.flat().map(Math.abs));
  for (const [i, row] of expected.entries()) {
    const p = positives[i] ?? 0;
    comparison.allClose(
      `loc_t[${i}]`,
      loc.subarray(p * 4, p * 4 + 4),
      row,
      file.settings.tolerances.sums * largest,
    );
  }
  const [height, width] = file.settings.targets.size;
  // Any outputs will do.
  const name = [...file.models.keys()][0]!;
  const model = makeModel(file, name, [height, width]);
  const x = modelInput(file.settings, name, [1, 3, height, width]);
  const session = new (loadAddon().InferenceSession)(model.native, {});
  try {
    const outputs = await session.forward({ image: x });
    const losses = await lossParts(file, outputs, [[faces[1]!]], {});
    const zeros = fields.raw('losses_of_second_face_alone');
    comparison.equal('losses_of_second_face_alone', losses, zeros);
  } finally {
    session.dispose();
    model.dispose();
    x.dispose();
  }
}

function lossOptions(file: FaceFile): MultiBoxLossOptions {
  const { multiBox: settings, targets } = file.settings;
  const { threshold, negativesPerPositive, weight } = settings;
  return {
    imageSize: targets.size,
    detection: { ...faceAnchors, variances: targets.variances },
    threshold,
    negativesPerPositive,
    weights: { loc: weight, conf: 1, landm: 1 },
  };
}

/** `loss_l`, `loss_c` and `loss_landm` of given outputs. */
async function lossParts(
  file: FaceFile,
  { loc, conf, landm }: Record<string, NativeTensor>,
  images: readonly (readonly Face[])[],
  options: MultiBoxLossOptions,
): Promise<number[]> {
  const { Graph, InferenceSession } = loadAddon();
  const graph = new Graph(multiBoxParts({ ...lossOptions(file), ...options }), { trusted: true });
  const session = new InferenceSession(graph, {});
  try {
    const parts = await session.forward({ loc: loc!, conf: conf!, landm: landm!, ...faceFields(images) });
    return ['loss_l', 'loss_c', 'loss_landm'].map((name) => parts[name]!.item());
  } finally {
    session.dispose();
    graph.dispose();
  }
}

/** One forward and backward in train mode. */
async function compareLosses(
  file: FaceFile,
  label: string,
  fields: Fields,
  matches: readonly Fields[],
  comparison: Comparison,
): Promise<void> {
  const name = label.split(' ')[0]!;
  const { settings } = file;
  const batch = fields.integer('batch', 1);
  const faces = await Promise.all(matches.slice(0, batch).map((match) => facesOfImage(file, match)));
  const model = makeModel(file, name, settings.targets.size, batch);
  const parameters = model.graph.parameters.filter(({ kind }) => kind === 'parameter').map((p) => p.name);
  const x = modelInput(settings, name, [batch, 3, ...settings.targets.size]);
  let session = null;
  try {
    await giveWeights(file, name, model);
    session = new (loadAddon().TrainSession)(model.native, {
      device: 'cpu',
      loss: multiBox(lossOptions(file)),
      optimizer: { name: 'sgd' },
      groups: [{ parameters, weight_decay: 0 }],
      schedule: { name: 'constant', lr: 0 },
      modes: { dropout: 'eval', stochastic_depth: 'eval', batch_norm: 'train' },
    });
    const { loss, outputs } = await session.step({ image: x, ...faceFields(faces) }, { update: false });
    const parts = await lossParts(file, outputs, faces, {});
    const gradients = new Map(
      Object.entries(session.gradients()).map(([key, tensor]) => [key, normOf(tensor)] as const),
    );
    const single = fields.child('f32');
    const step = { loss, parts, gradients };
    compareStep(settings.tolerances, single, step, 'f32.', comparison);
    compareStep(settings.tolerances, fields.child('f64'), step, 'f64.', comparison);
    compareRunningMeans(settings.tolerances, single, model.native.state(), comparison);
    if (fields.has('own_criterion')) {
      const { wing, ...own } = settings.ownMultiBox;
      const values = await lossParts(file, outputs, faces, { ...own, landmarks: 'wing', wing });
      compareParts(settings.tolerances, fields.child('own_criterion'), values, 'own_criterion.', comparison);
    }
  } finally {
    session?.dispose();
    model.dispose();
  }
}

type Tolerances = FaceFile['settings']['tolerances'];

function compareParts(
  tolerances: Tolerances,
  fields: Fields,
  parts: readonly number[],
  what: string,
  comparison: Comparison,
): void {
  for (const [i, key] of ['loss_l', 'loss_c', 'loss_landm'].entries()) {
    const expected = fields.number(key);
    comparison.close(`${what}${key}`, parts[i]!, expected, tolerances.losses * Math.abs(expected));
  }
}

/** Of the original in float32 and in float64, which holds fewer fields. */
function compareStep(
  tolerances: Tolerances,
  fields: Fields,
  step: { loss: number; parts: readonly number[]; gradients: ReadonlyMap<string, number> },
  what: string,
  comparison: Comparison,
): void {
  compareParts(tolerances, fields, step.parts, what, comparison);
  const total = fields.number('total');
  comparison.close(`${what}total`, step.loss, total, tolerances.losses * total);
  const norm = fields.number('grad_norm');
  const all = Math.hypot(...step.gradients.values());
  comparison.close(`${what}grad_norm`, all, norm, tolerances.gradientNorms * norm);
  if (fields.has('grad_norms_max_relative_difference')) fields.number('grad_norms_max_relative_difference');
  if (!fields.has('grad_norms')) return;
  const norms = fields.map('grad_norms');
  for (const name of norms.keys()) {
    const expected = norms.number(name);
    const actual = step.gradients.get(name) ?? NaN;
    comparison.close(`${what}grad_norms ${name}`, actual, expected, tolerances.gradientNorms * expected);
  }
}

function normOf(tensor: NativeTensor): number {
  const values = tensor.toTypedArray() as Float32Array;
  tensor.dispose();
  return Math.sqrt(values.reduce((total, x) => total + x * x, 0));
}

/** The first values of some running means after the step; the file states no rule for them but that of losses. */
function compareRunningMeans(
  tolerances: Tolerances,
  fields: Fields,
  state: { name: string; tensor: NativeTensor }[],
  comparison: Comparison,
): void {
  const means = fields.map('running_mean_after');
  for (const name of means.keys()) {
    const expected = means.numbers(name);
    const values = state.find((entry) => entry.name === name)?.tensor.toTypedArray() as
      Float32Array | undefined;
    const tolerance = tolerances.losses * Math.max(...expected.map(Math.abs));
    comparison.allClose(
      `running_mean_after ${name}`,
      values?.subarray(0, expected.length) ?? [],
      expected,
      tolerance,
    );
  }
  for (const { tensor } of state) tensor.dispose();
}
