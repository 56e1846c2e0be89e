/**
 * `--nproc N`: starts the same command N times on this machine, each with its place in torchrun's environment
 * variables, and sees that they end together. Rank 0 has the terminal, the others a log each. This process computes
 * nothing.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, promises as fs } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';

import { TrainError } from '../errors.js';
import { makeFolders } from '../io/folders.js';
import { writeError } from '../io/write_error.js';
import type { Note } from './launched.js';

/** How long the others may take to notice by themselves that one is gone. */
const GRACE_MS = 5000;
const TAIL_LINES = 15;
/** How often to try where somebody else took the port between its choice and its use. */
const ATTEMPTS = 3;
/** What an interrupted run ends with, and by what it was interrupted. */
const INTERRUPTED: ReadonlyMap<number | null, NodeJS.Signals> = new Map([
  [130, 'SIGINT'],
  [143, 'SIGTERM'],
]);

export interface LaunchOptions {
  processes: number;
  /** For `rank-N.log`; made if need be. */
  folder: string;
  /** What to run: arguments of node. Default: this very command. */
  args?: readonly string[];
  /** How long the others may go on once one has failed. Default 5000. */
  graceMs?: number;
  /** Default: one that is free. Another one is tried where it is taken by then. */
  port?: number;
}

interface Ended {
  rank: number;
  code: number | null;
  signal: NodeJS.Signals | null;
  /** It ended because another one was gone. */
  lost: boolean;
  /** This process killed it. */
  killed: boolean;
}

export interface LaunchResult {
  exitCode: number;
  /** Of the process that failed first, if that was not rank 0, which tells it itself. */
  error: TrainError | null;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Where rank N > 0 writes what it would print. */
export function rankLog(folder: string, rank: number): string {
  return path.join(folder, `rank-${rank}.log`);
}

export async function launch(options: LaunchOptions): Promise<LaunchResult> {
  const { folder } = options;
  await makeFolders(folder).catch((error: unknown) => {
    throw writeError(error, folder);
  });
  for (let attempt = 1; ; attempt++) {
    const port = (attempt === 1 ? options.port : undefined) ?? (await freePort());
    const group = new LaunchedGroup(options, port);
    const ended = await group.end();
    if (!group.portTaken || attempt === ATTEMPTS) return await verdict(ended, folder, group.interruptedBy);
  }
}

/** The processes of one attempt. */
class LaunchedGroup {
  /** Rank 0 could not listen. */
  portTaken = false;
  /** The first signal that was passed on. */
  interruptedBy: NodeJS.Signals | null = null;
  private readonly children: ChildProcess[] = [];
  private readonly lost = new Set<number>();
  private readonly writing = new Set<number>();
  private readonly killed = new Set<number>();
  private readonly graceMs: number;
  private timer: NodeJS.Timeout | null = null;
  /** Who is left has had its time. */
  private over = false;

  constructor({ processes, folder, args, graceMs = GRACE_MS }: LaunchOptions, port: number) {
    this.graceMs = graceMs;
    const command = args ?? [...process.execArgv, ...process.argv.slice(1)];
    const common = {
      ...process.env,
      WORLD_SIZE: String(processes),
      LOCAL_WORLD_SIZE: String(processes),
      MASTER_ADDR: '127.0.0.1',
      MASTER_PORT: String(port),
      // Others that come to this port by chance are not taken for ours.
      FORNAX_LAUNCHED: randomUUID(),
    };
    for (let rank = 0; rank < processes; rank++) {
      const env = { ...common, RANK: String(rank), LOCAL_RANK: String(rank) };
      this.children.push(start(command, env, rank === 0 ? null : rankLog(folder, rank)));
    }
  }

  /** Waits for all. In the order in which they ended. Once one has failed, the others have little time left. */
  async end(): Promise<Ended[]> {
    const forward = (signal: NodeJS.Signals): void => {
      this.interruptedBy ??= signal;
      for (const child of this.children) child.kill(signal);
    };
    process.on('SIGINT', forward).on('SIGTERM', forward);
    try {
      const ended: Ended[] = [];
      await Promise.all(this.children.map((child, rank) => this.follow(child, rank, ended)));
      return ended;
    } finally {
      process.off('SIGINT', forward).off('SIGTERM', forward);
      if (this.timer) clearTimeout(this.timer);
    }
  }

  private follow(child: ChildProcess, rank: number, ended: Ended[]): Promise<void> {
    child.on('message', (note) => this.take(note as Note, rank));
    return new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.writing.delete(rank);
        const killed = this.killed.has(rank) && signal === 'SIGKILL';
        ended.push({ rank, code, signal, lost: this.lost.has(rank), killed });
        // The others end before rank 0, which still evaluates, or writes the checkpoint of an interruption. Once
        // rank 0 has ended, those that are left wait for nothing.
        const inOrder = code === 0 || (this.interruptedBy !== null && INTERRUPTED.has(code));
        if (!inOrder || rank === 0) this.hurry();
        resolve();
      };
      child.once('exit', end);
      child.once('error', () => end(1, null));
    });
  }

  private take(note: Note, rank: number): void {
    if (note === 'lost the others') this.lost.add(rank);
    else if (note === 'port is taken') this.portTaken = true;
    else if (note === 'writing') this.writing.add(rank);
    else if (note === 'written') {
      this.writing.delete(rank);
      // It has to come to its end now.
      if (this.over) this.timer = setTimeout(() => this.killRest(), this.graceMs);
    }
  }

  private hurry(): void {
    this.timer ??= setTimeout(() => this.killRest(), this.portTaken ? 0 : this.graceMs);
  }

  /** Who writes a checkpoint is killed later, however long that takes: what it holds is the run. */
  private killRest(): void {
    this.over = true;
    for (const [rank, child] of this.children.entries()) {
      if (this.writing.has(rank) || child.exitCode !== null || child.signalCode !== null) continue;
      this.killed.add(rank);
      child.kill('SIGKILL');
    }
  }
}

/** In a group of its own: Ctrl-C in the terminal reaches this process alone, which passes it on once. */
function start(args: readonly string[], env: NodeJS.ProcessEnv, log: string | null): ChildProcess {
  if (log === null) {
    return spawn(process.execPath, args, {
      env,
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }
  const file = openSync(log, 'w');
  try {
    return spawn(process.execPath, args, { env, detached: true, stdio: ['ignore', file, file, 'ipc'] });
  } finally {
    closeSync(file);
  }
}

async function verdict(
  ended: readonly Ended[],
  folder: string,
  interruptedBy: NodeJS.Signals | null,
): Promise<LaunchResult> {
  // Before its handlers are there, a signal ends a process like any other.
  const interrupted = ({ code, signal }: Ended): boolean =>
    INTERRUPTED.has(code) || (signal !== null && signal === interruptedBy);
  const failed = ended.filter(({ code, killed }) => code !== 0 && !killed);
  const own = failed.filter((end) => !end.lost && !interrupted(end));
  // What all find wrong, rank 0 has told already.
  const culprit =
    own.find(({ signal }) => signal !== null) ??
    own.find(({ rank }) => rank === 0) ??
    own[0] ??
    failed.find(interrupted) ??
    failed[0];
  if (!culprit) return { exitCode: 0, error: null };
  const { rank, code, signal } = culprit;
  if (interrupted(culprit)) {
    const first = ended.find((end) => end.rank === 0)!;
    if (first.killed) return { exitCode: 1, error: killedFirst(culprit) };
    const by = interruptedBy ?? INTERRUPTED.get(interrupted(first) ? first.code : code);
    return { exitCode: by === 'SIGINT' ? 130 : 143, error: null };
  }
  const exitCode = code ?? 1;
  if (rank === 0 && signal === null) return { exitCode, error: null };
  const how = signal === null ? `ended with exit code ${exitCode}` : `was killed by ${signal}`;
  const log = rankLog(folder, rank);
  const tail = rank === 0 ? '' : await lastLines(log);
  return {
    exitCode,
    error: new TrainError({
      what:
        `the process of rank ${rank} ${how}; the others were stopped` +
        (tail === '' ? '' : `. Its last lines:\n${tail}`),
      ...(rank === 0 ? {} : { where: log }),
      fix: 'remove the cause, then go on from the last checkpoint with --resume',
    }),
  };
}

function killedFirst({ rank }: Ended): TrainError {
  return new TrainError({
    what: `the process of rank ${rank} was interrupted, rank 0 did not end, and was killed without a checkpoint of this place`,
    fix: 'go on from the last checkpoint with --resume',
  });
}

async function lastLines(file: string): Promise<string> {
  const text = await fs.readFile(file, 'utf8').catch(() => '');
  const lines = text.trimEnd().split('\n').slice(-TAIL_LINES);
  return lines
    .filter((line) => line !== '')
    .map((line) => `  | ${line}`)
    .join('\n');
}
