/** The section `model` of a config: the architecture must exist, and its options must be its own. */
import type { z } from 'zod';
import { ArgumentError } from '../errors.js';
import { describeOption, optionFaults } from '../models/options.js';
import { architectures, createModule } from '../models/registry.js';
import { nearest } from '../nearest.js';
import { camelKey, snakeKey } from './case.js';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

type ModelSection = z.output<typeof configSchema>['model'];

/** Options that every architecture has, and the keys that set them. */
const elsewhere: Readonly<Record<string, string>> = {
  num_classes: 'model.num_classes',
  in_channels: 'data.channels',
};

export function checkModel(model: ModelSection, refuse: Refuse): void {
  const architecture = architectures.find(({ name }) => name === model.name);
  if (architecture === undefined) {
    const hint = nearest(
      model.name,
      architectures.map(({ name }) => name),
    );
    const fix = hint ? `did you mean "${hint}"?` : '`fornax models` lists all';
    refuse(['model', 'name'], `there is no model called "${model.name}"`, fix);
    return;
  }
  const specs = Object.entries(architecture.options).map(([key, spec]) => [snakeKey(key), spec] as const);
  const known = Object.fromEntries(specs);
  const faults = optionFaults(known, model.options);
  for (const { key, meant } of faults) {
    const path = ['model', 'options', key];
    if (Object.hasOwn(known, key)) {
      const got = JSON.stringify(model.options[key]);
      refuse(path, `expected ${describeOption(known[key]!)}, got ${got}`);
      continue;
    }
    const place = Object.hasOwn(elsewhere, key) ? elsewhere[key] : undefined;
    const all =
      specs.length === 0 ? `${model.name} has no options` : `it has: ${Object.keys(known).join(', ')}`;
    const hint = place ? `set ${place}` : meant ? `did you mean "${meant}"?` : all;
    refuse(path, `${model.name} has no such option`, hint, 'key');
  }
  if (faults.length === 0 && Object.keys(model.options).length > 0) checkTogether(model, refuse);
}

/** Options that are good one by one may contradict each other: the module's constructor knows. */
function checkTogether({ name, options }: ModelSection, refuse: Refuse): void {
  try {
    createModule(
      name,
      Object.fromEntries(Object.entries(options).map(([key, value]) => [camelKey(key), value])),
    );
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    refuse(['model', 'options'], error.what, error.fix);
  }
}
