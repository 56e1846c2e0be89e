/** The model of a job: of the zoo, for the data's classes and size. */
import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import { Model } from '../model.js';
import { findArchitecture } from '../models/registry.js';
import type { ResolvedWeights } from '../weights/resolve.js';
import type { ImageTrainData } from './data.js';
import type { Report } from './events.js';
import { startFrom } from './pretrained.js';

/** Input size where the configuration says `auto`: the one the architecture was published with. */
export function defaultResolution(config: Config): [number, number] {
  const side = findArchitecture(config.model.name).defaultResolution;
  return [side, side];
}

/**
 * Draws the weights or loads what the config starts from.
 *
 * @throws ConfigError if `model.num_classes` is not that of the data; WeightsError.
 */
export async function buildModel(
  config: Config,
  data: ImageTrainData,
  pretrained: ResolvedWeights | null,
  report: Report,
): Promise<Model> {
  const { name, options, numClasses, pretrainedStrict } = config.model;
  const classes = data.classes.length;
  if (numClasses !== 'auto' && numClasses !== classes) {
    throw new ConfigError({
      what: `model.num_classes is ${numClasses}, but the data has ${classes} classes`,
      where: 'model.num_classes',
      fix: 'set it to auto',
    });
  }
  const { channels, size } = data.preprocessing;
  const model = Model.create(name, {
    seed: config.train.seed,
    numClasses: classes,
    inChannels: channels,
    options,
    // Two images: a batch of one is a special case that no trace should see.
    inputs: [[2, channels, size[0], size[1]]],
    labels: data.classes,
    preprocessing: data.preprocessing,
  });
  try {
    if (pretrained !== null) await startFrom(model, pretrained, pretrainedStrict, report);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}
