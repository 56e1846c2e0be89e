/**
 * SIGKILL at any moment: before the first step, during steps, checkpoints, evaluations, the recomputation of batch
 * norm and the end of a run. Resumed, runs of all kinds must come to the very same as runs that nobody disturbed.
 * FORNAX_KILLS: how many kills (default 20); FORNAX_KILL_SEED: at which moments (default 1; `npm run test:kill` draws
 * one).
 */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { temporaryFolder, writeColourFolder } from './support/image_folder.js';
import { goOn, PHASES, type Aim, type Phase } from './support/kill_runs.js';
import { killJob, SCENARIOS, type KillJob } from './support/kill_scenarios.js';
import { random as integers } from './support/random.js';
import { assertSameRun } from './support/same_run.js';

const KILLS = Number(process.env['FORNAX_KILLS'] ?? 20);
const SEED = Number(process.env['FORNAX_KILL_SEED'] ?? 1);
/** Children at a time. */
const LANES = 2;
/** What the kills in a row are aimed at. */
const AIMS: readonly Phase[] = [
  ...(['steps', 'checkpoint', 'batch norm', 'evaluation', 'checkpoint', 'steps', 'finish'] as const),
  ...(['checkpoint', 'opening', 'evaluation', 'batch norm', 'steps', 'checkpoint'] as const),
];

/** A kind of run, killed again and again. */
class Victim {
  readonly hits: Partial<Record<Phase, number>> = {};
  /** How often it came to its end and was compared. */
  finished = 0;
  private readonly draw: (below: number) => number;

  constructor(
    readonly scenario: string,
    private readonly index: number,
    private readonly root: string,
  ) {
    this.draw = integers(SEED * 64 + index);
  }

  /** Share of 1. */
  private random(): number {
    return this.draw(1 << 30) / (1 << 30);
  }

  private folder(kind: 'killed' | 'straight'): string {
    return path.join(this.root, kind, `run${this.index}`);
  }

  job(kind: string, workers: number): KillJob {
    const [images, cache, dir] = ['images', 'cache', kind].map((name) => path.join(this.root, name));
    const places = { images: images!, cache: cache!, dir: dir! };
    return killJob(this.scenario, `run${this.index}`, places, workers);
  }

  /** Goes on with the run, and compares it if it comes to its end. */
  private async goOn(aim: Aim | null): Promise<Phase | null> {
    const workers = 1 + Math.floor(3 * this.random());
    const hit = await goOn(this.job('killed', workers), aim);
    if (hit !== null) return hit;
    try {
      await assertSameRun(this.folder('killed'), this.folder('straight'));
    } catch (error) {
      throw new Error(`"${this.scenario}" with FORNAX_KILL_SEED=${SEED}`, { cause: error });
    }
    this.finished++;
    await fs.rm(this.folder('killed'), { recursive: true });
    return null;
  }

  async kill(wanted: Phase): Promise<void> {
    const recomputes = Boolean(SCENARIOS[this.scenario]!.train.bnRecompute);
    const phase = wanted === 'batch norm' && !recomputes ? 'evaluation' : wanted;
    const once = phase === 'batch norm' || phase === 'finish' || phase === 'opening';
    const visit = once ? 1 : 1 + Math.floor(2 * this.random());
    let hit: Phase | null = null;
    // Where fewer visits were left the run has come to its end, and the next one begins. On a busy machine a short part
    // may be over before this process has heard of it.
    for (let attempt = 0; hit === null; attempt++) {
      assert.ok(attempt < 8, `"${this.scenario}" is never killed in ${phase}`);
      hit = await this.goOn({
        phase,
        visit: attempt === 0 ? visit : 1,
        delay: attempt < 2 ? this.random() * this.random() : null,
      });
    }
    this.hits[hit] = (this.hits[hit] ?? 0) + 1;
  }

  /** To the end, after the last kill. */
  async finish(): Promise<void> {
    assert.equal(await this.goOn(null), null);
  }
}

/** How often each was killed in each part, and how often compared. */
function table(victims: readonly Victim[]): string[] {
  const row = (cells: readonly (string | number)[], name: string): string =>
    cells.map((cell) => String(cell).padStart(11)).join('') + `  ${name}`;
  const sum = (of: (victim: Victim) => number): number => victims.reduce((all, one) => all + of(one), 0);
  return [
    row([...PHASES, 'compared'], 'killed in …'),
    ...victims.map(({ hits, finished, scenario }) =>
      row([...PHASES.map((phase) => hits[phase] ?? 0), finished], scenario),
    ),
    row(
      [...PHASES.map((phase) => sum(({ hits }) => hits[phase] ?? 0)), sum(({ finished }) => finished)],
      'all',
    ),
  ];
}

test(`runs killed ${KILLS} times end as if nothing had happened`, { timeout: 7_200_000 }, async (t) => {
  t.diagnostic(`FORNAX_KILL_SEED=${SEED}`);
  await using root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'images'), { train: 20, val: 40 });
  const victims = Object.keys(SCENARIOS).map((scenario, index) => new Victim(scenario, index, root.path));
  // Who decodes the images says so in its log: nobody whose log is compared.
  await goOn(victims[0]!.job('first', 1), null);
  const left = [...victims.entries()];
  const lane = async (): Promise<void> => {
    for (let next = left.shift(); next; next = left.shift()) {
      const [index, victim] = next;
      await goOn(victim.job('straight', 1), null);
      for (let kill = index; kill < KILLS; kill += victims.length)
        await victim.kill(AIMS[kill % AIMS.length]!);
      await victim.finish();
    }
  };
  // All of them come to their end before the folder is removed.
  const lanes = await Promise.allSettled(Array.from({ length: LANES }, lane));
  for (const result of lanes) if (result.status === 'rejected') throw result.reason;
  for (const line of table(victims)) t.diagnostic(line);
  const kills = victims.flatMap(({ hits }) => Object.values(hits)).reduce((all, one) => all + one, 0);
  assert.equal(kills, KILLS);
});
