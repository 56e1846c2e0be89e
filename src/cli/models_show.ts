/** Prints the layers of an architecture or of a model file. */
import { existsSync } from 'node:fs';
import { UsageError } from '../errors.js';
import { Model } from '../model.js';
import { modelPath } from './model_path.js';
import type { ShowFlags } from './models.js';

export async function showModel(name: string, flags: ShowFlags): Promise<void> {
  using model = existsSync(name) ? await fromFile(name, flags) : fromZoo(name, flags);
  const shapes = model.info.inputs.map(({ shape }) =>
    flags.resolution !== undefined && shape.length === 4
      ? [...shape.slice(0, 2), flags.resolution, flags.resolution]
      : shape,
  );
  process.stdout.write(`${model.info.name}\n${model.summary(...shapes)}\n`);
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
