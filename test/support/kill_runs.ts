/** Kills runs in the part that is asked for, and tells which part they were in. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { KillJob } from './kill_scenarios.js';

const child = fileURLToPath(new URL('./kill_child.js', import.meta.url));

/** Parts of a run, as the child marks their beginnings. */
export const PHASES = ['opening', 'steps', 'checkpoint', 'evaluation', 'batch norm', 'finish'] as const;
export type Phase = (typeof PHASES)[number];

/** How long a part lasted lately, ms: what a moment in it is drawn from. */
const lengths: Record<Phase, number> = {
  opening: 800,
  steps: 300,
  checkpoint: 30,
  evaluation: 50,
  'batch norm': 50,
  finish: 30,
};
const LONGEST_LENGTH = 5000;

/** Where a run is. Checkpoints are written while the rest goes on. */
class Whereabouts {
  private phase: Phase = 'opening';
  private saving = false;
  private readonly since: Partial<Record<Phase, number>> = {};
  readonly visits: Partial<Record<Phase, number>> = {};

  take(line: string): void {
    if (line === 'saved') {
      this.saving = false;
      this.left('checkpoint');
    } else if (line === 'checkpoint') {
      this.saving = true;
      this.entered('checkpoint');
    } else {
      this.left(this.phase);
      // What follows an evaluation is steps, or the end of the run.
      this.phase = line === 'evaluated' ? 'steps' : (line as Phase);
      this.entered(this.phase);
    }
  }

  get now(): Phase {
    return this.saving ? 'checkpoint' : this.phase;
  }

  private entered(phase: Phase): void {
    this.since[phase] = performance.now();
    this.visits[phase] = (this.visits[phase] ?? 0) + 1;
  }

  private left(phase: Phase): void {
    const since = this.since[phase];
    if (since === undefined) return;
    const length = Math.min(performance.now() - since, LONGEST_LENGTH);
    lengths[phase] = 0.7 * lengths[phase] + 0.3 * length;
  }
}

export interface Aim {
  phase: Phase;
  /** In its n-th visit, 1-based. */
  visit: number;
  /** Share of its usual length that passes before the kill. Null: the child kills itself as it comes there. */
  delay: number | null;
}

/**
 * Goes on with a run and kills it.
 *
 * @param aim null: let it come to its end.
 * @returns the part in which it was killed; null if it came to its end before.
 * @throws Error if it failed by itself.
 */
export async function goOn(job: KillJob, aim: Aim | null): Promise<Phase | null> {
  const run = spawn(process.execPath, [child], { stdio: ['pipe', 'pipe', 'pipe'] });
  const exit = once(run, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  let messages = '';
  run.stderr.setEncoding('utf8').on('data', (text: string) => (messages += text));
  const { phase, visit, delay } = aim ?? { phase: null, visit: 0, delay: 0 };
  const asked: KillJob = phase !== null && delay === null ? { ...job, killAt: { phase, visit } } : job;
  run.stdin.end(JSON.stringify(asked));
  const where = new Whereabouts();
  const over = listen(run, (line) => {
    where.take(line);
    if (phase !== null && delay !== null && line === phase && where.visits[phase] === visit) {
      void sleep(delay * lengths[phase]).then(() => run.kill('SIGKILL'));
    }
  });
  const [code, signal] = await exit;
  await over;
  if (signal === 'SIGKILL' && aim) return where.now;
  // It was over sooner than expected.
  if (aim && (where.visits[aim.phase] ?? 0) >= aim.visit) lengths[aim.phase] *= 0.7;
  if (code !== 0) throw new Error(`the child ended with ${code ?? signal}: ${messages}`);
  return null;
}

/** Until the stream ends. */
async function listen(run: ChildProcess, take: (line: string) => void): Promise<void> {
  const lines = createInterface({ input: run.stdout! });
  lines.on('line', take);
  await once(lines, 'close');
}
