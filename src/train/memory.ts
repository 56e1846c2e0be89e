/** Memory of a run: the budget, what a step takes, and what becomes of one that does not fit. */
import { formatSize } from '../config/size.js';
import { DeviceError } from '../errors.js';
import type { MemoryTrial, OutOfMemoryEvent as NativeOutOfMemory } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { firstBatch } from './batch_size.js';
import type { MemoryEvent, OutOfMemoryEvent } from './events.js';
import { claimBudget, releaseBudget, setClaimedBudget } from './memory_budget.js';
import type { OpenRun } from './open_run.js';
import { chooseDevices } from './run_devices.js';
import type { Opening, RunFeature } from './run_features.js';
import type { RunConfig } from './training_run_types.js';

/**
 * Bytes on the device of training that the copy for a checkpoint takes until it is written. On a CPU that is the size
 * of weights, optimizer and average; what is on a GPU is copied into the host's memory.
 */
function copyBytes({ options, devices, processes }: OpenRun, trial: MemoryTrial): number {
  if (!options.store || devices.train.type !== 'cpu' || !processes.leads) return 0;
  return trial.weights + trial.optimizer + trial.average;
}

/** What takes memory whatever the size of the batch. */
function fixedParts({ weights, gradients, optimizer, average }: MemoryTrial): [string, number][] {
  const parts: [string, number][] = [
    ['weights', weights],
    ['gradients', gradients],
    ['optimizer', optimizer],
    ['average', average],
  ];
  return parts.filter(([, bytes]) => bytes > 0);
}

const sumOf = (parts: readonly [string, number][]): number =>
  parts.reduce((sum, [, bytes]) => sum + bytes, 0);
const listOf = (parts: readonly [string, number][]): string =>
  parts.map(([name, bytes]) => `${name} ${formatSize(bytes)}`).join(', ');

/** The line that tells what a step takes. */
export function describeMemory(trial: MemoryTrial, rows: number, budget: number | null, copy = 0): string {
  const parts = fixedParts(trial);
  if (trial.fits && trial.peak > 0) {
    parts.push(['activations', trial.activations], ['workspace', trial.workspace]);
  }
  const of = budget === null ? '' : ` of ${formatSize(budget)}`;
  const images = rows === 1 ? 'one image' : `${rows} images`;
  const what = `${formatSize(sumOf(parts))}${of} for a step on ${images}`;
  const written = copy === 0 ? '' : `; checkpoint copy ${formatSize(copy)} while one is written`;
  if (trial.fits) return `Memory: ${what} (${listOf(parts)})${written}`;
  return `Memory: a step on ${images} does not fit${budget === null ? '' : ` into ${formatSize(budget)}`} (${listOf(parts)})`;
}

/** Bytes that tensors took at most on the device of training, since the run began; null where nobody counts. */
export function peakMemory(config: Pick<RunConfig, 'device' | 'train'>): number | null {
  const { peak } = loadAddon().deviceMemory(chooseDevices(config).train.device);
  return peak > 0 ? peak : null;
}

function prepare({ options, devices, session }: Opening): void {
  const { budget, onOom } = options.config.memory;
  session.on_oom = onOom;
  // It is enforced from `setClaimedBudget` on, once the model is open and its size known.
  claimBudget(options, devices.train.device, budget);
  loadAddon().resetMemoryPeak(devices.train.device);
}

/**
 * Keeps the budget from the beginning of a run until its last evaluation, which comes when its session is gone.
 *
 * @throws ConfigError if another training is under way on the device with another budget.
 */
export function holdBudget(config: Pick<RunConfig, 'device' | 'train' | 'memory'>): Disposable {
  const owner = {};
  claimBudget(owner, chooseDevices(config).train.device, config.memory.budget);
  return { [Symbol.dispose]: () => releaseBudget(owner) };
}

/** Lifts the budget of this run, unless somebody holds it (`holdBudget`). */
export function endBudget({ options }: Pick<OpenRun, 'options'>): void {
  releaseBudget(options);
}

/** @throws DeviceError naming the parts, if the budget has no room for them even without a batch. */
function requireRoom(trial: MemoryTrial, copy: number, budget: number): void {
  const parts = fixedParts(trial);
  if (copy > 0) parts.push(['checkpoint copy', copy]);
  if (sumOf(parts) <= budget) return;
  throw new DeviceError({
    what: `the memory budget of ${formatSize(budget)} is too small for the model alone: ${listOf(parts)}, together ${formatSize(sumOf(parts))}`,
    where: 'memory.budget',
    fix: 'raise the budget, or use a smaller model or an optimizer with less state (sgd)',
  });
}

async function attach(run: OpenRun): Promise<void> {
  const { options, processes, session, train } = run;
  const { budget, onOom } = options.config.memory;
  // A resumed run has reported its memory already.
  const resumed = session.stepCount > 0;
  if (budget !== null) {
    const parts = await tryStep(run, 0);
    requireRoom(parts, copyBytes(run, parts), budget);
    setClaimedBudget(options);
  }
  // With several processes a step is an exchange between all of them, and none of them may fail alone.
  if (processes.world > 1 || (resumed && budget === null)) return;
  const rows = Math.min(train.batchSize, session.microBatch ?? Infinity, options.data.trainSamples);
  const trial = await tryStep(run, rows);
  if (!trial.fits && onOom === 'stop') {
    throw new DeviceError({
      what: `a step on ${rows} images does not fit: ${trial.what ?? 'out of memory'}`,
      ...(trial.where ? { where: trial.where } : {}),
      fix: 'lower train.batch_size and raise train.grad_accum by as much, set it to auto, or set memory.on_oom to halve',
    });
  }
  const copy = copyBytes(run, trial);
  // Steps cannot go on beside the copy: they wait until the checkpoint is written.
  if (budget !== null && trial.peak + copy > budget) run.checkpoints?.writeWithoutCopy();
  if (!resumed) options.report(memoryEvent(trial, rows, budget, copy));
}

/** With `rows` 0 nothing is computed, and only the parts that do not depend on the batch are known. */
async function tryStep({ options, session, train }: OpenRun, rows: number): Promise<MemoryTrial> {
  const batch = rows === 0 ? {} : await firstBatch(options.data, train.seed);
  try {
    return await session.trial(batch, { rows });
  } finally {
    for (const tensor of Object.values(batch)) tensor.dispose();
  }
}

function memoryEvent(
  trial: MemoryTrial,
  rows: number,
  budget: number | null,
  checkpointCopy: number,
): MemoryEvent {
  const { fits, weights, gradients, optimizer, average, activations, workspace } = trial;
  return {
    type: 'memory',
    ...{ rows, budget, fits, weights, gradients, optimizer, average, activations, workspace },
    checkpointCopy,
    message: describeMemory(trial, rows, budget, checkpointCopy),
  };
}

/** `out of memory at step 812 in layer3.1.conv2: micro-batch 64 → 32, 2 per step`, and what that means. */
export function outOfMemoryEvent(raw: NativeOutOfMemory): OutOfMemoryEvent {
  const { step, from, to, parts, batch_norms: batchNorms } = raw;
  const place = raw.module ?? raw.where;
  const statistics =
    batchNorms === 0
      ? ''
      : `; the ${batchNorms === 1 ? 'batch norm takes its' : `${batchNorms} batch norms take their`} statistics over ${to} images instead of ${from}, which changes the result`;
  return {
    type: 'out_of_memory',
    ...{ step, where: raw.where, module: raw.module, from, to, parts, batchNorms },
    message: `out of memory at step ${step} in ${place}: micro-batch ${from} → ${to}, ${parts} per step${statistics}`,
  };
}

export const memoryFeature: RunFeature = { prepare, attach };
