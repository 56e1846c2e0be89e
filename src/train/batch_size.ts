/**
 * `train.batch_size: auto`: the largest batch that fits into the memory budget, or into the memory that is free,
 * found by trial steps that leave no trace. It is decided before anything that goes by it: steps per epoch, schedule,
 * learning rate. From then on it is an ordinary setting of the run: in its config.yaml and its checkpoints.
 */
import { withBatchSize } from '../config/fixed_train.js';
import type { FixedTrain } from '../config/schema.js';
import { formatSize } from '../config/size.js';
import { DeviceError } from '../errors.js';
import type { MemoryTrial, NativeTensor, NativeTrain } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { freeHostMemory } from './free_memory.js';
import { limitSearch } from './memory_budget.js';
import { mixBatches } from './mixing.js';
import type { RunDevices } from './run_devices.js';
import { chooseDevices } from './run_devices.js';
import { CONSTANT_SCHEDULE, trainOptions } from './train_options.js';
import type { RunConfig, TrainingRunOptions } from './training_run_types.js';

/** Larger batches seldom train faster, and seldom train better. */
export const LARGEST = { cpu: 256, cuda: 1024 } as const;
/** However much fits: an epoch of fewer steps learns little. */
const LEAST_STEPS = 8;
/** Of the memory that is free, what the rest of the system is left with. */
const LEFT_FREE = { cpu: 0.2, cuda: 0.1 } as const;
/** A step may take a little more than the trial did: another order of blocks in the allocator. */
const HEADROOM = 0.95;
const FIRST_TRIAL = 8;

export interface BatchSizeContext extends Pick<
  TrainingRunOptions,
  'model' | 'data' | 'loss' | 'teacher' | 'report' | 'signal'
> {
  /** The size with which a resumed run began, which it keeps; null for a new run. */
  begun: number | null;
}

type Settings = Readonly<Record<string, unknown>> | undefined;

/**
 * The size with which a run began.
 *
 * @param settings of the checkpoint that it goes on from, in snake_case.
 * @param decided what was decided when it began and left no checkpoint.
 */
export function begunBatchSize(settings: Settings, decided: Settings): number | null {
  const { batch_size: size } = (settings?.train ?? decided ?? {}) as { batch_size?: unknown };
  return typeof size === 'number' ? size : null;
}

/** What decisions.json keeps: the size, if it was found by trial. */
export function decidedBatchSize(given: RunConfig, found: RunConfig): { batch_size?: number } {
  const { batchSize } = found.train;
  return given.train.batchSize === 'auto' && batchSize !== 'auto' ? { batch_size: batchSize } : {};
}

/**
 * The config with the batch size of the run.
 *
 * @throws DeviceError if not even one image fits; ConfigError where memory cannot be limited.
 */
export async function chooseBatchSize<C extends RunConfig>(config: C, context: BatchSizeContext): Promise<C> {
  if (config.train.batchSize !== 'auto') return config;
  const { begun } = context;
  if (begun !== null) return { ...config, train: withBatchSize(config.train, begun) };
  const devices = chooseDevices(config);
  const { device, type } = devices.train;
  const { budget } = config.memory;
  const limit = budget ?? freeMemory(devices) * (1 - LEFT_FREE[type]);
  const largest = largestBatch(type, context.data.trainSamples, config.train.gradAccum);
  const endLimit = limitSearch(device, Math.floor(limit), budget);
  let trial: TrialSession | null = null;
  try {
    const opened = await TrialSession.open(config, devices, context);
    trial = opened;
    const { rows, peak } = await searchRows((count) => opened.run(count), HEADROOM * limit, largest);
    const bound =
      rows === roundRows(largest) ? 'no more is wanted' : `the most that fits into ${formatSize(limit)}`;
    context.report({
      type: 'batch_size',
      batchSize: rows,
      peak,
      limit: Math.floor(limit),
      message: `Batch size: ${rows} (${bound}; a step takes ${formatSize(peak)})`,
    });
    return { ...config, train: withBatchSize(config.train, rows) };
  } finally {
    trial?.dispose();
    endLimit();
  }
}

/** The largest batch that is wanted, whatever fits. */
export function largestBatch(type: 'cpu' | 'cuda', samples: number, gradAccum: number): number {
  const forSteps = Math.floor(samples / (LEAST_STEPS * gradAccum));
  return Math.min(LARGEST[type], samples, Math.max(FIRST_TRIAL, forSteps));
}

/** Bytes that this process could take on the device, those that it has included. */
function freeMemory({ train }: RunDevices): number {
  const addon = loadAddon();
  const own = addon.deviceMemory(train.device).reserved;
  if (train.type === 'cpu') return freeHostMemory(own);
  const index = Number(train.device.slice('cuda:'.length));
  return addon.systemInfo().cuda.devices[index]!.free + own;
}

/** Sizes that are tried: powers of two, from 64 on multiples of 8. */
export function roundRows(rows: number): number {
  if (rows >= 64) return Math.floor(rows / 8) * 8;
  return 2 ** Math.floor(Math.log2(Math.max(1, rows)));
}

/**
 * The largest of these sizes whose step takes no more than `limit` bytes. What a step takes grows by the row, so two
 * small trials say where to look, and trials there what is true.
 *
 * @throws DeviceError if a step on one row takes more.
 */
export async function searchRows(
  run: (rows: number) => Promise<MemoryTrial>,
  limit: number,
  largest: number,
): Promise<{ rows: number; peak: number }> {
  const fits = ({ fits, peak }: MemoryTrial): boolean => fits && peak <= limit;
  let rows = Math.min(FIRST_TRIAL, roundRows(largest));
  let result = await run(rows);
  while (!fits(result)) {
    if (rows === 1) throw tooLarge(result, limit);
    rows /= 2;
    result = await run(rows);
    if (fits(result)) return { rows, peak: result.peak };
  }
  const second = roundRows(Math.min(2 * rows, largest));
  if (second === rows) return { rows, peak: result.peak };
  const next = await run(second);
  if (!fits(next)) return { rows, peak: result.peak };
  const perRow = Math.max(1, (next.peak - result.peak) / (second - rows));
  let best = { rows: second, peak: next.peak };
  let candidate = roundRows(Math.min(largest, second + (limit - next.peak) / perRow));
  while (candidate > best.rows) {
    const tried = await run(candidate);
    if (fits(tried)) best = { rows: candidate, peak: tried.peak };
    else candidate = roundRows(Math.min(candidate - 1, candidate * HEADROOM));
  }
  return best;
}

function tooLarge({ what, peak }: MemoryTrial, limit: number): DeviceError {
  return new DeviceError({
    what: `a step on a single image takes more than ${formatSize(limit)}: ${what ?? formatSize(peak)}`,
    where: 'train.batch_size',
    fix: 'use smaller images, a smaller model or mixed precision, or give it more memory (memory.budget)',
  });
}

/** Trial steps on one batch of the training images. */
export class TrialSession {
  private constructor(
    private readonly session: NativeTrain,
    private readonly batch: Record<string, NativeTensor>,
    private readonly signal: AbortSignal | undefined,
  ) {}

  static async open(
    config: RunConfig,
    { train: { device }, amp }: RunDevices,
    { model, data, loss, teacher, signal }: BatchSizeContext,
  ): Promise<TrialSession> {
    const batch = await firstBatch(data, config.train.seed);
    // A trial makes no update: rates and averages have no part in it.
    const train: FixedTrain = {
      ...withBatchSize(config.train, FIRST_TRIAL),
      schedule: { ...CONSTANT_SCHEDULE },
      swa: null,
    };
    const options = trainOptions(model.graph, train, {
      ...{ device, amp, loss, teacher },
      stepsPerEpoch: 1,
      normalize: data.preprocessing?.normalize ?? null,
    });
    // Mixed as in the run: its loss may take labels only as shares of the classes.
    mixBatches(options, train, { data, model }, 1);
    const session = new (loadAddon().TrainSession)(model.native, options);
    model.changed();
    return new TrialSession(session, batch, signal);
  }

  /** @throws AbortedError if the signal has fired. */
  async run(rows: number): Promise<MemoryTrial> {
    this.signal?.throwIfAborted();
    return this.session.trial(this.batch, { rows });
  }

  dispose(): void {
    this.session.dispose();
    for (const tensor of Object.values(this.batch)) tensor.dispose();
  }
}

/** A few training images as a batch, from a loader that is gone when they are here. */
export async function firstBatch(
  data: TrainingRunOptions['data'],
  seed: number,
): Promise<Record<string, NativeTensor>> {
  const batchSize = Math.min(FIRST_TRIAL, data.trainSamples);
  const loader = new (loadAddon().Loader)({
    ...data.loaderOptions('train', { batchSize, seed, threads: 1 }),
  });
  try {
    loader.startEpoch(0);
    return (await loader.next())!;
  } finally {
    loader.dispose();
  }
}
