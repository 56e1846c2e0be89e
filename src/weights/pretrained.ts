/** `pretrained`: weights by path, address or name into a model, with everything said that was done. */
import type { NativeGraph } from '../native/contract.js';
import type { Graph } from '../graph/format.js';
import type { Preprocessing } from '../model/info.js';
import { readPreprocessing } from '../model/file.js';
import type { PublishedWeights } from '../models/published_weights.js';
import { loadWeightsInto, type LoadWeightsReport } from './load.js';
import type { ResolvedWeights, ResolveOptions } from './resolve.js';

export interface PretrainedOptions extends ResolveOptions {
  /** Default true: what differs, beyond the number of classes, is an error; false: what fits is loaded. */
  strict?: boolean;
  /** How the caller's user switches that off, for errors. Default `strict: false`. */
  unstrict?: string;
  /** The entry of a checkpoint that holds the weights (`model_ema`), instead of looking for it. */
  key?: string;
}

export interface PretrainedReport extends LoadWeightsReport {
  file: string;
  published: PublishedWeights | null;
  /** For people: what was loaded from where, and every liberty that was taken. */
  messages: string[];
}

/** Loads weights that were resolved before. A classifier of another size stays as it was drawn. */
export async function loadPretrained(
  native: NativeGraph,
  graph: Graph,
  { file, published }: ResolvedWeights,
  options: Pick<PretrainedOptions, 'strict' | 'unstrict' | 'key'> = {},
): Promise<PretrainedReport> {
  const report = await loadWeightsInto(native, graph.parameters, file, {
    strict: options.strict ?? true,
    replaceHead: true,
    ...(options.unstrict === undefined ? {} : { unstrict: options.unstrict }),
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(published ? { ignore: unbuilt(published, graph) } : {}),
  });
  const source = published ? `${published.file} (${published.publisher} ${published.name})` : file;
  const messages = [`Loaded ${report.loaded} of ${graph.parameters.length} tensors from ${source}`];
  for (const note of report.notes) messages.push(`Weights: ${note}`);
  const differing = [
    ['missing in the file, drawn anew', report.missing],
    ['of another shape, drawn anew', report.mismatched],
    ['not in the model, ignored', report.unexpected],
  ] as const;
  for (const [what, names] of differing) {
    if (names.length === 0) continue;
    const shown = names.slice(0, 6).join('; ') + (names.length > 6 ? '; …' : '');
    messages.push(`Weights: ${names.length} ${what}: ${shown}`);
  }
  return { ...report, file, published, messages };
}

/** Parts of a published file that this model was built without. */
function unbuilt({ ignore }: PublishedWeights, graph: Graph): RegExp[] {
  return ignore.filter((pattern) => !graph.parameters.some(({ name }) => pattern.test(name)));
}

/** The preprocessing that belongs to weights, as far as it is known. */
export async function pretrainedPreprocessing({
  file,
  published,
}: ResolvedWeights): Promise<Preprocessing | null> {
  if (published) return published.preprocessing;
  return /\.safetensors$/i.test(file) ? readPreprocessing(file) : null;
}
