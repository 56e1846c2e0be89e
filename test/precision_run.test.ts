/** Precision by module as part of a run: configured or measured, stored, and the same after a resume. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import type { Config, FixedTrain } from '#fornax/config/schema.js';
import { Processes } from '#fornax/dist/processes.js';
import { ConfigError, TrainError } from '#fornax/errors.js';
import { evaluateModel } from '#fornax/eval/evaluate.js';
import { readSafetensors } from '#fornax/io/safetensors.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import type { NativeLoader, PrecisionNode, PrecisionVerdict, TrainOptions } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { TrainData } from '#fornax/train/data.js';
import { writeDecisions } from '#fornax/train/decisions.js';
import type { JobEvent, PrecisionEvent } from '#fornax/train/events.js';
import { configuredPrecision, describePrecision, precisionFeature } from '#fornax/train/precision.js';
import { chooseDevices } from '#fornax/train/run_devices.js';
import type { Opening } from '#fornax/train/run_features.js';
import { RunHooks } from '#fornax/train/run_hooks.js';
import { RunState } from '#fornax/train/run_state.js';
import { trainOptions } from '#fornax/train/train_options.js';

import { weightsOf } from './support/run_results.js';
import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns({ checkpoint: { everySteps: 3, keep: 20 } });
const { run } = tiny;

type TrainInput = NonNullable<Parameters<typeof tiny.config>[1]>['train'];
type Fixed = Config & { train: FixedTrain };
const config = (name: string, train: TrainInput = {}): Fixed =>
  tiny.config(name, {
    train: {
      ...{ ema: {}, gradAccum: 2, bnRecompute: 2 },
      ...(train?.precision && { amp: 'auto' }),
      ...train,
    },
  }) as Fixed;

/** Steps of these runs. */
const LAST = 12;
const features = loadAddon().systemInfo().cpu_features;
const noBf16 = features.avx512_bf16 || features.amx_bf16 ? false : 'this CPU has no bf16 arithmetic';
const plan = { bf16: ['conv2', 'fc'] };
const events = (all: readonly JobEvent[]): PrecisionEvent[] =>
  all.filter((event): event is PrecisionEvent => event.type === 'precision');

/** A verdict as a measurement leaves it. */
const verdict = {
  ...{
    bf16: ['conv2', 'fc'],
    nodes: 3,
    reason: 'measured',
    batch: 8,
    threads: loadAddon().systemInfo().threads,
  },
  ...{ nodes_fp32_ms: 3, nodes_plan_ms: 2, step_fp32_ms: 6, step_plan_ms: 5, seconds: 0.5 },
};

interface SavedState {
  parts: Record<string, unknown>;
  graph_hash: string;
}

async function stateOf(name: string, step: number): Promise<SavedState> {
  const text = await fs.readFile(path.join(tiny.checkpoint(name, step), 'state.json'), 'utf8');
  return (JSON.parse(text) as { state: SavedState }).state;
}

/** Everything that a checkpoint holds of what was computed. */
async function results(name: string, step: number): Promise<unknown> {
  const folder = tiny.checkpoint(name, step);
  return [
    await weightsOf(path.join(folder, 'model.safetensors')),
    await weightsOf(path.join(folder, 'optimizer.safetensors')),
  ];
}

test('a configured plan trains, and a resumed run goes on bit for bit', async () => {
  const straight = await run(config('straight', { precision: plan }));
  const [told] = events(straight.events);
  assert.deepEqual([told?.bf16, told?.nodes, told?.source], [plan.bf16, 3, 'configured']);
  assert.equal(
    told?.message,
    'Precision: 1 of 2 convolutions and 1 of 1 matrix products in bf16, the others in float32 (configured)',
  );
  const computed = await results('straight', LAST);
  const full = await run(config('full'));
  assert.deepEqual(events(full.events), []);
  assert.notDeepEqual(await results('full', LAST), computed);

  // In the middle of an epoch.
  const { outcome } = await run(config('straight', { precision: plan }), {
    resumeFrom: tiny.checkpoint('straight', 3),
  });
  assert.equal(outcome.steps, LAST);
  assert.deepEqual(await results('straight', LAST), computed);
  await assert.rejects(
    run(config('straight'), { resumeFrom: tiny.checkpoint('straight', 3) }),
    (error) => error instanceof TrainError && /train\.precision\.bf16.*conv2/.test(error.message),
  );
});

test('the model of such a run is float32 throughout, and its average and statistics are', async () => {
  const { outcome } = await run(config('exported', { precision: plan }));
  const files = [outcome.modelPath!, path.join(tiny.checkpoint('exported', LAST), 'optimizer.safetensors')];
  for (const file of files) {
    const { tensors } = await readSafetensors(file);
    assert.ok([...tensors.keys()].some((name) => name.endsWith('bn1.running_var')));
    for (const [name, tensor] of tensors) {
      assert.ok(!['bfloat16', 'float16'].includes(tensor.dtype), `${name} is ${tensor.dtype}`);
      tensor.dispose();
    }
  }
  const figures = [outcome.metrics!.loss!, outcome.metrics!.top1!];
  const evaluated = await evaluateModel(outcome.modelPath!, tiny.images, {
    cache: path.join(tiny.root, 'cache2'),
    device: 'cpu',
  });
  assert.ok(Math.abs(evaluated.loss! - figures[0]!) < 1e-6);
  assert.equal(evaluated.top1, figures[1]);
});

test('what was measured counts before the first checkpoint, and is in every one after', async () => {
  await run(config('forced', { precision: plan }));
  const forced = await results('forced', LAST);
  const { graph_hash: hash } = await stateOf('forced', LAST);
  // What a run leaves that died before its first checkpoint.
  const measured = config('measured', { amp: 'auto' });
  const decisions = path.join(tiny.folder('measured'), 'decisions.json');
  await fs.mkdir(tiny.folder('measured'), { recursive: true });
  await writeDecisions(
    decisions,
    { precision: verdict },
    { config: measured, model: { graphHash: () => hash } as Model },
  );

  const begun = await run(measured, { resume: 'auto' });
  const [told] = events(begun.events);
  assert.deepEqual([told?.bf16, told?.source], [plan.bf16, 'kept']);
  assert.match(told!.message, /as when the run began: 1\.50x on these, 1\.20x on a whole step/);
  assert.deepEqual(await results('measured', LAST), forced);
  for (const step of [3, LAST])
    assert.deepEqual((await stateOf('measured', step)).parts['precision'], verdict);
  const kept = JSON.parse(await fs.readFile(decisions, 'utf8')) as { parts: unknown };
  assert.deepEqual(kept.parts, { precision: verdict });

  // From here on only the checkpoint tells.
  await fs.rm(decisions);
  const resumed = await run(measured, { resumeFrom: tiny.checkpoint('measured', 3) });
  assert.equal(events(resumed.events)[0]?.source, 'kept');
  assert.deepEqual(await results('measured', LAST), forced);
  const { threads } = loadAddon().systemInfo();
  const others = config('measured', { amp: 'auto', threads: threads + 1 });
  const warned = await run(others, { resumeFrom: tiny.checkpoint('measured', 9) });
  const warnings = warned.events.flatMap((event) => (event.type === 'warning' ? event.message : []));
  assert.ok(
    warnings.some((message) => message.includes(`was measured with ${threads} threads; it stays`)),
    warnings.join('\n'),
  );
});

test('a checkpoint without a verdict goes on in float32', async () => {
  // Too little to gain: nothing is measured, and a checkpoint looks as one from before there were measurements.
  await run(config('older', { amp: 'auto' }));
  assert.equal((await stateOf('older', LAST)).parts['precision'], undefined);
  await run(config('off'));
  assert.deepEqual(await results('older', LAST), await results('off', LAST));
  const { session, state } = await prepared({ steps: 1e9, resumed: true });
  assert.deepEqual([session.precision, state.saveDecided()], [undefined, {}]);
});

/** A run of many steps, of which only the beginning is computed: it gets its precision. */
async function prepared(given: {
  steps: number;
  resumed: boolean;
  extended?: boolean;
  threads?: number;
}): Promise<{ session: TrainOptions; state: RunState; told: JobEvent[] }> {
  const { threads = 'auto', extended = false } = given;
  const settings = config('prepared', { amp: 'auto', batchSize: 32, ema: null, gradAccum: 1, threads });
  using model = Model.create('tiny_cnn', { numClasses: 3, inputs: [[2, 3, 48, 48]] });
  const devices = chooseDevices(settings);
  const loss = crossEntropy();
  const session = trainOptions(model.graph, settings.train, {
    ...{ device: devices.train.device, amp: devices.amp, loss, stepsPerEpoch: given.steps, normalize: null },
  });
  const state = new RunState();
  const told: JobEvent[] = [];
  const data = {
    trainSamples: 1e6,
    preprocessing: { channels: 3, pack_size: null, resize: 48, size: [48, 48], normalize: null },
  } as unknown as TrainData;
  await precisionFeature.prepare!({
    options: { model, data, config: settings, loss, store: null, report: (event) => told.push(event) },
    ...{ train: settings.train, devices, processes: Processes.alone, loader: {} as NativeLoader },
    ...{
      stepsPerEpoch: given.steps,
      state,
      hooks: new RunHooks(),
      resumed: given.resumed,
      extended,
      session,
    },
  } as Opening);
  return { session, state, told };
}

test(
  'a long run is measured, and what came of it is what its folder will hold',
  { skip: noBf16 },
  async () => {
    const { session, state, told } = await prepared({ steps: 1e9, resumed: false });
    const decided = state.saveDecided()['precision'] as PrecisionVerdict & { threads: number };
    assert.ok(['measured', 'no_gain'].includes(decided.reason));
    assert.deepEqual(session.precision, { bf16: decided.bf16 });
    assert.equal(decided.threads, loadAddon().systemInfo().threads);
    assert.deepEqual(JSON.parse(JSON.stringify(decided)), decided);
    assert.match((told[0] as PrecisionEvent).message, /^Precision: .*measured in \d/);
  },
);

test('a short run is not, and says so; one that becomes longer is', { skip: noBf16 }, async () => {
  const { session, state, told } = await prepared({ steps: 2, resumed: false });
  assert.deepEqual([session.precision?.bf16 ?? [], state.saveDecided()], [[], {}]);
  assert.deepEqual(told, [
    {
      type: 'info',
      message: 'Precision: float32 throughout (not measured: this training is too short to gain from bf16)',
    },
  ]);
  const longer = await prepared({ steps: 1e9, resumed: true, extended: true });
  const decided = longer.state.saveDecided()['precision'] as PrecisionVerdict;
  assert.ok(['measured', 'no_gain'].includes(decided.reason));
  assert.ok(decided.processor_share > 0 && decided.processor_share <= 1);
});

test('a run that was extended and died goes on as it was extended', async () => {
  await run(config('extended', { amp: 'auto', epochs: 1 }));
  const longer = config('extended', { amp: 'auto' });
  const { graph_hash: hash } = await stateOf('extended', LAST / 3);
  const decisions = path.join(tiny.folder('extended'), 'decisions.json');
  const model = { graphHash: () => hash } as Model;
  await writeDecisions(decisions, { precision: verdict }, { config: longer, model });
  const { events: all } = await run(longer, { resume: true });
  assert.deepEqual([events(all)[0]?.bf16, events(all)[0]?.source], [plan.bf16, 'kept']);
  assert.deepEqual((await stateOf('extended', LAST)).parts['precision'], verdict);
  // Of the same length as its checkpoint it is what the checkpoint says.
  await writeDecisions(decisions, { precision: verdict }, { config: longer, model });
  await run(config('again', { amp: 'auto' }));
  await writeDecisions(
    path.join(tiny.folder('again'), 'decisions.json'),
    { precision: verdict },
    { config: longer, model },
  );
  const again = await run(config('again', { amp: 'auto' }), { resumeFrom: tiny.checkpoint('again', 3) });
  assert.deepEqual(events(again.events), []);
});

test('the line says how far a verdict is to be trusted', () => {
  const nodes = [{ name: 'conv1', path: 'conv1', op: 'aten::conv2d' }];
  const of = (changes: object): string =>
    describePrecision(
      { ...verdict, bf16: [], reason: 'no_gain', ...changes } as unknown as PrecisionVerdict,
      nodes,
      'measured',
    )!;
  assert.equal(
    of({ processor_share: 0.97 }),
    'Precision: float32 throughout (measured in 0.5 s: bf16 is not faster here)',
  );
  assert.match(
    of({ processor_share: 0.23 }),
    /measured in 0\.5 s, on a busy machine that gave it 23 % of a processor: /,
  );
  assert.match(
    of({ processor_share: 0.23 }),
    /a new run measures again, train\.precision names layers by hand\)$/,
  );
});

test(
  'a run of seconds is measured if that takes a tenth of them, as with small models',
  { skip: noBf16 },
  async () => {
    const { state } = await prepared({ steps: 500, resumed: false, threads: 1 });
    const decided = state.saveDecided()['precision'] as PrecisionVerdict;
    assert.ok(['measured', 'no_gain'].includes(decided.reason));
    const shorter = await prepared({ steps: 50, resumed: false, threads: 1 });
    assert.deepEqual(shorter.state.saveDecided(), {});
  },
);

test('paths are prefixes, and of two the longer counts', () => {
  const nodes = ['stem', 'block.0.conv', 'block.0.conv#1', 'block.1.conv', 'blocks.0', 'head'].map(
    (name): PrecisionNode => ({ name, path: name.split('#')[0]!, op: 'aten::conv2d' }),
  );
  const chosen = (settings: Partial<Parameters<typeof configuredPrecision>[1]>): string[] =>
    configuredPrecision(nodes, { default: 'fp32', fp32: [], bf16: [], ...settings });
  assert.deepEqual(chosen({}), []);
  assert.deepEqual(chosen({ bf16: ['block'] }), ['block.0.conv', 'block.0.conv#1', 'block.1.conv']);
  assert.deepEqual(chosen({ bf16: ['block'], fp32: ['block.0'] }), ['block.1.conv']);
  assert.deepEqual(chosen({ fp32: ['block'], bf16: ['block.0.conv#1'] }), ['block.0.conv#1']);
  assert.deepEqual(chosen({ default: 'bf16', fp32: ['block', 'blocks', 'stem'] }), ['head']);
  assert.throws(
    () => chosen({ bf16: ['head'], fp32: ['steem'] }),
    (error) =>
      error instanceof ConfigError &&
      /under 'steem'/.test(error.message) &&
      /train\.precision\.fp32\[0\]/.test(error.message) &&
      /did you mean 'stem'/.test(error.message),
  );
});

test('contradictions are found in the config', () => {
  const refused = (changes: TrainInput, device = 'cpu') => {
    assert.throws(() => tiny.config('bad', { device, train: changes }), ConfigError);
  };
  refused({ precision: plan, amp: 'bf16' });
  refused({ precision: { fp32: ['fc'], bf16: ['fc'] }, amp: 'auto' });
  refused({ precision: plan, amp: 'auto' }, 'cuda');
  assert.equal(
    tiny.config('good', { train: { precision: {}, amp: 'auto' } }).train.precision!.default,
    'fp32',
  );
});
