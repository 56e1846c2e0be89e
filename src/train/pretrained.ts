/** The weights a run starts from, as its config names them. */
import type { Config } from '../config/schema.js';
import type { Model } from '../model.js';
import { everyTenth } from '../weights/download.js';
import { loadPretrained } from '../weights/pretrained.js';
import { resolveWeights, type ResolvedWeights } from '../weights/resolve.js';
import type { Report } from './events.js';

/** The file that `model.pretrained` means; fetched if need be. Null if it names none. */
export async function findPretrained(
  { name, pretrained, weightsDir }: Config['model'],
  report: Report,
  signal: AbortSignal | undefined,
): Promise<ResolvedWeights | null> {
  if (pretrained === null) return null;
  const say = (message: string): void => report({ type: 'info', message });
  return resolveWeights(pretrained, name, {
    folder: weightsDir,
    onMessage: say,
    onProgress: everyTenth((text) => say(`Weights: ${text}`)),
    signal,
  });
}

/** Loads it, and says what was done. */
export async function startFrom(
  model: Model,
  weights: ResolvedWeights,
  strict: boolean,
  report: Report,
): Promise<void> {
  const { messages } = await loadPretrained(model.native, model.graph, weights, {
    strict,
    unstrict: 'model.pretrained_strict: false',
  });
  for (const message of messages) report({ type: 'info', message });
}
