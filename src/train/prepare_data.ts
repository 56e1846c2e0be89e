/** Images for a Trainer, from the `data` section of a configuration. */
import { defineConfig } from '../config/load.js';
import type { ConfigInput } from '../config/schema.js';
import type { ImageTrainData } from './data.js';
import type { Report } from './events.js';
import { checkOptions } from './option_keys.js';
import { prepareTrainData } from './train_data.js';

export interface PrepareDataOptions {
  /** Input size where `resolution` is not given. Default [224, 224]. */
  resolution?: readonly [number, number];
  /** Seed of the held-out share and of `limit`. Default 0. */
  seed?: number;
  report?: Report;
  signal?: AbortSignal;
}

/**
 * Finds images and decodes them once into a pack. Takes the `data` section of a configuration, in camelCase.
 *
 * @throws ConfigError, DataError.
 */
export async function prepareData(
  data: NonNullable<ConfigInput['data']>,
  options: PrepareDataOptions = {},
): Promise<ImageTrainData> {
  checkOptions(options, ['resolution', 'seed', 'report', 'signal'], 'prepareData');
  const { report, signal } = options;
  return prepareTrainData(defineConfig({ data }).data, {
    defaultResolution: options.resolution ?? [224, 224],
    seed: options.seed ?? 0,
    ...(report ? { report } : {}),
    ...(signal ? { signal } : {}),
  });
}
