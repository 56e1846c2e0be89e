/** The network and the data of test/golden/training.json, and native sessions on them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { trace } from '#fornax/graph/trace.js';
import type { Graph } from '#fornax/graph/format.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { TinyCnn } from '#fornax/models/tiny_cnn.js';
import { loadAddon } from '#fornax/native.js';
import type {
  NativeGraph,
  NativeTensor,
  NativeTrain,
  OptimizerOptions,
  ParameterGroup,
  ScheduleOptions,
  TrainOptions,
} from '#fornax/native/contract.js';
import { fillInput, fillState } from '../conformance/fill.js';

export interface CaseSettings {
  optimizer: { name: string; lr: number; weight_decay?: number; [option: string]: unknown };
  schedule?: { name: string; max_lr: number; total_steps: number };
  label_smoothing?: number;
  no_decay?: boolean;
  clip_norm?: number;
  clip_value?: number;
  batch_size?: number;
  accumulate?: number;
}

export interface TrainingCase {
  settings: CaseSettings;
  epochs: number;
  losses: number[];
  lrs: number[];
  grad_norms?: number[];
  state: Record<string, [sum: number, norm: number]>;
  eval_logits0: number[];
  dev: { losses: number; state: number; eval_logits0: number };
}

export interface TrainingGolden {
  cases: Record<string, TrainingCase>;
  schedules: {
    base_lr: number;
    cases: { settings: Record<string, unknown> & { name: string }; lrs: number[] }[];
  };
}

export const golden = JSON.parse(
  readFileSync(new URL('../../../../test/golden/training.json', import.meta.url), 'utf8'),
) as TrainingGolden;

const samples = 64;
const sampleSize = 3 * 16 * 16;
const images = fillInput(samples * sampleSize, 7001);

export type Batch = Record<string, NativeTensor>;

/** Samples [first, first + size) as a batch. */
export function goldenBatch(first: number, size: number): Batch {
  const { Tensor } = loadAddon();
  const label = BigInt64Array.from({ length: size }, (_, i) => BigInt(((first + i) * 7) % 10));
  const pixels = images.slice(first * sampleSize, (first + size) * sampleSize);
  return {
    image: Tensor.fromTypedArray(pixels, [size, 3, 16, 16]),
    label: Tensor.fromTypedArray(label, [size]),
  };
}

/** The golden network with filled weights. */
export function goldenModel(options: { dropout?: number } = {}): NativeGraph {
  const addon = loadAddon();
  const graph = trace(new TinyCnn({ numClasses: 10, ...options }), { inputs: [[16, 3, 16, 16]] });
  const model = new addon.Graph(graph, { trusted: true });
  const entries: Record<string, NativeTensor> = {};
  for (const [t, { name, tensor }] of model.state().entries()) {
    if (!tensor.dtype.startsWith('float')) continue;
    entries[name] = addon.Tensor.fromTypedArray(fillState(name, tensor.shape, t), tensor.shape);
  }
  model.loadState(entries, { strict: false });
  return model;
}

/** All parameters in one group, or those of one dimension in another without weight decay. */
export function parameterGroups(model: NativeGraph, weightDecay = 0, noDecay = false): ParameterGroup[] {
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const flat = (dimensions: number): boolean => noDecay && dimensions === 1;
  const named = (wanted: boolean): string[] =>
    parameters.filter(({ tensor }) => flat(tensor.shape.length) === wanted).map(({ name }) => name);
  const groups = [
    { parameters: named(false), weight_decay: weightDecay },
    { parameters: named(true), weight_decay: 0 },
  ];
  return groups.filter((group) => group.parameters.length > 0);
}

/** Options for plain training; `overrides` win. */
export function trainOptions(model: NativeGraph, overrides: Partial<TrainOptions> = {}): TrainOptions {
  return {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd', momentum: 0.9 },
    groups: parameterGroups(model),
    schedule: { name: 'constant', lr: 0.05 },
    ...overrides,
  };
}

export function openSession(model: NativeGraph, overrides: Partial<TrainOptions> = {}): NativeTrain {
  return new (loadAddon().TrainSession)(model, trainOptions(model, overrides));
}

/** The options that a golden case describes. */
export function caseOptions(model: NativeGraph, settings: CaseSettings): Partial<TrainOptions> {
  // Options that a case does not name are torch's defaults.
  const {
    lr,
    weight_decay: decay = settings.optimizer.name === 'adamw' ? 0.01 : 0,
    ...optimizer
  } = settings.optimizer;
  const schedule: ScheduleOptions = settings.schedule
    ? { name: 'one_cycle', max_lr: settings.schedule.max_lr, total_steps: settings.schedule.total_steps }
    : { name: 'constant', lr };
  const loss: Graph = crossEntropy({ labelSmoothing: settings.label_smoothing ?? 0 });
  return {
    loss,
    schedule,
    optimizer: optimizer as OptimizerOptions,
    groups: parameterGroups(model, decay, settings.no_decay),
    grad_accum: settings.accumulate ?? 1,
    ...(settings.clip_norm === undefined ? {} : { clip_norm: settings.clip_norm }),
    ...(settings.clip_value === undefined ? {} : { clip_value: settings.clip_value }),
  };
}

/** Every floating entry of the state dict, copied. */
export function stateValues(model: NativeGraph): Record<string, Float32Array> {
  const entries = model.state().filter(({ tensor }) => tensor.dtype === 'float32');
  return Object.fromEntries(
    entries.map(({ name, tensor }) => [name, (tensor.toTypedArray() as Float32Array).slice()]),
  );
}

export function assertClose(actual: number, expected: number, tolerance: number, what: string): void {
  const difference = Math.abs(actual - expected);
  assert.ok(difference <= tolerance, `${what}: ${actual}, expected ${expected} ± ${tolerance}`);
}
