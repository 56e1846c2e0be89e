/** Kind `classification`: architectures under the deterministic fill, in eval mode and for one training step. */
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import type { NativeGraph } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type Fields, MalformedGolden } from './fields.js';
import { fillModel } from './fill.js';
import { type GoldenCase, Unsupported } from './kind.js';
import { compareGradients, compareState, filledInput, gradientSession } from './model_case.js';
import { evalOutput } from './model_output.js';
import { Tolerances } from './tolerance.js';

interface Setting {
  name: string;
  fields: Fields;
  classes: number;
  tolerances: Tolerances;
  dev: Fields;
}

export function classification(golden: Fields): GoldenCase[] {
  golden.note('source');
  const classes = Number(/(\d+) classes/.exec(golden.text('conventions'))?.[1]);
  if (!Number.isSafeInteger(classes)) {
    throw new MalformedGolden(
      `${golden.where}.conventions`,
      "must state the number of classes: '1000 classes'",
    );
  }
  const tolerances = new Tolerances(golden.text('tolerance'), `${golden.where}.tolerance`);
  const models = golden.map('models');
  return models.keys().map((name) => {
    const fields = models.child(name);
    return {
      name,
      fields,
      run: (comparison) =>
        runModel({ name, fields, classes, tolerances, dev: fields.child('dev') }, comparison),
    };
  });
}

async function runModel(setting: Setting, comparison: Comparison): Promise<void> {
  const { name, fields } = setting;
  if (!architectures.some((architecture) => architecture.name === name)) {
    throw new Unsupported('this architecture is not in the zoo');
  }
  const resolution = fields.integer('resolution', 1);
  const convGain = fields.number('conv_gain', 1);
  const graph = traceModel(setting, [1, 3, resolution, resolution]);
  const model = new (loadAddon().Graph)(graph, { trusted: false });
  try {
    compareState(fields, model, comparison);
    fillModel(model, { convGain });
    await compareEval(setting, model, resolution, comparison);
    await compareTrain(setting, model, comparison);
  } finally {
    model.dispose();
  }
}

function traceModel({ name, classes }: Setting, shape: number[]): Graph {
  return trace(createModule(name, { numClasses: classes }), { inputs: [shape] });
}

/** All logits of the file lie within the tolerance times the standard deviation; so do their mean and deviation. */
async function compareEval(
  { fields, tolerances, dev, classes }: Setting,
  model: NativeGraph,
  resolution: number,
  comparison: Comparison,
): Promise<void> {
  const expected = fields.child('eval');
  const image = filledInput([1, 3, resolution, resolution], expected.integer('input_t'));
  const logits = await evalOutput(model, image);
  image.dispose();
  comparison.equal('eval, number of logits', logits.length, classes);
  const std = expected.number('std');
  const tolerance = tolerances.of('eval', dev.number('eval')) * std;
  const first = expected.numbers('logits16');
  comparison.allClose('eval.logits16', logits.subarray(0, first.length), first, tolerance);
  const mean = logits.reduce((sum, x) => sum + x, 0) / logits.length;
  const squares = logits.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  comparison.close('eval.mean', mean, expected.number('mean'), tolerance);
  comparison.close('eval.std', Math.sqrt(squares / (logits.length - 1)), std, tolerance);
  const argmax = expected.integer('argmax');
  const largest = logits.reduce((best, x, i) => (x > logits[best]! ? i : best), 0);
  // Where another class is ahead by less than the tolerance, rounding decides.
  comparison.close(`eval.argmax (${largest}): its logit`, logits[largest]!, logits[argmax] ?? NaN, tolerance);
}

/** One forward and backward with batch norm in train mode and every kind of dropout off. */
async function compareTrain(setting: Setting, model: NativeGraph, comparison: Comparison): Promise<void> {
  const { fields, tolerances, dev } = setting;
  const { Tensor } = loadAddon();
  const expected = fields.child('train');
  const shape = expected.numbers('shape');
  const targets = expected.numbers('targets');
  model.replaceGraph(traceModel(setting, shape));
  const session = gradientSession(model, crossEntropy());
  try {
    const batch = {
      image: filledInput(shape, expected.integer('input_t')),
      label: Tensor.fromTypedArray(BigInt64Array.from(targets, BigInt), [targets.length]),
    };
    const { loss } = await session.step(batch, { update: false });
    const expectedLoss = expected.number('loss');
    comparison.close(
      'train.loss',
      loss,
      expectedLoss,
      tolerances.of('loss', dev.number('loss')) * Math.abs(expectedLoss),
    );
    compareGradients(expected, { model, session, tolerances, dev }, comparison);
  } finally {
    session.dispose();
  }
  compareRunningMean(setting, expected, model, comparison);
}

/** The first values of the state dict's last running mean; null for a model without batch norm. */
function compareRunningMean(
  { tolerances, dev }: Setting,
  expected: Fields,
  model: NativeGraph,
  comparison: Comparison,
): void {
  const entries = model.state();
  const last = entries.filter(({ name }) => name.endsWith('running_mean')).at(-1);
  const raw = expected.raw('last_running_mean');
  const relative = tolerances.of('running means', dev.number('running_mean'));
  if (raw === null) {
    comparison.equal('train.last_running_mean', last?.name ?? null, null);
    return;
  }
  if (!Array.isArray(raw) || raw.length !== 2) {
    throw expected.wrong('last_running_mean', '[name, values] or null');
  }
  const [name, values] = raw as [unknown, unknown];
  const means = expected.numbersOf(values, 'last_running_mean');
  comparison.equal('train.last_running_mean, name', last?.name ?? null, name);
  const actual = last ? Array.from(last.tensor.toTypedArray() as Float32Array).slice(0, means.length) : [];
  const largest = Math.max(...means.map(Math.abs));
  comparison.allClose('train.last_running_mean', actual, means, relative * largest);
}
