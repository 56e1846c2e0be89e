/** Prints the layers and options of an architecture, or the layers of a model file. */
import { existsSync } from 'node:fs';
import { snakeKey } from '../config/case.js';
import { UsageError } from '../errors.js';
import { Model } from '../model.js';
import type { OptionSpec } from '../models/architecture.js';
import { describeOption } from '../models/options.js';
import { originOfWeights } from '../models/published_weights.js';
import { findArchitecture } from '../models/registry.js';
import { modelPath } from './model_path.js';
import type { ShowFlags } from './models.js';
import { table } from './terminal.js';

export async function showModel(name: string, flags: ShowFlags): Promise<void> {
  const isFile = existsSync(name);
  using model = isFile ? await fromFile(name, flags) : fromZoo(name, flags);
  const shapes = model.info.inputs.map(({ shape }) =>
    flags.resolution !== undefined && shape.length === 4
      ? [...shape.slice(0, 2), flags.resolution, flags.resolution]
      : shape,
  );
  process.stdout.write(`${model.info.name}\n${model.summary(...shapes)}\n`);
  if (!isFile) process.stdout.write(aboutArchitecture(name));
}

async function fromFile(path: string, flags: ShowFlags): Promise<Model> {
  if (flags.classes !== undefined || flags.channels !== undefined) {
    throw new UsageError({
      what: '--classes and --channels are for architectures; a model file has its own',
    });
  }
  return Model.load(modelPath(path));
}

function fromZoo(name: string, flags: ShowFlags): Model {
  return Model.create(name, {
    ...(flags.classes === undefined ? {} : { numClasses: flags.classes }),
    ...(flags.channels === undefined ? {} : { inChannels: flags.channels }),
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
