/** A training that a script has asked for: with a folder for checkpoints and the event log, or without. */
import { AbortedError, ArgumentError, ConfigError, TrainError } from '../errors.js';
import type { Model } from '../model.js';
import { findPlace } from '../dist/place.js';
import { begunBatchSize, chooseBatchSize } from './batch_size.js';
import { CheckpointStore, type Checkpoint } from './checkpoint.js';
import { decisionsFor, readDecisions } from './decisions.js';
import { figuresOf, modelMetrics } from './evaluation_figures.js';
import type { EvaluationMetrics, Report } from './events.js';
import { sweepLearningRates, type LearningRateOptions, type LearningRateResult } from './lr_sweep.js';
import { keepBest, knownEvaluation, recomputeAfterTraining } from './finish_run.js';
import { isExtended } from './resume.js';
import { RunFolder } from './run_folder.js';
import type { RunProgress } from './run_progress.js';
import { RunRecord } from './run_record.js';
import { holdBudget, peakMemory } from './memory.js';
import { isAveraged } from './swa.js';
import { checkTeacher, openTeacher } from './teacher.js';
import type { TrainerPlan } from './trainer_options.js';
import { TrainingRun } from './training_run.js';
import type { RunConfig, TrainingResult, TrainingRunOptions } from './training_run_types.js';

export interface ScriptRunOptions {
  resume: boolean | 'auto';
  /** A checkpoint to go on from, instead of the newest. */
  resumeFrom: string | undefined;
  report: Report;
  signal: AbortSignal;
  /** Told where the books of the run are; they grow while it trains. */
  begun?: (progress: Pick<RunProgress, 'history' | 'best'>) => void;
}

export interface ScriptResult {
  result: TrainingResult;
  /** Of the weights that the model has now; null without an evaluation, and after an interruption. */
  metrics: EvaluationMetrics | null;
}

/** @throws ConfigError where several processes were started to train together: each would train for itself. */
function requireAlone(): void {
  const place = findPlace();
  if (!place) return;
  throw new ConfigError({
    what: `this is process ${place.rank} of ${place.world}, and a Trainer trains in one`,
    where: 'environment (RANK, WORLD_SIZE)',
    fix: 'train with `fornax train`, or trainJob(config, { place }), or unset RANK and WORLD_SIZE',
  });
}

export async function runScript(plan: TrainerPlan, options: ScriptRunOptions): Promise<ScriptResult> {
  requireAlone();
  const { folder } = plan.options;
  // Without a loss of their own, scripts too may name the teacher's file.
  using opened = plan.namesTeacher ? await openTeacher(plan.config.train) : null;
  const teacher = plan.options.teacher ?? opened;
  if (teacher) checkTeacher(teacher, plan.options.data);
  if (folder === undefined) {
    if (options.resume === true || options.resumeFrom !== undefined) {
      throw new ArgumentError({ what: 'there is nothing to resume from', fix: 'give a `folder`' });
    }
    const config = await fixConfig(plan, teacher, null, options);
    return await train(plan, config, teacher, options, null);
  }
  const opening = await RunFolder.open(folder);
  try {
    return await trainInFolder(plan, teacher, options, opening);
  } finally {
    await opening.close();
  }
}

/** `trainer.findLearningRate()` */
export async function sweepScript(
  plan: TrainerPlan,
  options: LearningRateOptions & { signal?: AbortSignal; report?: Report },
): Promise<LearningRateResult> {
  requireAlone();
  const { report = () => undefined, signal, ...sweep } = options;
  const { model, data } = plan.options;
  using opened = plan.namesTeacher ? await openTeacher(plan.config.train) : null;
  const teacher = plan.options.teacher ?? opened;
  if (teacher) checkTeacher(teacher, data);
  const run = { model, data, teacher, loss: plan.lossGraph(teacher), config: plan.config, report, signal };
  return await sweepLearningRates(run, sweep);
}

async function trainInFolder(
  plan: TrainerPlan,
  teacher: Model | null,
  options: ScriptRunOptions,
  folder: RunFolder,
): Promise<ScriptResult> {
  const { config: given } = plan;
  const { model } = plan.options;
  const store = new CheckpointStore(folder.paths.checkpoints, { keep: given.checkpoint.keep });
  await store.sweep();
  const checkpoint = await findStart(store, options);
  const record = new RunRecord(folder, store, checkpoint, options.report);
  const { report } = record;
  const decisions =
    options.resume !== false && (!checkpoint || isExtended(checkpoint, given))
      ? await readDecisions(folder.paths.decisions, given)
      : null;
  const decidedBefore = decisionsFor(decisions, model);
  const begun = begunBatchSize(checkpoint?.state.config, decidedBefore);
  const config = await fixConfig(plan, teacher, begun, { ...options, report });
  const settings: Kept['settings'] = {
    store,
    decisions: decidedBefore,
    logPosition: record.logPosition,
    onReady: (decided) => record.begin({ given, config, model }, decided),
  };
  return train(plan, config, teacher, { ...options, report }, { settings, record, checkpoint });
}

/** @throws TrainError if there is no checkpoint where there must be one, or one where there must be none. */
async function findStart(
  store: CheckpointStore,
  { resume, resumeFrom, report }: ScriptRunOptions,
): Promise<Checkpoint | null> {
  if (resumeFrom !== undefined) {
    if (resume !== false) {
      throw new ArgumentError({
        what: 'resume and resumeFrom contradict each other',
        fix: 'use one of them',
      });
    }
    const chosen = await store.open(resumeFrom);
    if (!store.owns(chosen) && (await store.list()).length > 0) {
      throw new TrainError({
        what: 'the checkpoint is of another training, and this one was begun already',
        where: store.folder,
        fix: 'use another folder',
      });
    }
    return chosen;
  }
  if (resume !== false) {
    const newest = await store.newest((message) => report({ type: 'warning', message }));
    if (newest || resume === 'auto') return newest;
    throw new TrainError({
      what: 'there is nothing to resume: the folder has no checkpoint',
      where: store.folder,
    });
  }
  if ((await store.list()).length === 0) return null;
  throw new TrainError({
    what: 'the folder holds checkpoints of an earlier training',
    where: store.folder,
    fix: 'use resume, or another folder',
  });
}

/** The settings with the batch size of the run. */
function fixConfig(
  plan: TrainerPlan,
  teacher: Model | null,
  begun: number | null,
  { report, signal }: ScriptRunOptions,
): Promise<RunConfig> {
  if (plan.config.train.batchSize !== 'auto') return Promise.resolve(plan.config);
  const { model, data } = plan.options;
  const loss = plan.lossGraph(teacher);
  return chooseBatchSize(plan.config, { model, data, loss, teacher, begun, report, signal });
}

/** What a training with a folder has besides. */
interface Kept {
  settings: Pick<TrainingRunOptions, 'store' | 'decisions' | 'logPosition' | 'onReady'>;
  record: RunRecord;
  /** To go on from. */
  checkpoint: Checkpoint | null;
}

function beforeFirstStep({ progress }: TrainingRun, checkpoint: Checkpoint | null): TrainingResult {
  const { history, best, epoch } = progress;
  return {
    ...{ interrupted: true, stopped: null, epochEnd: false, swaBegun: false },
    ...{ history, best, epochs: epoch },
    checkpoint: checkpoint?.path ?? null,
    step: checkpoint?.state.step ?? 0,
  };
}

async function train(
  plan: TrainerPlan,
  config: RunConfig,
  teacher: Model | null,
  { report, signal, begun }: ScriptRunOptions,
  kept: Kept | null,
): Promise<ScriptResult> {
  const { callbacks } = plan;
  const { model, data, folder = null } = plan.options;
  const started = performance.now();
  const loss = plan.lossGraph(teacher);
  const metrics = plan.metricGraphs();
  const given = { model, data, config, loss, metrics, callbacks, teacher, report, signal };
  const settings = kept?.settings ?? { store: null };
  using _budget = holdBudget(config);
  const run = new TrainingRun({ ...given, ...settings });
  kept?.record.follow(run);
  begun?.(run.progress);
  const result = await run.run(kept?.checkpoint).catch((error: unknown) => {
    if (!(error instanceof AbortedError) || !signal.aborted) throw error;
    // Before the first step: while its precision was measured, say.
    return beforeFirstStep(run, kept?.checkpoint ?? null);
  });
  if (result.interrupted) {
    model.info = { ...model.info, metrics: {} };
    report({ type: 'interrupted', step: result.step, checkpoint: result.checkpoint, signal: null });
    return { result, metrics: null };
  }
  const weights = await keepBest(model, settings.store, result, {
    averaged: isAveraged(config.train),
    report,
  });
  const finished = { model, data, config, loss, metrics, result, report, signal };
  const known = knownEvaluation(result, weights);
  const evaluated = (await recomputeAfterTraining(finished, known)) ?? known;
  const figures = evaluated && figuresOf(evaluated);
  model.info = {
    ...model.info,
    ...(data.classes.length > 0 && { labels: [...data.classes] }),
    ...(data.preprocessing && { preprocessing: data.preprocessing }),
    metrics: modelMetrics(figures),
  };
  report({
    type: 'done',
    modelPath: null,
    folder,
    epochs: result.epochs,
    steps: result.step,
    seconds: (performance.now() - started) / 1000,
    metrics: figures,
    ...(result.skippedSteps !== undefined && { skippedSteps: result.skippedSteps }),
    peakMemory: peakMemory(config),
  });
  return { result, metrics: figures };
}
