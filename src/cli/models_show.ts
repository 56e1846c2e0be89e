/** Prints the layers and options of an architecture, or the layers of a model file. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { snakeKey } from '../config/case.js';
import { loadConfig } from '../config/load.js';
import { ArgumentError, ExecutionError, FornaxError, GuardError, UsageError } from '../errors.js';
import { formatSummary } from '../graph/format_summary.js';
import { summarizeStateless } from '../graph/stateless.js';
import type { Summary } from '../graph/summary.js';
import { trace } from '../graph/trace.js';
import { Model } from '../model.js';
import type { OptionSpec } from '../models/architecture.js';
import { describeOption } from '../models/options.js';
import { originOfWeights } from '../models/published_weights.js';
import { architectures, createModule, findArchitecture } from '../models/registry.js';
import { modelPath } from './model_path.js';
import type { ShowFlags } from './models.js';
import { table } from './terminal.js';

export async function showModel(name: string, flags: ShowFlags): Promise<void> {
  // The name of an architecture means it, also beside a run of that name: `./resnet18` is the run.
  const isModel =
    !architectures.some((one) => one.name === name) &&
    (/[/\\]/.test(name) || existsSync(name) || existsSync(join('runs', name)));
  process.stdout.write(isModel ? await describeFile(name, flags) : describeArchitecture(name, flags));
}

async function describeFile(path: string, flags: ShowFlags): Promise<string> {
  if (flags.classes !== undefined || flags.channels !== undefined || flags.set !== undefined) {
    throw new UsageError({
      what: '--classes, --channels and --set are for architectures; a model file has its own',
    });
  }
  using model = await Model.load(modelPath(path));
  const shapes = model.info.inputs.map(({ shape }) =>
    flags.resolution !== undefined && shape.length === 4
      ? [...shape.slice(0, 2), flags.resolution, flags.resolution]
      : shape,
  );
  return `${model.info.name}\n${model.summary(...shapes)}\n`;
}

/** `--set model.options.width=0.5`, checked as in a config. */
function optionsFrom(name: string, sets: readonly string[] = []): Record<string, unknown> {
  const other = sets.find((set) => !set.startsWith('model.options.'));
  if (other !== undefined) {
    throw new UsageError({
      what: `--set ${other}: only options of the architecture make sense here`,
      fix: 'for example --set model.options.width=0.5',
    });
  }
  return loadConfig({ sets: [`model.name=${JSON.stringify(name)}`, 'data.path=.', ...sets] }).model.options;
}

function describeArchitecture(name: string, flags: ShowFlags): string {
  const { defaultResolution } = findArchitecture(name);
  const { resolution = defaultResolution, channels = 3 } = flags;
  const module = createModule(name, {
    ...(flags.classes === undefined ? {} : { numClasses: flags.classes }),
    ...(flags.channels === undefined ? {} : { inChannels: flags.channels }),
    ...optionsFrom(name, flags.set),
  });
  const image = [1, channels, resolution, resolution];
  const summary = ((): Summary => {
    try {
      return summarizeStateless(trace(module, { inputs: [image] }), [image]);
    } catch (error) {
      throw flags.resolution === undefined ? error : unfitResolution(error, name, flags.resolution);
    }
  })();
  return `${name}\n${formatSummary(summary)}\n${aboutArchitecture(name)}`;
}

/** What an operator said of its shapes, with what to do about it. */
function unfitResolution(error: unknown, name: string, resolution: number): unknown {
  const kinds = [ArgumentError, ExecutionError, GuardError];
  if (!(error instanceof FornaxError) || !kinds.some((kind) => error instanceof kind)) return error;
  const { defaultResolution } = findArchitecture(name);
  return new UsageError({
    what: `${name} cannot take images of ${resolution} pixels: ${error.what}`,
    ...(error.where === undefined ? {} : { where: error.where }),
    fix: `give another --resolution; the published model takes ${defaultResolution}`,
    cause: error,
  });
}

/** The paper and the options, under the names that configs use. */
function aboutArchitecture(name: string): string {
  const { paper, options } = findArchitecture(name);
  const value = (spec: OptionSpec): string => JSON.stringify(spec.default).replace(/"/g, '');
  const rows = Object.entries(options).map(([key, spec]) => [
    snakeKey(key),
    value(spec),
    describeOption(spec),
    spec.description,
  ]);
  const head = ['option', 'default', 'value', 'meaning'];
  const list =
    rows.length === 0 ? '' : `\n${table([head, ...rows])}\n\nThey stand in model.options of a config.\n`;
  const weights = originOfWeights(name) || 'none published';
  return `paper            ${paper}\nweights          ${weights}\n${list}`;
}
