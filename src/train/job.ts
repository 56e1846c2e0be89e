/** The main job: from a configuration to a run folder with a trained model. */
import { existsSync } from 'node:fs';
import path from 'node:path';

import type { Config } from '../config/schema.js';
import type { Place } from '../dist/place.js';
import { Processes } from '../dist/processes.js';
import { AbortedError, ConfigError, TrainError } from '../errors.js';
import { Model } from '../model.js';
import { findArchitecture } from '../models/registry.js';
import { pretrainedPreprocessing } from '../weights/pretrained.js';
import type { ResolvedWeights } from '../weights/resolve.js';
import { CheckpointStore, type Checkpoint } from './checkpoint.js';
import type { TrainData } from './data.js';
import { eventRecord, type EvaluationMetrics, type JobEvent, type Report } from './events.js';
import { existingRun } from './existing_run.js';
import { finishRun } from './finish_run.js';
import { findPretrained, startFrom } from './pretrained.js';
import { chooseDevices } from './run_devices.js';
import { RunFolder, runPaths } from './run_folder.js';
import { RunLog, type RunLogState } from './run_log.js';
import { prepareTrainData } from './train_data.js';
import { checkTeacher, openTeacher } from './teacher.js';
import { labelled, trainLoss } from './train_loss.js';
import { TrainingRun } from './training_run.js';

export interface TrainJobOptions {
  /** `true`: there must be a checkpoint to go on from; `auto`: starts fresh where there is none. Default false. */
  resume?: boolean | 'auto';
  /**
   * A checkpoint to go on from, instead of the newest one: an older one of this run (newer ones are set aside), or
   * one of another run, for a new run.
   */
  resumeFrom?: string | undefined;
  /** Train anew although the run has results. The old model is kept as model.previous.safetensors. */
  force?: boolean;
  /** Finishes the current step, writes a checkpoint and returns. */
  signal?: AbortSignal;
  report?: Report;
  /** Changes what the data delivers (trials). */
  data?: (data: TrainData) => TrainData;
  /** Where this process stands among those that train together (`findPlace`); default: it is alone. */
  place?: Place | null;
  /** Ends as if the config had so many epochs; the schedule is that of the config. */
  epochLimit?: number;
}

export interface TrainOutcome {
  status: 'done' | 'skipped' | 'interrupted';
  interrupted: boolean;
  skipped: boolean;
  /** The run's folder, absolute. */
  folder: string;
  /** Null if interrupted. */
  modelPath: string | null;
  /** From which an interrupted run can go on; null if it had not begun. */
  checkpoint: string | null;
  /** Of the weights in the model file; null without validation images. */
  metrics: EvaluationMetrics | null;
  epochs: number;
  steps: number;
}

/**
 * Prepares the data, builds the model, trains, evaluates and writes `<run.dir>/<name>/`. Only an interruption by
 * `signal` is an outcome; everything else that goes wrong is thrown.
 *
 * @throws ConfigError, DataError, DeviceError, WeightsError before training; TrainError if the run cannot be
 *   resumed or training diverges.
 */
export async function trainJob(config: Config, options: TrainJobOptions = {}): Promise<TrainOutcome> {
  const report = options.report ?? (() => undefined);
  // What can be wrong without a look at the data is said before hours of decoding.
  requireClassifier(config);
  const place = options.place ?? null;
  if (place) requireOwnDevice(config, place);
  const devices = chooseDevices(config, place?.localRank);
  const name = path.join(config.run.dir, config.name);
  if (place && place.rank > 0) {
    using processes = await Processes.connect(place, devices.train.device);
    return await followRun(config, path.resolve(name), processes, options);
  }

  const folder = await RunFolder.open(name);
  try {
    using processes = await Processes.connect(place, devices.train.device);
    return await trainInFolder(config, folder, processes, options, report);
  } catch (error) {
    if (!(error instanceof AbortedError) || !options.signal?.aborted) throw error;
    // Stopped while images were decoded, or in the final evaluation.
    const store = new CheckpointStore(folder.paths.checkpoints);
    // Before the first step of a training from the start, what lies there is the earlier one's.
    const [newest] = options.force && !folder.begun ? [] : await store.list();
    const step = newest?.step ?? 0;
    const checkpoint = newest?.path ?? null;
    const event: JobEvent = { type: 'interrupted', step, checkpoint, signal: null };
    folder.append(eventRecord(event));
    report(event);
    return outcome('interrupted', folder, { checkpoint, steps: step });
  } finally {
    await folder.close();
  }
}

/** @throws ConfigError where all processes of this machine would train on the same GPU. */
function requireOwnDevice({ device }: Config, { localWorld }: Place): void {
  if (localWorld === 1 || !/^cuda:/.test(device.train)) return;
  throw new ConfigError({
    what: `${localWorld} processes cannot train on one GPU (${device.train})`,
    where: 'device.train',
    fix: 'use auto or cuda: each process takes the GPU of its local rank',
  });
}

/** @throws ConfigError for an architecture of another task: the data sources deliver one label for each image. */
function requireClassifier({ model }: Config): void {
  const { name, task } = findArchitecture(model.name);
  if (task === 'classification') return;
  throw new ConfigError({
    what: `"${name}" is for ${task}, but this job trains on images with one label each`,
    where: 'model.name',
    fix: 'name a classifier: `fornax models` lists the tasks',
  });
}

function outcome(
  status: TrainOutcome['status'],
  folder: Pick<RunFolder, 'folder' | 'paths'>,
  rest: Partial<TrainOutcome>,
): TrainOutcome {
  return {
    status,
    interrupted: status === 'interrupted',
    skipped: status === 'skipped',
    folder: folder.folder,
    modelPath: status === 'interrupted' ? null : folder.paths.model,
    checkpoint: null,
    metrics: null,
    epochs: 0,
    steps: 0,
    ...rest,
  };
}

async function trainInFolder(
  config: Config,
  folder: RunFolder,
  processes: Processes,
  options: TrainJobOptions,
  report: Report,
): Promise<TrainOutcome> {
  const { resume = false, force = false, resumeFrom, signal } = options;
  const store = new CheckpointStore(folder.paths.checkpoints, { keep: config.checkpoint.keep });
  await store.sweep();
  const checkpoint = await findCheckpoint(store, folder, { resume, force, resumeFrom }, report);
  if (!force) {
    const existing = await existingRun(
      config,
      folder,
      checkpoint,
      resume !== false || resumeFrom !== undefined,
    );
    if (existing) {
      report({ type: 'skipped', message: existing.message, modelPath: folder.paths.model });
      await announce(processes, { skipped: true, checkpoint: null });
      return outcome('skipped', folder, { metrics: existing.metrics });
    }
  }

  const started = performance.now();
  const context: { run?: TrainingRun } = {};
  const log = new RunLog(
    (record) => folder.append(record),
    (step) => context.run!.learningRate(step),
  );
  // The log of another run stays there.
  const own = checkpoint !== null && store.owns(checkpoint) ? checkpoint : null;
  if (own) log.state = own.state.log_state as RunLogState;
  const reportAll: Report = (event) => {
    log.write(event);
    report(event);
  };

  const pretrained = checkpoint
    ? { file: path.join(checkpoint.path, 'model.safetensors'), published: null }
    : await findPretrained(config.model, reportAll, signal);
  using teacher = await openTeacher(config.train);
  const prepared = await prepareTrainData(config.data, {
    defaultResolution: defaultResolution(config),
    seed: config.train.seed,
    pretrained: pretrained && (await pretrainedPreprocessing(pretrained)),
    report: reportAll,
    signal,
  });
  const data = options.data?.(prepared) ?? prepared;
  if (signal?.aborted) throw new AbortedError('stopped before the first step');
  // What is decoded and fetched by now, the others find.
  await announce(processes, { skipped: false, checkpoint: checkpoint?.path ?? null });
  if (teacher) checkTeacher(teacher, data.classes);
  using model = await buildModel(config, data, checkpoint ? null : pretrained, reportAll);
  const run = new TrainingRun({
    model,
    data,
    config,
    loss: trainLoss(model.graph, config.train, labelled(data.classes, teacher)),
    teacher,
    store,
    report: reportAll,
    signal,
    epochLimit: options.epochLimit,
    processes,
    logPosition: ({ step, epoch, reason }) => {
      log.checkpoint(step, epoch, reason);
      return { bytes: folder.commitLog(), state: log.state };
    },
    // What an earlier training left is touched only once this one can begin: a mistyped path costs nothing.
    onReady: async () => {
      if (force) await folder.clear();
      const newer = own ? await store.setAsideNewerThan(own) : [];
      folder.openLog(own?.state.log_bytes ?? 0);
      if (newer.length > 0) {
        const message = `Newer checkpoints of this run were set aside: ${newer.join(', ')}`;
        reportAll({ type: 'info', message });
      }
      await folder.writeConfig(config);
    },
    run: { name: config.name, folder: folder.folder },
  });
  context.run = run;
  const result = await run.run(checkpoint);
  if (result.interrupted) {
    reportAll({ type: 'interrupted', step: result.step, checkpoint: result.checkpoint, signal: null });
    return outcome('interrupted', folder, {
      checkpoint: result.checkpoint,
      epochs: result.epochs,
      steps: result.step,
    });
  }
  const metrics = await finishRun({
    config,
    folder,
    store,
    model,
    data,
    result,
    started,
    report: reportAll,
    signal,
  });
  return outcome('done', folder, { metrics, epochs: result.epochs, steps: result.step });
}

/** What rank 0 found out before training; the others wait for it. */
interface Announcement {
  skipped: boolean;
  /** To go on from. */
  checkpoint: string | null;
}

function announce(processes: Processes, announcement: Announcement | null): Promise<Announcement> {
  return processes.lead(() => announcement!);
}

/** The part of a rank other than 0: it computes its share and writes nothing. */
async function followRun(
  config: Config,
  folder: string,
  processes: Processes,
  options: TrainJobOptions,
): Promise<TrainOutcome> {
  const { signal } = options;
  // Rank 0 tells the same of the data, the model and the steps.
  const report: Report = (event) => {
    if (event.type === 'device') options.report?.(event);
  };
  const place = { folder, paths: runPaths(folder) };
  const { skipped, checkpoint: from } = await announce(processes, null);
  if (skipped) return outcome('skipped', place, {});
  const store = new CheckpointStore(place.paths.checkpoints);
  const checkpoint = from === null ? null : await store.open(from);
  const pretrained = checkpoint
    ? { file: path.join(checkpoint.path, 'model.safetensors'), published: null }
    : await findPretrained(config.model, report, signal);
  using teacher = await openTeacher(config.train);
  const prepared = await prepareTrainData(config.data, {
    defaultResolution: defaultResolution(config),
    seed: config.train.seed,
    pretrained: pretrained && (await pretrainedPreprocessing(pretrained)),
    signal,
  });
  const data = options.data?.(prepared) ?? prepared;
  using model = await buildModel(config, data, checkpoint ? null : pretrained, report);
  const run = new TrainingRun({
    model,
    data,
    config,
    loss: trainLoss(model.graph, config.train, labelled(data.classes, teacher)),
    teacher,
    store,
    report,
    signal,
    epochLimit: options.epochLimit,
    processes,
  });
  const result = await run.run(checkpoint);
  const { epochs, step: steps } = result;
  return outcome(result.interrupted ? 'interrupted' : 'done', place, { epochs, steps });
}

async function findCheckpoint(
  store: CheckpointStore,
  folder: RunFolder,
  options: { resume: boolean | 'auto'; force: boolean; resumeFrom: string | undefined },
  report: Report,
): Promise<Checkpoint | null> {
  const { resume, force, resumeFrom } = options;
  if (resumeFrom !== undefined) {
    if (resume !== false || force) {
      throw new ConfigError({
        what: `--resume-from and ${force ? '--force' : '--resume'} contradict each other`,
        fix: 'use one of them',
      });
    }
    const chosen = await store.open(resumeFrom);
    if (!store.owns(chosen) && ((await store.list()).length > 0 || existsSync(folder.paths.model))) {
      throw new TrainError({
        what: 'the checkpoint is of another run, and this run was begun already',
        where: folder.folder,
        fix: 'give the new run a name of its own (--name)',
      });
    }
    return chosen;
  }
  if (resume !== false && force) {
    throw new ConfigError({ what: '--resume and --force contradict each other', fix: 'use one of them' });
  }
  if (force) return null;
  if (resume === false) {
    const [newest] = await store.list();
    if (newest && !existsSync(folder.paths.model)) {
      throw new TrainError({
        what: `this run was begun and not finished: it has a checkpoint at step ${newest.step}`,
        where: folder.folder,
        fix: 'go on with --resume, start over with --force, or use another name (--set name=…)',
      });
    }
    return null;
  }
  const checkpoint = await store.newest((message) => report({ type: 'warning', message }));
  if (!checkpoint && resume === true && !existsSync(folder.paths.model)) {
    throw new TrainError({
      what: 'there is nothing to resume: this run has no checkpoint',
      where: store.folder,
      fix: 'check the name of the run, or use --resume=auto, which starts fresh where there is none',
    });
  }
  return checkpoint;
}

/** Input size where the configuration says `auto`: the one the architecture was published with. */
function defaultResolution(config: Config): [number, number] {
  const side = findArchitecture(config.model.name).defaultResolution;
  return [side, side];
}

async function buildModel(
  config: Config,
  data: TrainData,
  pretrained: ResolvedWeights | null,
  report: Report,
): Promise<Model> {
  const { name, options, numClasses, pretrainedStrict } = config.model;
  const classes = data.classes.length;
  if (numClasses !== 'auto' && numClasses !== classes) {
    throw new ConfigError({
      what: `model.num_classes is ${numClasses}, but the data has ${classes} classes`,
      where: 'model.num_classes',
      fix: 'set it to auto',
    });
  }
  const { channels, size } = data.preprocessing;
  const model = Model.create(name, {
    seed: config.train.seed,
    numClasses: classes,
    inChannels: channels,
    options,
    // Two images: a batch of one is a special case that no trace should see.
    inputs: [[2, channels, size[0], size[1]]],
    labels: data.classes,
    preprocessing: data.preprocessing,
  });
  try {
    if (pretrained !== null) await startFrom(model, pretrained, pretrainedStrict, report);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}
