/**
 * The folder of a run: `runs/<name>/` with config.yaml (resolved), events.jsonl, checkpoints/, model.safetensors
 * and summary.json. One process at a time may write to it.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  promises as fs,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import { stringify } from 'yaml';

import { toSnake } from '../config/case.js';
import { TrainError } from '../errors.js';
import { sweepOrphans, writeFileAtomic } from '../io/atomic.js';
import { makeFolders } from '../io/folders.js';
import { acquireLock, type Lock } from '../io/lock.js';
import { refusedWrite, writeError } from '../io/write_error.js';

/** Where the parts of a run lie. */
export function runPaths(folder: string): {
  config: string;
  events: string;
  checkpoints: string;
  model: string;
  previousModel: string;
  summary: string;
  decisions: string;
  lock: string;
} {
  return {
    config: path.join(folder, 'config.yaml'),
    events: path.join(folder, 'events.jsonl'),
    checkpoints: path.join(folder, 'checkpoints'),
    model: path.join(folder, 'model.safetensors'),
    previousModel: path.join(folder, 'model.previous.safetensors'),
    summary: path.join(folder, 'summary.json'),
    decisions: path.join(folder, 'decisions.json'),
    lock: path.join(folder, '.lock'),
  };
}

export class RunFolder {
  readonly paths: ReturnType<typeof runPaths>;
  private events: number | null = null;
  /** Records from before the log was opened. */
  private early: Record<string, unknown>[] = [];

  private constructor(
    readonly folder: string,
    private readonly lock: Lock,
    /** Folders that were not there before, outermost first. */
    private readonly made: readonly string[],
  ) {
    this.paths = runPaths(folder);
  }

  /**
   * Makes the folder if need be, locks it and sweeps what interrupted writers left.
   *
   * @throws TrainError if another process trains in it.
   */
  static async open(folder: string): Promise<RunFolder> {
    const absolute = path.resolve(folder);
    const made = await makeFolders(absolute).catch((error: unknown) => {
      throw writeError(error, absolute);
    });
    const lock = await acquireLock(runPaths(absolute).lock);
    if ('heldBy' in lock) {
      throw new TrainError({
        what: `another process trains in this run's folder (${lock.heldBy})`,
        where: absolute,
        fix: 'wait for it, stop it, or give this run another name (--set name=…)',
      });
    }
    try {
      await sweepOrphans(absolute, { all: true });
    } catch (error) {
      await lock.release();
      throw error;
    }
    return new RunFolder(absolute, lock, made);
  }

  /** Whether a training has begun here, which is when it opens the log. */
  get begun(): boolean {
    return this.events !== null;
  }

  async writeConfig(config: object): Promise<void> {
    const text = `# The resolved configuration of this run, written by Fornax.\n${stringify(toSnake(config))}`;
    await writeFileAtomic(this.paths.config, text);
  }

  async writeSummary(summary: object): Promise<void> {
    await writeFileAtomic(this.paths.summary, JSON.stringify(toSnake(summary), null, 2) + '\n');
  }

  /**
   * Opens the event log, cut back to `keepBytes` (0: empty), and writes what was appended so far.
   *
   * @returns how many bytes were cut off.
   */
  openLog(keepBytes: number): number {
    this.events = this.onLog(() => openSync(this.paths.events, 'a+'));
    const log = this.events;
    const present = fstatSync(log).size;
    if (keepBytes > present) {
      throw new TrainError({
        what: `the event log has ${present} bytes, but the checkpoint was written when it had ${keepBytes}`,
        where: this.paths.events,
        fix: 'restore the file, or start over with --force',
      });
    }
    this.onLog(() => ftruncateSync(log, keepBytes));
    for (const record of this.early.splice(0)) this.append(record);
    return present - keepBytes;
  }

  /** Appends one record to events.jsonl; before `openLog` it is kept until then. */
  append(record: Record<string, unknown>): void {
    const log = this.events;
    if (log === null) this.early.push(record);
    else this.onLog(() => appendWhole(log, JSON.stringify(record) + '\n'));
  }

  private onLog<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw refusedWrite(error, this.paths.events);
    }
  }

  /** Flushes the log to the disk and returns its size: what a checkpoint that is about to be written covers. */
  commitLog(): number {
    const log = this.events;
    if (log === null) return 0;
    this.onLog(() => fsyncSync(log));
    return fstatSync(log).size;
  }

  /**
   * Clears the folder for a run from the start (`--force`). Only what Fornax wrote goes; an existing model is kept
   * as model.previous.safetensors.
   */
  async clear(): Promise<void> {
    const { paths } = this;
    try {
      await fs.rename(paths.model, paths.previousModel).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      for (const name of [paths.checkpoints, paths.events, paths.summary, paths.decisions]) {
        await fs.rm(name, { recursive: true, force: true });
      }
    } catch (error) {
      throw refusedWrite(error, this.folder);
    }
  }

  /** Releases the lock. Folders that `open` made go again if nothing was written to them. */
  async close(): Promise<void> {
    const log = this.events;
    this.events = null;
    // Some file systems report only now that a write did not reach the disk: what counts was flushed before.
    if (log !== null) this.onLog(() => closeSync(log));
    await this.lock.release();
    for (const folder of this.made.toReversed()) {
      const gone = await fs.rmdir(folder).then(
        () => true,
        () => false, // It has contents.
      );
      if (!gone) break;
    }
  }
}

/** All of it or nothing: half a record at the end would spoil the log for its readers. */
function appendWhole(log: number, text: string): void {
  const before = fstatSync(log).size;
  try {
    // Goes on after a write that was cut short, which writeSync does not.
    writeFileSync(log, text);
  } catch (error) {
    try {
      ftruncateSync(log, before);
    } catch {
      // What was refused first is the error to tell.
    }
    throw error;
  }
}
