/** What a checkpoint costs a training run of Fornax, and how long going on from one takes. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '#fornax/config/schema.js';
import { Processes } from '#fornax/dist/processes.js';
import type { Model } from '#fornax/model.js';
import type { NativeTrain } from '#fornax/native/contract.js';
import { CheckpointStore, MODEL_FILE } from '#fornax/train/checkpoint.js';
import { CheckpointWriter } from '#fornax/train/checkpoint_writer.js';
import type { CheckpointEvent } from '#fornax/train/events.js';
import { RunProgress } from '#fornax/train/run_progress.js';
import type { Answer } from './child.js';
import { spread } from './row.js';
import type { TrainCase } from './train_case.js';
import { makeModel, openSession, STEPS_PER_EPOCH, type OpenedSide } from './train_side.js';

/** Steps for so long, so that the writing is over within them. */
const SECONDS = 1.5;
/** Longer than the threads of a session spin for. */
const IDLE_MS = 200;

export interface CheckpointedSide extends OpenedSide {
  setting: TrainCase;
  variant: string;
  config: Config;
  model: Model;
  /** Runs so many steps; their seconds. */
  advance(session: NativeTrain, steps: number): Promise<number>;
}

function makeWriter(
  { model, session, state, config, setting }: CheckpointedSide,
  store: CheckpointStore,
  onWritten: (event: CheckpointEvent) => void = () => undefined,
): CheckpointWriter {
  return new CheckpointWriter({
    model,
    store,
    session,
    state,
    progress: new RunProgress(config.checkpoint),
    processes: Processes.alone,
    identity: () => ({
      config: {},
      computed: { device: setting.device, amp: 'off', threads: setting.threads },
      dataFingerprint: '',
      graphHash: model.graphHash(),
      stepsPerEpoch: STEPS_PER_EPOCH,
    }),
    epochs: config.train.epochs,
    report: (event) => {
      if (event.type === 'checkpoint') onWritten(event);
    },
    onFailure: (error) => {
      throw error;
    },
  });
}

async function inFolder<T>(work: (store: CheckpointStore) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-bench-'));
  try {
    return await work(new CheckpointStore(folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Milliseconds in which no step is computed (`pause`), that training loses in all (`held`: two rows of steps of the same
 * length, one with a checkpoint before it), until it is on the disk (`written`), and of processor time (`processor`:
 * where nothing is computed beside it); medians of `times`.
 */
export function measureCheckpoint(side: CheckpointedSide, times: number): Promise<Answer> {
  return inFolder(async (store) => {
    const events: CheckpointEvent[] = [];
    const writer = makeWriter(side, store, (event) => events.push(event));
    const { session, advance } = side;
    const steps = Math.ceil(SECONDS / ((await advance(session, 5)) / 5));
    const held: number[] = [];
    for (let i = 0; i < times; i++) {
      const plain = await advance(session, steps);
      const start = performance.now();
      await writer.write('interval');
      await advance(session, steps);
      held.push(performance.now() - start - 1000 * plain);
      await writer.done();
    }
    const processor: number[] = [];
    for (let i = 0; i < times; i++) {
      await sleep(IDLE_MS);
      const before = process.cpuUsage();
      await writer.write('interval');
      await writer.done();
      const { user, system } = process.cpuUsage(before);
      processor.push((user + system) / 1000);
    }
    const { path } = (await store.list())[0]!;
    const files = readdirSync(path).map((name) => statSync(join(path, name)).size);
    return {
      pause: 1000 * spread(events.map(({ pauseSeconds }) => pauseSeconds)).median,
      held: spread(held).median,
      written: 1000 * spread(events.map(({ seconds }) => seconds)).median,
      processor: spread(processor).median,
      bytes: files.reduce((sum, size) => sum + size, 0),
    };
  });
}

/** Milliseconds from building the model to the end of the first step after the checkpoint. */
export function measureResume(side: CheckpointedSide): Promise<Answer> {
  return inFolder(async (store) => {
    const writer = makeWriter(side, store);
    await writer.write('interval');
    await writer.done();
    const newest = (await store.list())[0]!;
    const start = performance.now();
    const checkpoint = await store.load(newest.path);
    const model = makeModel(side.setting);
    const { session } = await openSession(side.setting, side.config, model, {
      variant: side.variant,
      saved: checkpoint.state.parts,
    });
    await model.loadWeights(join(checkpoint.path, MODEL_FILE));
    const optimizer = await store.optimizer(checkpoint);
    session.restore(optimizer, checkpoint.state.step);
    for (const tensor of Object.values(optimizer)) tensor.dispose();
    await side.advance(session, 1);
    const milliseconds = performance.now() - start;
    session.dispose();
    model.dispose();
    return { milliseconds };
  });
}
