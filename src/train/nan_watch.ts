/**
 * What a run does when numbers are no longer finite. The native session notices (native/train/nan/nan_watch.h) and
 * leaves everything as before the bad step; here its batch is computed again to find the place, and the policy of
 * the configuration decides.
 */
import path from 'node:path';

import { ownSnapshot } from '../dist/generators.js';
import { TrainError } from '../errors.js';
import type { Finding, NativeTensor, NonFinite, RunResult } from '../native/contract.js';
import { MODEL_FILE, type Checkpoint } from './checkpoint.js';
import { describeFault, firstFinding } from './finding.js';
import type { OpenRun } from './open_run.js';
import type { RunFeature } from './run_features.js';

/** One that was done, as checkpoints keep it. */
interface Rollback {
  /** The step that was left out. */
  step: number;
  /** The step whose weights were taken; null: those before the bad step, as there was no checkpoint yet. */
  to: number | null;
}

const rollbacksOf = new WeakMap<OpenRun, Rollback[]>();

export const nanWatchFeature: RunFeature = {
  prepare({ train, session }) {
    const { policy, gradientsEvery, anomaly } = train.nanWatch;
    if (policy !== 'off') session.nan_watch = { gradients_every: gradientsEvery, anomaly };
  },
  attach(run) {
    const rollbacks: Rollback[] = [];
    run.state.register({
      key: 'rollbacks',
      save: () => (rollbacks.length > 0 ? rollbacks : undefined),
      restore: (saved) => rollbacks.push(...(saved as Rollback[])),
    });
    rollbacksOf.set(run, rollbacks);
  },
};

/**
 * Takes care of a run that ended with `not_finite`; returns where it can go on.
 *
 * @throws TrainError that names the step and the first bad node, if the policy is to stop or nothing else is left.
 */
export async function handleNonFinite(run: OpenRun, { fault, finding }: RunResult): Promise<void> {
  const { policy, rollbacks: limit } = run.train.nanWatch;
  const rollbacks = rollbacksOf.get(run)!;
  const place = await locate(run, fault!, finding ?? null);
  const message = describeFault(fault!, place);
  const mayRollBack = policy === 'rollback' && fault!.what !== 'scale';
  if (!mayRollBack || rollbacks.length >= limit) {
    const after = rollbacks.length > 0 ? `, after ${rollbacks.length} rollbacks` : '';
    report(run, fault!, place, { action: 'stop', to: null, message });
    throw await failure(run, fault!, message + after);
  }
  const to = await rollBack(run, fault!, message);
  rollbacks.push({ step: fault!.step, to });
  const where = to === null ? 'the weights before it' : `those of step ${to}`;
  report(run, fault!, place, {
    action: 'rollback',
    to,
    message: `${message}. Rollback ${rollbacks.length} of ${limit}: on from ${where}, behind this batch`,
  });
}

/** The first bad node of the step's batch. Null where the step is past and cannot be computed again. */
async function locate(run: OpenRun, fault: NonFinite, seen: Finding | null): Promise<Finding | null> {
  const { session, processes, progress, loader, train } = run;
  const { meter } = progress;
  const found = async (): Promise<Finding> => {
    if (seen && seen.phase !== 'none') return seen;
    // The batch of the bad step once more: for the same place the loader delivers the same.
    loader.startEpoch(progress.epoch, meter.epochStep * train.gradAccum);
    return session.diagnose(loader);
  };
  if (fault.what === 'scale' || (fault.applied && meter.epochStep >= run.stepsPerEpoch)) return null;
  return firstFinding(await processes.gather(await found()));
}

function report(
  run: OpenRun,
  fault: NonFinite,
  finding: Finding | null,
  rest: { action: 'stop' | 'rollback'; to: number | null; message: string },
): void {
  run.options.report({
    type: 'not_finite',
    step: fault.step,
    epoch: run.progress.epoch + 1,
    what: fault.what,
    node: finding && finding.phase !== 'none' ? finding.node : null,
    ...rest,
  });
}

async function failure(run: OpenRun, fault: NonFinite, message: string): Promise<TrainError> {
  const { store, run: job } = run.options;
  await run.checkpoints?.done();
  const resumable = ((await store?.list()) ?? []).length > 0;
  const rollback = job ? 'nan_watch.policy rollback' : "train.nanWatch.policy 'rollback'";
  const sound = `; the last checkpoint is sound (${job ? '--resume' : 'fit({ resume: true })'}, with ${rollback} on to the next batch)`;
  return new TrainError({
    what: message,
    where: `epoch ${run.progress.epoch + 1}, learning rate ${run.session.learningRate(fault.step - 1)}`,
    fix:
      fault.what === 'scale'
        ? 'train in bf16 or fp32 (train.amp), or lower train.lr'
        : `lower train.lr, lengthen the warm-up, set ${job ? 'train.clip_norm' : 'train.clipNorm'}, or check the data${resumable ? sound : ''}`,
  });
}

/**
 * The newest checkpoint before a step that every course of this run has (`RunProgress.isRegular`). Others (of an
 * interruption, of the clock) would make a resumed run another one.
 */
async function regularCheckpoint(run: OpenRun, before: number): Promise<Checkpoint | null> {
  const { store } = run.options;
  for (const entry of (await store?.list()) ?? []) {
    if (entry.step >= before) continue;
    const checkpoint = await store!.load(entry.path).catch(() => null);
    if (checkpoint === null) continue;
    const { epoch_step: epochStep, regular = epochStep === 0 } = checkpoint.state;
    if (regular) return checkpoint;
  }
  return null;
}

/**
 * Weights, optimizer and generators of the last regular checkpoint; steps are counted on, as if those since, and the
 * bad one, had changed nothing.
 *
 * @returns the step of the checkpoint; null if there is none, and the weights are those before the bad step.
 */
async function rollBack(run: OpenRun, fault: NonFinite, message: string): Promise<number | null> {
  const { session, processes, progress, train } = run;
  const { model, store } = run.options;
  await run.checkpoints?.done();
  const folder = await processes.lead(async () => (await regularCheckpoint(run, fault.step))?.path ?? null);
  if (folder === null && fault.applied) throw await failure(run, fault, message);
  let to: number | null = null;
  let snapshot: Record<string, NativeTensor>;
  if (folder === null) snapshot = session.snapshot();
  else {
    const checkpoint = await store!.load(folder);
    to = checkpoint.state.step;
    await model.loadWeights(path.join(folder, MODEL_FILE));
    snapshot = ownSnapshot(processes, await store!.optimizer(checkpoint));
  }
  try {
    session.restore(snapshot, fault.step);
  } finally {
    for (const tensor of Object.values(snapshot)) tensor.dispose();
  }
  const { meter } = progress;
  if (!fault.applied) meter.leaveOut();
  if (meter.epochStep < run.stepsPerEpoch) {
    run.loader.startEpoch(progress.epoch, meter.epochStep * train.gradAccum);
  }
  return to;
}
