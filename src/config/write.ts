/** A config as YAML, for the run folder and `fornax config show`. */
import { stringify } from 'yaml';
import { toSnake } from './case.js';
import type { Config } from './schema.js';

/** Can be read back by `loadConfig`, with the same result. */
export function configToYaml(config: Config): string {
  const { name, model, data, train, device, ...rest } = config;
  return stringify(toSnake({ name, model, data, train, device, ...rest }), {
    flowCollectionPadding: false,
    lineWidth: 0,
  });
}
