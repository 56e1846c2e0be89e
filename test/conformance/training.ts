/** Kind `training`: whole trajectories of optimizers on a small network, and schedules. */
import { crossEntropy } from '#fornax/losses/index.js';
import type { NativeGraph, NativeTensor, TrainOptions } from '#fornax/native/contract.js';
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

/** Samples of an optimizer step: those of `accumulate` micro-batches. */
function rowsPerStep(fields: Fields, samples: number, epochs: number, steps: number): number {
  const perEpoch = steps / epochs;
  if (!Number.isInteger(perEpoch)) {
    throw new MalformedGolden(fields.where, `${steps} losses are not those of ${epochs} equal epochs`);
  }
  return Math.ceil(samples / perEpoch);
}

async function compareRun(file: File, fields: Fields, comparison: Comparison): Promise<void> {
  const { samples, net, tolerances } = file;
  const model = filledNet(net, samples.shape);
  try {
    const { options, batchSize, accumulate } = runSettings(fields.child('settings'), model);
    const losses = fields.numbers('losses');
    const epochs = fields.integer('epochs', 1);
    const inferred = rowsPerStep(fields, samples.count, epochs, losses.length);
    const rows = batchSize === null ? inferred : batchSize * accumulate;
    const perEpoch = Math.ceil(samples.count / rows);
    if (perEpoch * epochs !== losses.length) {
      throw new MalformedGolden(
        fields.where,
        `${epochs} epochs of ${perEpoch} steps do not give ${losses.length} losses`,
      );
    }
    const dev = fields.child('dev');
    const averages = await compareTrajectory({ fields, losses, rows, options, dev }, file, model, comparison);
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
  rows: number;
  options: TrainOptions;
  dev: Fields;
}

type Entries = { name: string; tensor: NativeTensor }[];

function entriesOf(model: NativeGraph): Entries {
  return model.state();
}

/**
 * Loss and rate of every step, and the norm of the gradient before clipping where the file has it.
 *
 * @returns the averaged weights, where there are such
 */
async function compareTrajectory(
  { fields, losses, rows, options, dev }: Trajectory,
  { samples, tolerances }: File,
  model: NativeGraph,
  comparison: Comparison,
): Promise<Entries | null> {
  const lrs = fields.numbers('lrs');
  const norms = fields.has('grad_norms') ? fields.numbers('grad_norms') : null;
  comparison.equal('lrs, length', lrs.length, losses.length);
  if (norms) comparison.equal('grad_norms, length', norms.length, losses.length);
  const relative = tolerances.of('losses', dev.number('losses'));
  const rateTolerance = tolerances.of('schedules', 0);
  const perEpoch = Math.ceil(samples.count / rows);
  const session = new (loadAddon().TrainSession)(model, options);
  try {
    for (const [step, expected] of losses.entries()) {
      const first = (step % perEpoch) * rows;
      const batch = samples.batch(first, Math.min(first + rows, samples.count));
      const result = await session.step(batch);
      for (const tensor of [...Object.values(batch), ...Object.values(result.outputs)]) tensor.dispose();
      comparison.close(`losses[${step}]`, result.loss, expected, relative * Math.abs(expected));
      comparison.close(`lrs[${step}]`, result.lr, lrs[step] ?? NaN, rateTolerance);
      // The file states no rule for these norms; they get that of the losses, the tightest relative one.
      const norm = norms?.[step];
      if (norm !== undefined) {
        comparison.close(`grad_norms[${step}]`, result.grad_norm ?? NaN, norm, relative * norm);
      }
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
