/** Weights from a file into a model: found, translated, checked, and read straight into the model's memory. */
import { WeightsError } from '../errors.js';
import { escapeControlCharacters } from '../io/control_characters.js';
import type { NativeGraph } from '../native/contract.js';
import type { GraphParameter } from '../graph/format.js';
import { fitWeights, type FitOptions } from './fit.js';
import { readWeights } from './read_weights.js';
import type { WeightsFormat } from './tensor_directory.js';

export interface LoadWeightsOptions extends FitOptions {
  /** Default true: names and shapes must match exactly; false: what fits is loaded. */
  strict?: boolean;
  /** How the caller's user switches strictness off, for errors. Default `strict: false`. */
  unstrict?: string;
  /** Take the state dict under this key of a checkpoint (`model_ema`), instead of looking for it. */
  key?: string;
}

export interface LoadWeightsReport {
  /** Names of the model that the file lacks. */
  missing: string[];
  /** Names of the file that the model lacks. */
  unexpected: string[];
  /** `name: model [64, 3, 7, 7], given [64, 1, 7, 7]`. */
  mismatched: string[];
  /** Tensors of the classifier left as they were drawn, since only the number of classes differs. */
  replaced: string[];
  /** Tensors that were loaded. */
  loaded: number;
  format: WeightsFormat;
  /** Everything that was done beyond loading names as they stand, in sentences. */
  notes: string[];
}

const MAX_LISTED = 12;

function list(title: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const more = names.length > MAX_LISTED ? `\n    … and ${names.length - MAX_LISTED} more` : '';
  const shown = names
    .slice(0, MAX_LISTED)
    .map((name) => `\n    ${escapeControlCharacters(name.slice(0, 200))}`);
  return `\n  ${title} (${names.length}):${shown.join('')}${more}`;
}

/** Of a vision transformer whose position embedding alone is of another grid: the option that makes it fit. */
function positionsFor(
  given: readonly { name: string; shape: readonly number[] }[],
  model: ReadonlyMap<string, readonly number[]>,
): string | null {
  const differing = given.filter(({ name, shape }) => {
    const target = model.get(name);
    return target !== undefined && target.join() !== shape.join();
  });
  const [first] = differing;
  const patch = model.get('conv_proj.weight')?.[2];
  const side = Math.sqrt((first?.shape[1] ?? 0) - 1);
  if (differing.length !== 1 || !first!.name.endsWith('pos_embedding')) return null;
  if (patch === undefined || !Number.isInteger(side)) return null;
  return `these positions are for images of ${side * patch} pixels: set the option image_size (imageSize) to ${side * patch}; other sizes are interpolated from it`;
}

/**
 * Loads a file into a graph's state.
 *
 * @throws WeightsError if the file cannot be read, if nothing in it fits, or, if strict, listing what does not.
 */
export async function loadWeightsInto(
  native: NativeGraph,
  parameters: readonly GraphParameter[],
  file: string,
  options: LoadWeightsOptions = {},
): Promise<LoadWeightsReport> {
  const { strict = true, unstrict = 'strict: false', key, ...fit } = options;
  const directory = await readWeights(file, key === undefined ? {} : { key });
  const fitted = fitWeights(directory, parameters, fit);
  const model = new Map(parameters.map(({ name, shape }) => [name, shape]));
  const wanted = fitted.tensors.filter(({ name }) => model.has(name));
  const fitting = wanted.filter(({ name, shape }) => shape.join() === model.get(name)!.join());
  const fits = new Set(fitting.map(({ name }) => name));
  const given = new Set(wanted.map(({ name }) => name));
  const excused = new Set([...fitted.derived, ...fitted.replaced]);
  const skipped = directory.skipped.filter(({ reason }) => reason !== 'it is no tensor');
  const report: LoadWeightsReport = {
    missing: [...model.keys()].filter((name) => !given.has(name) && !excused.has(name)),
    unexpected: [
      ...fitted.tensors
        .filter(({ name }) => !model.has(name))
        .map(({ name }) => fitted.renamed.get(name) ?? name),
      ...skipped.map(({ name, reason }) => `${name}: ${reason}`),
    ],
    mismatched: wanted
      .filter(({ name }) => !fits.has(name))
      .map(
        ({ name, shape }) => `${name}: model [${model.get(name)!.join(', ')}], given [${shape.join(', ')}]`,
      ),
    replaced: fitted.replaced,
    loaded: fitting.length,
    format: directory.format,
    notes: fitted.notes,
  };
  if (wanted.length === 0) {
    const some = directory.tensors.slice(0, 3).map(({ name }) => `'${name.slice(0, 80)}'`);
    throw new WeightsError({
      what: escapeControlCharacters(
        `none of the tensors in the file has the name of a parameter of this model; it holds ${some.join(', ') || 'none'}`,
      ),
      where: file,
      fix: 'check that the weights belong to this architecture',
    });
  }
  const differs = report.missing.length + report.unexpected.length + report.mismatched.length > 0;
  if (strict && differs) {
    throw new WeightsError({
      what:
        'the weights do not fit the model' +
        list('missing', report.missing) +
        list('unexpected', report.unexpected) +
        list('of another shape', report.mismatched),
      where: file,
      fix:
        positionsFor(wanted, model) ??
        `load weights of the same architecture, or pass ${unstrict} to load what fits`,
    });
  }
  if (strict && fitted.caveat !== null) {
    throw new WeightsError({
      what: `the names fit, but the models differ: ${fitted.caveat}`,
      where: file,
      fix: `pass ${unstrict} to start a training from these weights nevertheless`,
    });
  }
  await native.loadFile(file, fitting, { strict: false });
  return report;
}
