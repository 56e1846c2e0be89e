/**
 * `--nproc N`: starts the same command N times on this machine, each with its place in torchrun's environment
 * variables, and sees that they end together. Rank 0 has the terminal, the others a log each. This process computes
 * nothing.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, promises as fs } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';

import { TrainError } from '../errors.js';
import { makeFolders } from '../io/folders.js';
import { writeError } from '../io/write_error.js';

/** How long the others may take to notice by themselves that one is gone. */
const GRACE_MS = 5000;
const TAIL_LINES = 15;
/** What an interrupted run ends with. */
const INTERRUPTED: readonly (number | null)[] = [130, 143];

export interface LaunchOptions {
  processes: number;
  /** For `rank-N.log`; made if need be. */
  folder: string;
  /** What to run: arguments of node. Default: this very command. */
  args?: readonly string[];
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
  const { processes, folder } = options;
  await makeFolders(folder).catch((error: unknown) => {
    throw writeError(error, folder);
  });
  const args = options.args ?? [...process.execArgv, ...process.argv.slice(1)];
  const common = {
    ...process.env,
    WORLD_SIZE: String(processes),
    LOCAL_WORLD_SIZE: String(processes),
    MASTER_ADDR: '127.0.0.1',
    MASTER_PORT: String(await freePort()),
    FORNAX_LAUNCHED: '1',
  };
  const children: ChildProcess[] = [];
  for (let rank = 0; rank < processes; rank++) {
    const env = { ...common, RANK: String(rank), LOCAL_RANK: String(rank) };
    children.push(start(args, env, rank === 0 ? null : rankLog(folder, rank)));
  }
  const forward = (signal: NodeJS.Signals): void => {
    for (const child of children) child.kill(signal);
  };
  process.on('SIGINT', forward).on('SIGTERM', forward);
  try {
    return await verdict(await allEnd(children), folder);
  } finally {
    process.off('SIGINT', forward).off('SIGTERM', forward);
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

/** In the order in which they ended. Once one has failed, the others have little time left. */
async function allEnd(children: readonly ChildProcess[]): Promise<Ended[]> {
  const ended: Ended[] = [];
  const lost = new Set<number>();
  let killed = false;
  let timer: NodeJS.Timeout | null = null;
  const killAll = (): void => {
    killed = true;
    for (const child of children) child.kill('SIGKILL');
  };
  const all = children.map(
    (child, rank) =>
      new Promise<void>((resolve) => {
        const end = (code: number | null, signal: NodeJS.Signals | null): void => {
          ended.push({ rank, code, signal, lost: lost.has(rank), killed: killed && signal === 'SIGKILL' });
          // Rank 0 goes on alone after the last epoch; where it has ended, no other has anything to do.
          if (code !== 0 || rank === 0) timer ??= setTimeout(killAll, GRACE_MS);
          resolve();
        };
        child.on('message', (message) => {
          if (message === LOST_OTHERS) lost.add(rank);
        });
        child.once('exit', end);
        child.once('error', () => end(1, null));
      }),
  );
  await Promise.all(all);
  if (timer) clearTimeout(timer);
  return ended;
}

async function verdict(ended: readonly Ended[], folder: string): Promise<LaunchResult> {
  const failed = ended.filter(({ code, killed }) => code !== 0 && !killed);
  const own = failed.filter(({ lost }) => !lost);
  // What all find wrong, rank 0 has told already.
  const culprit =
    own.find(({ signal }) => signal !== null) ?? own.find(({ rank }) => rank === 0) ?? own[0] ?? failed[0];
  if (!culprit) return { exitCode: 0, error: null };
  const { rank, code, signal } = culprit;
  if (INTERRUPTED.includes(code)) {
    const first = ended.find((end) => end.rank === 0 && INTERRUPTED.includes(end.code));
    return { exitCode: first?.code ?? code!, error: null };
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

async function lastLines(file: string): Promise<string> {
  const text = await fs.readFile(file, 'utf8').catch(() => '');
  const lines = text.trimEnd().split('\n').slice(-TAIL_LINES);
  return lines
    .filter((line) => line !== '')
    .map((line) => `  | ${line}`)
    .join('\n');
}

/** What a process tells its launcher before it ends for want of the others. */
const LOST_OTHERS = 'lost the others';

/** In a process that was launched: it ends when its launcher does, however that came about. */
export function followLauncher(): void {
  if (process.env['FORNAX_LAUNCHED'] === undefined || !process.channel) return;
  process.on('disconnect', () => process.exit(1));
  process.channel.unref();
}

/** In a process that was launched: the error it ends with. */
export async function tellLauncher(error: unknown): Promise<void> {
  const lost = error instanceof TrainError && error.what.startsWith(CONNECTION_BROKE);
  if (!lost || !process.send) return;
  await new Promise<void>((resolve) => process.send!(LOST_OTHERS, undefined, {}, () => resolve()));
}

/** How the error of native/dist/process_group.cc begins. */
const CONNECTION_BROKE = 'the connection to another process of this training broke';
