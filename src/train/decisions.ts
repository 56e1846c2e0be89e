/**
 * decisions.json of a run: what was found out by timing before its first step and must stay so that a run which
 * begins again computes the same. Once there is a checkpoint, that counts.
 */
import { promises as fs } from 'node:fs';

import { z } from 'zod';

import { writeFileAtomic } from '../io/atomic.js';
import { refusedWrite } from '../io/write_error.js';
import type { Model } from '../model.js';
import { comparedConfig, configDifferences } from './resume.js';
import type { RunConfig } from './training_run_types.js';

const decisionsSchema = z.object({
  config: z.record(z.string(), z.unknown()),
  graph_hash: z.string(),
  /** Parts of `RunState`. */
  parts: z.record(z.string(), z.unknown()),
});
export type Decisions = z.infer<typeof decisionsSchema>;

/** Those of an earlier beginning with settings that compute the same; null without such. */
export async function readDecisions(file: string, config: RunConfig): Promise<Decisions | null> {
  const text = await fs.readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    const decisions = decisionsSchema.parse(JSON.parse(text));
    return configDifferences(decisions.config, comparedConfig(config)).length === 0 ? decisions : null;
  } catch {
    return null; // Measured anew.
  }
}

/** The parts, if they were decided for this model. */
export function decisionsFor(decisions: Decisions | null, model: Model): Decisions['parts'] | undefined {
  return decisions?.graph_hash === model.graphHash() ? decisions.parts : undefined;
}

/** Writes the parts; without any, removes the file that an earlier run may have left. */
export async function writeDecisions(
  file: string,
  parts: Decisions['parts'],
  { config, model }: { config: RunConfig; model: Model },
): Promise<void> {
  if (Object.keys(parts).length === 0) {
    await fs.rm(file, { force: true }).catch((error: unknown) => {
      throw refusedWrite(error, file);
    });
    return;
  }
  const decisions: Decisions = { config: comparedConfig(config), graph_hash: model.graphHash(), parts };
  await writeFileAtomic(file, JSON.stringify(decisions, null, 2) + '\n');
}
