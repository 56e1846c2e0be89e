/** Kind `classification`: architectures under the deterministic fill, in eval mode and for one training step. */
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type Fields, MalformedGolden } from './fields.js';
import { fillInput, fillModel } from './fill.js';
import { type GoldenCase, Unsupported } from './kind.js';
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

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Names, shapes and dtypes in order, and the number of parameters. */
function compareState(fields: Fields, model: NativeGraph, comparison: Comparison): void {
  const state = model.state().map(({ name, kind, tensor }) => {
    const { shape, dtype } = tensor;
    tensor.dispose();
    return { name, kind, shape, dtype };
  });
  const expected = fields.list('state').map((entry) => {
    const valid = Array.isArray(entry) && entry.length === 3 && typeof entry[0] === 'string';
    if (!valid) throw fields.wrong('state', 'a list of [name, shape, dtype]');
    return entry as [string, unknown, unknown];
  });
  const names = expected.map(([name]) => name);
  comparison.equalNames(
    'state',
    state.map(({ name }) => name),
    names,
  );
  for (const [i, [name, shape, dtype]] of expected.entries()) {
    const actual = state[i];
    if (actual?.name === name)
      comparison.equal(`state ${name}`, [actual.shape, actual.dtype], [shape, dtype]);
  }
  const parameters = state.filter(({ kind }) => kind === 'parameter').map(({ shape }) => elements(shape));
  comparison.equal(
    'parameters',
    parameters.reduce((sum, count) => sum + count, 0),
    fields.integer('parameters'),
  );
}

function input(shape: number[], t: number): NativeTensor {
  return loadAddon().Tensor.fromTypedArray(fillInput(elements(shape), t), shape);
}

/** All logits of the file lie within the tolerance times the standard deviation; so do their mean and deviation. */
async function compareEval(
  { fields, tolerances, dev, classes }: Setting,
  model: NativeGraph,
  resolution: number,
  comparison: Comparison,
): Promise<void> {
  const expected = fields.child('eval');
  const image = input([1, 3, resolution, resolution], expected.integer('input_t'));
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
  const { TrainSession, Tensor } = loadAddon();
  const expected = fields.child('train');
  const shape = expected.numbers('shape');
  const targets = expected.numbers('targets');
  model.replaceGraph(traceModel(setting, shape));
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd' },
    groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    modes: { dropout: 'eval', stochastic_depth: 'eval', batch_norm: 'train' },
  });
  try {
    const batch = {
      image: input(shape, expected.integer('input_t')),
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
    const gradients = session.gradients();
    comparison.equalNames(
      'train, gradients',
      Object.keys(gradients),
      parameters.map(({ name }) => name),
    );
    const norms = new Map(Object.entries(gradients).map(([name, tensor]) => [name, normOf(tensor)]));
    const total = expected.number('grad_norm');
    const tolerance = tolerances.of('gradient norms', dev.number('grad_norm')) * total;
    comparison.close('train.grad_norm', Math.hypot(...norms.values()), total, tolerance);
    const each = expected.map('grad_norms');
    const relative = tolerances.of('gradient norms', dev.number('grad_norms'));
    for (const name of each.keys()) {
      const norm = each.number(name);
      comparison.close(`train.grad_norms ${name}`, norms.get(name) ?? NaN, norm, relative * norm);
    }
  } finally {
    session.dispose();
  }
  compareRunningMean(setting, expected, model, comparison);
}

function normOf(tensor: NativeTensor): number {
  const values = tensor.toTypedArray() as Float32Array;
  tensor.dispose();
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
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
