/**
 * Checkpoints: each is a folder with the model, what else a resume needs as tensors, and state.json with the
 * checksums of both. It is written beside its place and committed by one rename, so that it is there as a whole or
 * not at all. The newest few and the best ones are kept; the newest regular one and the one a run was resumed from are
 * never removed.
 */
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';

import type { z } from 'zod';

import { TrainError } from '../errors.js';
import { fsync, removeFolderAtomically, sweepOrphans, writeFolderAtomically } from '../io/atomic.js';
import { fileSha256, readSafetensors, writeSafetensors, type WrittenFile } from '../io/safetensors.js';
import { writeError } from '../io/write_error.js';
import type { NativeTensor } from '../native/contract.js';
import { noCheckpoint } from './no_checkpoint.js';
import { fileSchema, STATE_VERSION, type BestRecord, type CheckpointState } from './checkpoint_state.js';

export type { BestRecord, CheckpointState, EpochRecord } from './checkpoint_state.js';

const FOLDER = /^step-(\d{8,})(?:-(\d+))?$/;
export const MODEL_FILE = 'model.safetensors';
export const OPTIMIZER_FILE = 'optimizer.safetensors';
const STATE_FILE = 'state.json';

export interface Checkpoint {
  path: string;
  state: CheckpointState;
}

export interface CheckpointContents {
  state: Omit<CheckpointState, 'version' | 'created'>;
  /** Writes the model to the given file, flushed to the disk. */
  saveModel(file: string): Promise<WrittenFile>;
  /** TrainSession.snapshot(); read, not disposed. */
  optimizer: Record<string, NativeTensor>;
  /** Steps whose checkpoints stay, however old: the best ones. */
  keptSteps: ReadonlySet<number>;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** @throws TrainError for books that no resume could read: then nothing is written, and older checkpoints stay. */
function requireReadable(state: CheckpointState, where: string): void {
  const parsed = fileSchema.shape.state.safeParse(JSON.parse(JSON.stringify(state)));
  if (parsed.success) return;
  const [issue] = parsed.error.issues;
  throw new TrainError({
    what: `the state of the run cannot be kept: ${issue!.path.join('.')}: ${issue!.message}`,
    where,
    fix: 'please report this as a bug; older checkpoints are as they were',
  });
}

/** The checkpoints of one run, in one folder. The caller holds the run's lock. */
export class CheckpointStore {
  private protectedPath: string | null = null;

  /**
   * @param folder is made when the first checkpoint is written.
   * @param options.keep how many of the newest to keep, at least 2 (one may turn out to be damaged).
   */
  constructor(
    readonly folder: string,
    private readonly options: { keep?: number } = {},
  ) {}

  /** Removes what an interrupted writer left. */
  async sweep(): Promise<string[]> {
    return sweepOrphans(this.folder, { all: true });
  }

  /** Paths, newest first. Nothing is read. */
  async list(): Promise<{ path: string; step: number }[]> {
    const names = await fs.readdir(this.folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return names
      .map((name) => ({ name, match: FOLDER.exec(name) }))
      .filter(({ match }) => match !== null)
      .map(({ name, match }) => ({
        path: path.join(this.folder, name),
        step: Number(match![1]),
        repeat: Number(match![2] ?? 0),
      }))
      .sort((a, b) => b.step - a.step || b.repeat - a.repeat)
      .map(({ path, step }) => ({ path, step }));
  }

  /** Writes and commits one, then removes those that are no longer kept. Returns its path. */
  async save(contents: CheckpointContents): Promise<string> {
    const target = await this.freePath(contents.state.step);
    const state: CheckpointState = {
      ...contents.state,
      version: STATE_VERSION,
      created: new Date().toISOString(),
    };
    requireReadable(state, target);
    try {
      await writeFolderAtomically(target, (folder) => this.fill(folder, state, contents), { flushed: true });
    } catch (error) {
      throw writeError(error, target);
    }
    await this.prune(contents.keptSteps);
    return target;
  }

  private async fill(folder: string, state: CheckpointState, contents: CheckpointContents): Promise<void> {
    const optimizer = Object.entries(contents.optimizer);
    const files = {
      [MODEL_FILE]: await contents.saveModel(path.join(folder, MODEL_FILE)),
      [OPTIMIZER_FILE]: await writeSafetensors(
        path.join(folder, OPTIMIZER_FILE),
        optimizer,
        {},
        { atomic: false },
      ),
    };
    const body = { state, files };
    const text = JSON.stringify({ sha256: sha256(JSON.stringify(body)), ...body });
    await fs.writeFile(path.join(folder, STATE_FILE), text + '\n', { flush: true });
  }

  /** A folder name for this step; a step may be written again (before and after its evaluation). */
  private async freePath(step: number): Promise<string> {
    const name = `step-${String(step).padStart(8, '0')}`;
    const taken = new Set((await this.list()).map((entry) => path.basename(entry.path)));
    let free = name;
    for (let repeat = 1; taken.has(free); repeat++) free = `${name}-${repeat}`;
    return path.join(this.folder, free);
  }

  /**
   * Reads and verifies one checkpoint: every file is there and has its checksum.
   *
   * @throws TrainError saying what is wrong with it.
   */
  async load(folder: string): Promise<Checkpoint> {
    const damaged = (what: string, cause?: unknown): TrainError =>
      new TrainError({
        what: `the checkpoint is damaged: ${what}`,
        where: folder,
        fix: 'use an older checkpoint, or start over with --force',
        cause,
      });
    let parsed: z.infer<typeof fileSchema>;
    let body: { state: unknown; files: unknown };
    try {
      const json = JSON.parse(await fs.readFile(path.join(folder, STATE_FILE), 'utf8')) as typeof body;
      const version = (json as { state?: { version?: unknown } }).state?.version;
      if (typeof version === 'number' && version > STATE_VERSION) {
        throw new TrainError({
          what: `the checkpoint has format version ${version}; this Fornax reads up to ${STATE_VERSION}`,
          where: folder,
          fix: 'resume with the version of Fornax that wrote it, or a newer one',
        });
      }
      parsed = fileSchema.parse(json);
      body = { state: json.state, files: json.files };
    } catch (error) {
      if (error instanceof TrainError) throw error;
      throw damaged(`${STATE_FILE} cannot be read (${(error as Error).message.split('\n')[0]})`, error);
    }
    if (sha256(JSON.stringify(body)) !== parsed.sha256)
      throw damaged(`${STATE_FILE} does not have its checksum`);
    for (const name of [MODEL_FILE, OPTIMIZER_FILE]) {
      const expected = parsed.files[name];
      if (!expected) throw damaged(`${STATE_FILE} does not list ${name}`);
      const file = path.join(folder, name);
      const stat = await fs.stat(file).catch(() => null);
      if (!stat) throw damaged(`${name} is missing`);
      if (stat.size !== expected.bytes)
        throw damaged(`${name} has ${stat.size} bytes instead of ${expected.bytes}`);
      if ((await fileSha256(file)) !== expected.sha256) throw damaged(`${name} does not have its checksum`);
    }
    return { path: folder, state: parsed.state };
  }

  /** The tensors of a checkpoint's optimizer file. */
  async optimizer(checkpoint: Checkpoint): Promise<Record<string, NativeTensor>> {
    const { tensors } = await readSafetensors(path.join(checkpoint.path, OPTIMIZER_FILE));
    return Object.fromEntries(tensors);
  }

  /**
   * The newest checkpoint that is whole, or null if there are none at all. From now on it is never removed.
   *
   * @param warn is told of each damaged one that was passed over.
   * @throws TrainError if there are checkpoints but every one is damaged.
   */
  async newest(warn: (message: string) => void): Promise<Checkpoint | null> {
    const entries = await this.list();
    let last: unknown;
    for (const entry of entries) {
      try {
        const checkpoint = await this.load(entry.path);
        this.protectedPath = checkpoint.path;
        return checkpoint;
      } catch (error) {
        if (!(error instanceof TrainError)) throw error;
        last = error;
        warn(`${error.what}; falling back to an older one (${entry.path})`);
      }
    }
    if (entries.length === 0) return null;
    throw new TrainError({
      what: `none of the ${entries.length} checkpoints is whole`,
      where: this.folder,
      fix: 'start over with --force',
      cause: last,
    });
  }

  /**
   * The checkpoint that somebody chose, of this run or of another one. One of this run is never removed from now on.
   *
   * @throws TrainError if there is none, or it is damaged.
   */
  async open(folder: string): Promise<Checkpoint> {
    const absolute = path.resolve(folder);
    if (!existsSync(path.join(absolute, STATE_FILE))) throw await noCheckpoint(absolute);
    const checkpoint = await this.load(absolute);
    if (this.owns(checkpoint)) this.protectedPath = checkpoint.path;
    return checkpoint;
  }

  /** Whether it is one of this run's. */
  owns(checkpoint: Checkpoint): boolean {
    return path.dirname(path.resolve(checkpoint.path)) === path.resolve(this.folder);
  }

  /**
   * Takes those newer than `checkpoint` out of the way, so that they are not taken for a continuation of it. They
   * are renamed, not removed.
   *
   * @returns their new paths.
   */
  async setAsideNewerThan(checkpoint: Checkpoint): Promise<string[]> {
    const entries = await this.list();
    const position = entries.findIndex((entry) => path.resolve(entry.path) === path.resolve(checkpoint.path));
    const renamed: string[] = [];
    for (const entry of entries.slice(0, Math.max(0, position))) {
      let target = `${entry.path}.superseded`;
      for (let repeat = 1; existsSync(target); repeat++) target = `${entry.path}.superseded-${repeat}`;
      await fs.rename(entry.path, target);
      renamed.push(target);
    }
    if (renamed.length > 0) await fsync(this.folder);
    return renamed;
  }

  /** The checkpoint of the best epoch, as recorded in `best`; null if it is gone or damaged. */
  async best(best: BestRecord | null): Promise<Checkpoint | null> {
    if (!best) return null;
    for (const entry of await this.list()) {
      if (entry.step !== best.step) continue;
      const checkpoint = await this.load(entry.path).catch(() => null);
      if (checkpoint) return checkpoint;
    }
    return null;
  }

  /** Whether every course of the run has it; what cannot be read is not. */
  private async isRegular(folder: string): Promise<boolean> {
    const text = await fs.readFile(path.join(folder, STATE_FILE), 'utf8').catch(() => '{}');
    try {
      const { regular, epoch_step: epochStep } = (JSON.parse(text) as { state: CheckpointState }).state;
      return regular ?? epochStep === 0;
    } catch {
      return false;
    }
  }

  private async prune(keptSteps: ReadonlySet<number>): Promise<void> {
    const keep = Math.max(2, this.options.keep ?? 2);
    const entries = await this.list();
    let regular = false;
    for (const [i, { path, step }] of entries.entries()) {
      // A rollback goes there.
      const newestRegular: boolean = !regular && (await this.isRegular(path));
      regular ||= newestRegular;
      // Of a step that was written twice the newer one counts.
      const newer = entries[i - 1]?.step === step;
      if (i < keep || newestRegular || path === this.protectedPath || (keptSteps.has(step) && !newer))
        continue;
      await removeFolderAtomically(path);
    }
  }
}
