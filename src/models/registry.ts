/** Every architecture by the name under which configs and commands know it. */
import { ArgumentError, ConfigError } from '../errors.js';
import { nearest } from '../nearest.js';
import type { Module } from '../nn/index.js';
import type { Architecture, ModelOptions } from './architecture.js';
import { alexnets } from './alexnet.js';
import { convnexts } from './convnext.js';
import { deeplabv3s } from './deeplabv3.js';
import { densenets } from './densenet.js';
import { efficientnets } from './efficientnet.js';
import { fcns } from './fcn.js';
import { featherfaces } from './featherface.js';
import { googlenets } from './googlenet.js';
import type * as zoo from './index.js';
import { inceptions } from './inception.js';
import { lraspps } from './lraspp.js';
import { mnasnets } from './mnasnet.js';
import { mobilenetV2s } from './mobilenet_v2.js';
import { mobilenetV3s } from './mobilenet_v3.js';
import { mobilenetV1s } from './mobilenetv1.js';
import { optionFaults, optionsOf } from './options.js';
import { regnets } from './regnet.js';
import { resnets } from './resnet.js';
import { cifarResnets } from './resnet_cifar.js';
import { retinafaces } from './retinaface.js';
import { shufflenetV2s } from './shufflenet_v2.js';
import { squeezenets } from './squeezenet.js';
import { swins } from './swin.js';
import { tinyCnns } from './tiny_cnn.js';
import { unets } from './unet.js';
import { vggs } from './vgg.js';
import { visionTransformers } from './vit.js';
import { cifarWideResnets } from './wide_resnet_cifar.js';

export type { Architecture, ModelOptions, OptionSpec, Task } from './architecture.js';

/** One line for each family's file. */
export const architectures: readonly Architecture[] = [
  // Classification, by year
  ...alexnets,
  ...vggs,
  ...googlenets,
  ...inceptions,
  ...resnets,
  ...squeezenets,
  ...densenets,
  ...mobilenetV1s,
  ...mobilenetV2s,
  ...shufflenetV2s,
  ...mnasnets,
  ...mobilenetV3s,
  ...efficientnets,
  ...regnets,
  ...visionTransformers,
  ...swins,
  ...convnexts,
  // Classification of small images
  ...cifarResnets,
  ...cifarWideResnets,
  ...tinyCnns,
  // Segmentation
  ...unets,
  ...fcns,
  ...deeplabv3s,
  ...lraspps,
  // Detection
  ...retinafaces,
  ...featherfaces,
];

/** The architecture called `name`; ConfigError with the nearest name if there is none. */
export function findArchitecture(name: string): Architecture {
  const found = architectures.find((a) => a.name === name);
  if (found !== undefined) return found;
  const hint = nearest(
    name,
    architectures.map((a) => a.name),
  );
  throw new ConfigError({
    what: `there is no model called '${name}'`,
    fix: hint ? `did you mean '${hint}'?` : '`fornax models` lists all',
  });
}

type Zoo = typeof zoo;

/** The names of the zoo, for TypeScript; `architectures` has them at run time. */
export type ArchitectureName = keyof Zoo;

/** What an architecture can be told, by its name; of a name that is known only at run time: anything. */
export type OptionsOf<Name extends string> = Name extends ArchitectureName
  ? NonNullable<Parameters<Zoo[Name]>[0]>
  : ModelOptions & Record<string, unknown>;

/**
 * A new, untraced module of the zoo. Options beyond `numClasses` and `inChannels` are those that the architecture
 * lists; any other, or a value of another type, is an ArgumentError.
 */
export function createModule<Name extends string>(name: Name, given?: OptionsOf<Name>): Module {
  const options: ModelOptions & Record<string, unknown> = { ...given };
  const architecture = findArchitecture(name);
  const known = optionsOf(architecture);
  const [fault] = optionFaults(known, options);
  if (fault === undefined) return architecture.create(options);
  const { key, expected, meant } = fault;
  if (expected !== null) {
    throw new ArgumentError({
      what: `option '${key}' of ${name} must be ${expected}, not ${JSON.stringify(options[key])}`,
    });
  }
  throw new ArgumentError({
    what: `${name} has no option '${key}'`,
    fix: meant ? `did you mean '${meant}'?` : `it has: ${Object.keys(known).join(', ')}`,
  });
}
