/** Kind `segmentation`: segmenters under the deterministic fill, with their auxiliary heads, in both modes. */
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { CrossEntropyLoss, weightedSum } from '#fornax/losses/index.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type Fields, MalformedGolden } from './fields.js';
import { fillModel, fillUnit } from './fill.js';
import { type GoldenCase, Unsupported } from './kind.js';
import { compareGradients, compareState, elements, filledInput, gradientSession } from './model_case.js';
import { Tolerances } from './tolerance.js';

/** What the file's conventions state. */
interface Conventions {
  classes: number;
  ignoreIndex: number;
  /** Null: none is stated. */
  auxWeight: number | null;
}

interface Setting extends Conventions {
  name: string;
  fields: Fields;
  tolerances: Tolerances;
  dev: Fields;
}

export function segmentation(golden: Fields): GoldenCase[] {
  golden.note('source');
  const conventions = readConventions(golden);
  const tolerances = new Tolerances(golden.text('tolerance'), `${golden.where}.tolerance`);
  const models = golden.map('models');
  return models.keys().map((name) => {
    const fields = models.child(name);
    return {
      name,
      fields,
      run: (comparison) =>
        runModel({ ...conventions, name, fields, tolerances, dev: fields.child('dev') }, comparison),
    };
  });
}

function readConventions(golden: Fields): Conventions {
  const text = golden.text('conventions');
  const number = (pattern: RegExp): number => {
    const found = pattern.exec(text);
    if (!found) throw new MalformedGolden(`${golden.where}.conventions`, `must contain ${pattern.source}`);
    return Number(found[1]);
  };
  const weight = /on out \+ (\d+(?:\.\d+)?) on aux/.exec(text);
  return {
    classes: number(/(\d+) classes/),
    ignoreIndex: number(/cross entropy with ignore_index (\d+) on out/),
    auxWeight: weight ? Number(weight[1]) : null,
  };
}

async function runModel(setting: Setting, comparison: Comparison): Promise<void> {
  const { name, fields, auxWeight } = setting;
  const architecture = architectures.find((one) => one.name === name);
  if (architecture === undefined) throw new Unsupported('this architecture is not in the zoo');
  const runs = fields.list('eval').map((run, i) => fields.adopt(run, `eval[${i}]`));
  const auxiliary = runs[0]!.has('aux');
  if (auxiliary && auxWeight === null) {
    throw new MalformedGolden(fields.where, "has outputs 'aux', but the conventions do not weigh their loss");
  }
  const options = 'auxLoss' in architecture.options ? { auxLoss: auxiliary } : {};
  const traced = (shape: number[]): Graph =>
    trace(createModule(name, { numClasses: setting.classes, ...options }), { inputs: [shape] });
  const convGain = fields.number('conv_gain', 1);
  const graph = traced(runs[0]!.numbers('shape'));
  const model = new (loadAddon().Graph)(graph, { trusted: false });
  try {
    compareState(fields, model, comparison);
    fillModel(model, { convGain });
    for (const run of runs) {
      const shape = run.numbers('shape');
      if (graph.guards.length > 0) model.replaceGraph(traced(shape));
      await compareEval(setting, run, shape, model, comparison);
    }
    const train = fields.child('train');
    const shape = train.numbers('shape');
    if (graph.guards.length > 0) model.replaceGraph(traced(shape));
    await compareTrain(setting, train, auxiliary, model, comparison);
  } finally {
    model.dispose();
  }
}

/** Every output of the file, the auxiliary one asked for by name. */
async function compareEval(
  { tolerances, dev }: Setting,
  run: Fields,
  shape: number[],
  model: NativeGraph,
  comparison: Comparison,
): Promise<void> {
  const names = run.keys().filter((key) => !['input_t', 'shape'].includes(key));
  const image = filledInput(shape, run.integer('input_t'));
  const session = new (loadAddon().InferenceSession)(model, {});
  try {
    const byDefault = await session.forward({ image });
    comparison.equal(
      `${run.where}, default outputs`,
      Object.keys(byDefault),
      names.filter((n) => n !== 'aux'),
    );
    const outputs = await session.forward({ image }, { outputs: names });
    comparison.equal(`${run.where}, outputs`, Object.keys(outputs), names);
    const relative = tolerances.of('outputs', dev.number('eval'));
    const share = tolerances.rule('argmax histogram').floor;
    for (const name of names) {
      if (outputs[name]) compareOutput(run.child(name), outputs[name], { relative, share }, comparison);
    }
  } finally {
    session.dispose();
  }
}

/** Single values, mean, deviation, and how many pixels each class wins. */
function compareOutput(
  expected: Fields,
  output: NativeTensor,
  { relative, share }: { relative: number; share: number },
  comparison: Comparison,
): void {
  const { where } = expected;
  const values = output.toTypedArray() as Float32Array;
  comparison.equal(`${where}.shape`, output.shape, expected.numbers('shape'));
  const std = expected.number('std');
  const tolerance = relative * std;
  const picked = expected.numbers('at').map((index) => values[index] ?? NaN);
  comparison.allClose(`${where}.values`, picked, expected.numbers('values'), tolerance);
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  comparison.close(`${where}.mean`, mean, expected.number('mean'), tolerance);
  comparison.close(`${where}.std`, Math.sqrt(squares / (values.length - 1)), std, tolerance);
  const histogram = argmaxHistogram(values, output.shape);
  const pixels = histogram.reduce((sum, count) => sum + count, 0);
  comparison.allClose(
    `${where}.argmax_histogram`,
    histogram,
    expected.numbers('argmax_histogram'),
    share * pixels,
  );
}

/** Of logits [N, C, H, W]: for each class the number of pixels at which it is largest. */
function argmaxHistogram(values: Float32Array, shape: number[]): number[] {
  const [images, classes, height, width] = shape as [number, number, number, number];
  const area = height * width;
  const histogram = new Array<number>(classes).fill(0);
  for (let pixel = 0; pixel < images * area; pixel++) {
    const first = Math.floor(pixel / area) * classes * area + (pixel % area);
    let best = 0;
    for (let c = 1; c < classes; c++) if (values[first + c * area]! > values[first + best * area]!) best = c;
    histogram[best]!++;
  }
  return histogram;
}

/** Cross entropy on `out`, and a share of it on `aux`. */
function lossOf({ ignoreIndex, auxWeight }: Conventions, auxiliary: boolean): Graph {
  const loss = new CrossEntropyLoss({ ignoreIndex });
  const main = { loss, inputs: ['out', 'mask'] };
  return weightedSum(auxiliary ? [main, { loss, inputs: ['aux', 'mask'], weight: auxWeight! }] : [main]);
}

/** `floor(22 v(j, 999961)), 21 becomes 255 (ignored)` as int64 values. */
function targets(expected: Fields, count: number): BigInt64Array {
  const text = expected.text('target');
  const rule = /^floor\((\d+) v\(j, (\d+)\)\), (\d+) becomes (\d+) \(ignored\)$/.exec(text);
  if (!rule) throw expected.wrong('target', "as in 'floor(22 v(j, 999961)), 21 becomes 255 (ignored)'");
  const [factor, t, from, to] = rule.slice(1).map(Number) as [number, number, number, number];
  return BigInt64Array.from({ length: count }, (_, j) => {
    const value = Math.floor(factor * fillUnit(j, t));
    return BigInt(value === from ? to : value);
  });
}

/** One forward and backward. */
async function compareTrain(
  setting: Setting,
  expected: Fields,
  auxiliary: boolean,
  model: NativeGraph,
  comparison: Comparison,
): Promise<void> {
  const { tolerances, dev } = setting;
  const shape = expected.numbers('shape');
  const maskShape = [shape[0]!, ...shape.slice(2)];
  const session = gradientSession(model, lossOf(setting, auxiliary));
  try {
    const mask = targets(expected, elements(maskShape));
    const batch = {
      image: filledInput(shape, expected.integer('input_t')),
      mask: loadAddon().Tensor.fromTypedArray(mask, maskShape),
    };
    const { loss } = await session.step(batch, { update: false });
    const expectedLoss = expected.number('loss');
    const tolerance = tolerances.of('loss', dev.number('loss')) * Math.abs(expectedLoss);
    comparison.close('train.loss', loss, expectedLoss, tolerance);
    compareGradients(expected, { model, session, tolerances, dev }, comparison);
  } finally {
    session.dispose();
  }
}
