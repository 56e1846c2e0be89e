/** Kind `training`: whole trajectories of optimizers on a small network, and schedules. */
import { crossEntropy } from '#fornax/losses/index.js';
import type {
  NativeGraph,
  NativeTensor,
  NativeTrain,
  StepsEvent,
  TrainOptions,
} from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type Fields, MalformedGolden } from './fields.js';
import type { GoldenCase } from './kind.js';
import { evalOutput } from './model_output.js';
import { filledNet, GoldenSamples } from './training_net.js';
import { compareGradScaler, compareRecompute } from './training_parts.js';
import { runSettings, scheduleOptions } from './training_settings.js';
import { Tolerances } from './tolerance.js';

interface File {
  samples: GoldenSamples;
  net: string;
  tolerances: Tolerances;
}

export function training(golden: Fields): GoldenCase[] {
  for (const key of ['source', 'conventions', 'batches', 'ema_warmup']) golden.note(key);
  const file: File = {
    samples: new GoldenSamples(golden.child('data')),
    net: golden.text('net'),
    tolerances: new Tolerances(golden.text('tolerance'), `${golden.where}.tolerance`),
  };
  const cases: GoldenCase[] = [];
  const runs = golden.has('cases') ? golden.map('cases') : null;
  for (const name of runs?.keys() ?? []) {
    const fields = runs!.child(name);
    cases.push({ name, fields, run: (comparison) => compareRun(file, fields, comparison) });
  }
  if (golden.has('schedules')) cases.push(...scheduleCases(file, golden.child('schedules')));
  if (golden.has('grad_scaler')) {
    const fields = golden.child('grad_scaler');
    cases.push({ name: 'grad_scaler', fields, run: (comparison) => compareGradScaler(fields, comparison) });
  }
  if (golden.has('bn_recompute')) {
    const fields = golden.child('bn_recompute');
    const tolerance = file.tolerances.of('bn_recompute', 0);
    const setting = { ...file, tolerance };
    cases.push({
      name: 'bn_recompute',
      fields,
      run: (comparison) => compareRecompute(fields, setting, comparison),
    });
  }
  return cases;
}

/** Samples of a micro-batch, where the file does not say so. */
function inferredBatch(
  fields: Fields,
  samples: number,
  { epochs, steps, accumulate }: { epochs: number; steps: number; accumulate: number },
): number {
  const perEpoch = steps / epochs;
  if (!Number.isInteger(perEpoch)) {
    throw new MalformedGolden(fields.where, `${steps} losses are not those of ${epochs} equal epochs`);
  }
  return Math.ceil(samples / (perEpoch * accumulate));
}

async function compareRun(file: File, fields: Fields, comparison: Comparison): Promise<void> {
  const { samples, net, tolerances } = file;
  const model = filledNet(net, samples.shape);
  try {
    const { options, batchSize, accumulate } = runSettings(fields.child('settings'), model);
    const losses = fields.numbers('losses');
    const epochs = fields.integer('epochs', 1);
    const size = { epochs, steps: losses.length, accumulate };
    const rows = batchSize ?? inferredBatch(fields, samples.count, size);
    const perEpoch = Math.ceil(Math.ceil(samples.count / rows) / accumulate);
    if (perEpoch * epochs !== losses.length) {
      throw new MalformedGolden(
        fields.where,
        `${epochs} epochs of ${perEpoch} steps do not give ${losses.length} losses`,
      );
    }
    const dev = fields.child('dev');
    const averages = await compareTrajectory(
      { fields, losses, rows, accumulate, options, dev },
      file,
      model,
      comparison,
    );
    const relative = tolerances.of('state', dev.number('state'));
    compareState('state', fields.map('state'), entriesOf(model), relative, comparison);
    if (averages) {
      const deviation = dev.number('ema_state', dev.number('state'));
      const ofAverages = tolerances.of('state', deviation);
      compareState('ema_state', fields.map('ema_state'), averages, ofAverages, comparison);
    }
    const expected = fields.numbers('eval_logits0');
    const { image, label } = samples.batch(0, 2);
    const logits = await evalOutput(model, image);
    image.dispose();
    label.dispose();
    const largest = Math.max(...expected.map(Math.abs));
    const ofLogits = tolerances.of('eval_logits0', dev.number('eval_logits0'));
    comparison.allClose('eval_logits0', logits, expected, ofLogits * largest);
  } finally {
    model.dispose();
  }
}

interface Trajectory {
  fields: Fields;
  losses: number[];
  /** Of a micro-batch. */
  rows: number;
  /** Micro-batches of a step. */
  accumulate: number;
  options: TrainOptions;
  dev: Fields;
}

type Entries = { name: string; tensor: NativeTensor }[];

function entriesOf(model: NativeGraph): Entries {
  return model.state();
}

/** The samples [first, end) of the micro-batches of each step of an epoch; the last step may have fewer. */
function stepsOfEpoch({ count }: GoldenSamples, rows: number, accumulate: number): [number, number][][] {
  const batches = Array.from({ length: Math.ceil(count / rows) }, (_, i): [number, number] => [
    i * rows,
    Math.min((i + 1) * rows, count),
  ]);
  const steps: [number, number][][] = [];
  for (let i = 0; i < batches.length; i += accumulate) steps.push(batches.slice(i, i + accumulate));
  return steps;
}

/** A step as a training does it, from its micro-batches. */
async function oneStep(session: NativeTrain, batches: Record<string, NativeTensor>[]): Promise<number> {
  const losses: number[] = [];
  const onEvent = (event: StepsEvent): void => void losses.push(...event.losses);
  await session.run(batches, { steps: 1, onEvent });
  return losses.length === 1 ? losses[0]! : NaN;
}

/** The norm of a step's gradients before clipping, by a session that does not clip on a copy of the model. */
async function gradientNorm(
  copy: NativeGraph,
  model: NativeGraph,
  options: TrainOptions,
  batches: Record<string, NativeTensor>[],
): Promise<number> {
  copy.loadState(Object.fromEntries(entriesOf(model).map(({ name, tensor }) => [name, tensor])));
  const { clip_norm: _norm, clip_value: _value, ...unclipped } = options;
  const session = new (loadAddon().TrainSession)(copy, unclipped);
  try {
    await oneStep(session, batches);
    const squares = Object.values(session.gradients()).map((gradient) => {
      const values = gradient.toTypedArray() as Float32Array;
      gradient.dispose();
      return values.reduce((sum, value) => sum + value * value, 0);
    });
    return Math.sqrt(squares.reduce((sum, one) => sum + one, 0));
  } finally {
    session.dispose();
    copy.dispose();
  }
}

/**
 * Loss and rate of every step, and the norm of the gradient before clipping where the file has it.
 *
 * @returns the averaged weights, where there are such
 */
async function compareTrajectory(
  { fields, losses, rows, accumulate, options, dev }: Trajectory,
  { net, samples, tolerances }: File,
  model: NativeGraph,
  comparison: Comparison,
): Promise<Entries | null> {
  const lrs = fields.numbers('lrs');
  const norms = fields.has('grad_norms') ? fields.numbers('grad_norms') : null;
  comparison.equal('lrs, length', lrs.length, losses.length);
  if (norms) comparison.equal('grad_norms, length', norms.length, losses.length);
  const relative = tolerances.of('losses', dev.number('losses'));
  const rateTolerance = tolerances.of('schedules', 0);
  const steps = stepsOfEpoch(samples, rows, accumulate);
  const session = new (loadAddon().TrainSession)(model, options);
  try {
    for (const [step, expected] of losses.entries()) {
      const batches = steps[step % steps.length]!.map(([first, end]) => samples.batch(first, end));
      const norm = norms?.[step];
      // The file states no rule for these norms; they get that of the losses, the tightest relative one.
      if (norm !== undefined) {
        const found = await gradientNorm(filledNet(net, samples.shape), model, options, batches);
        comparison.close(`grad_norms[${step}]`, found, norm, relative * norm);
      }
      comparison.close(`lrs[${step}]`, session.learningRate(step), lrs[step] ?? NaN, rateTolerance);
      const loss = await oneStep(session, batches);
      comparison.close(`losses[${step}]`, loss, expected, relative * Math.abs(expected));
      if (options.schedule.name === 'reduce_on_plateau') session.observe(loss);
      for (const tensor of batches.flatMap((batch) => Object.values(batch))) tensor.dispose();
    }
    if (!options.ema) return null;
    // In the order of the state dict.
    const averages = session.ema();
    return model.state().map(({ name }) => ({ name, tensor: averages[name]! }));
  } finally {
    session.dispose();
  }
}

/** Sum and L2 norm of every floating entry of the state dict. */
function compareState(
  what: string,
  expected: Fields,
  all: Entries,
  relative: number,
  comparison: Comparison,
): void {
  const entries = all.filter(({ tensor }) => /float/.test(tensor.dtype));
  const names = entries.map(({ name }) => name);
  comparison.equalNames(what, names, expected.keys());
  for (const name of expected.keys()) {
    const figures = expected.numbers(name);
    if (figures.length !== 2) throw expected.wrong(name, '[sum, norm]');
    const tensor = entries.find((entry) => entry.name === name)?.tensor;
    if (!tensor) continue; // already a miss: the names differ
    const values = tensor.toTypedArray() as Float32Array;
    const sum = values.reduce((total, x) => total + x, 0);
    const norm = Math.sqrt(values.reduce((total, x) => total + x * x, 0));
    comparison.close(`${what} ${name}, sum`, sum, figures[0]!, relative * figures[1]!);
    comparison.close(`${what} ${name}, norm`, norm, figures[1]!, relative * figures[1]!);
  }
}

/** `schedules/<name>`, a second one of the name with `_2`. */
function scheduleCases(file: File, block: Fields): GoldenCase[] {
  const baseRate = block.number('base_lr');
  const steps = block.integer('steps', 1);
  const metric = block.has('plateau_metric') ? plateauMetric(block) : null;
  const seen = new Map<string, number>();
  return block.list('cases').map((value, i) => {
    const fields = block.adopt(value, `cases[${i}]`);
    const settings = fields.child('settings');
    const name = settings.text('name');
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return {
      name: `schedules/${name}${count > 1 ? `_${count}` : ''}`,
      fields,
      run: (comparison) => compareSchedule(file, fields, settings, { baseRate, steps, metric }, comparison),
    };
  });
}

/** `1/(1+min(i,20))`: what the schedule that looks at a metric sees after step i. */
function plateauMetric(block: Fields): (i: number) => number {
  const last = /^1\/\(1\+min\(i, ?(\d+)\)\)$/.exec(block.text('plateau_metric'))?.[1];
  if (last === undefined) throw block.wrong('plateau_metric', "a rule like '1/(1+min(i,20))'");
  return (i) => 1 / (1 + Math.min(i, Number(last)));
}

async function compareSchedule(
  { net, samples, tolerances }: File,
  fields: Fields,
  settings: Fields,
  { baseRate, steps, metric }: { baseRate: number; steps: number; metric: ((i: number) => number) | null },
  comparison: Comparison,
): Promise<void> {
  const schedule = scheduleOptions(settings, baseRate);
  const expected = fields.numbers('lrs');
  comparison.equal('lrs, length', expected.length, steps);
  const model = filledNet(net, samples.shape);
  const parameters = model.state().flatMap(({ name, kind }) => (kind === 'parameter' ? [name] : []));
  const session = new (loadAddon().TrainSession)(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd', momentum: 0.9 },
    groups: [{ parameters, weight_decay: 0 }],
    schedule,
  });
  const rates = expected.map((_, step) => {
    const rate = session.learningRate(step);
    if (schedule.name === 'reduce_on_plateau') session.observe(metric?.(step) ?? NaN);
    return rate;
  });
  session.dispose();
  model.dispose();
  comparison.allClose('lrs', rates, expected, tolerances.of('schedules', 0));
  return Promise.resolve();
}
