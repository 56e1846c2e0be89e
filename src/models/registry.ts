/** Every architecture by the name under which configs and commands know it. */
import { ArgumentError, ConfigError } from '../errors.js';
import { nearest } from '../nearest.js';
import type { Module } from '../nn/index.js';
import type { Architecture, ModelOptions, OptionSpec } from './architecture.js';
import { alexnets } from './alexnet.js';
import { densenets } from './densenet.js';
import { googlenets } from './googlenet.js';
import { inceptions } from './inception.js';
import { mobilenetV2s } from './mobilenet_v2.js';
import { mobilenetV3s } from './mobilenet_v3.js';
import { efficientnets } from './efficientnet.js';
import { featherfaces } from './featherface.js';
import { mnasnets } from './mnasnet.js';
import { mobilenetV1s } from './mobilenetv1.js';
import { regnets } from './regnet.js';
import { resnets } from './resnet.js';
import { retinafaces } from './retinaface.js';
import { cifarResnets } from './resnet_cifar.js';
import { squeezenets } from './squeezenet.js';
import { shufflenetV2s } from './shufflenet_v2.js';
import { convnexts } from './convnext.js';
import { visionTransformers } from './vit.js';
import { swins } from './swin.js';
import { fcns } from './fcn.js';
import { deeplabv3s } from './deeplabv3.js';
import { lraspps } from './lraspp.js';
import { unets } from './unet.js';
import { tinyCnns } from './tiny_cnn.js';
import { vggs } from './vgg.js';
import { cifarWideResnets } from './wide_resnet_cifar.js';

export type { Architecture, ModelOptions, OptionSpec, Task } from './architecture.js';

/** One line for each family's file. */
export const architectures: readonly Architecture[] = [
  ...tinyCnns,
  ...cifarResnets,
  ...resnets,
  ...mobilenetV2s,
  ...mobilenetV3s,
  ...efficientnets,
  ...shufflenetV2s,
  ...mnasnets,
  ...regnets,
  ...mobilenetV1s,
  ...alexnets,
  ...vggs,
  ...squeezenets,
  ...densenets,
  ...convnexts,
  ...visionTransformers,
  ...swins,
  ...googlenets,
  ...inceptions,
  ...cifarWideResnets,
  ...retinafaces,
  ...featherfaces,
  ...fcns,
  ...deeplabv3s,
  ...lraspps,
  ...unets,
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

const common: Record<string, OptionSpec> = {
  numClasses: { type: 'integer', default: null, min: 1, description: 'Length of the logits.' },
  inChannels: { type: 'integer', default: 3, min: 1, description: 'Channels of the image.' },
};

/** What is wrong with a value of an option, or null. */
function faultOf(spec: OptionSpec, value: unknown): string | null {
  switch (spec.type) {
    case 'boolean':
      return typeof value === 'boolean' ? null : 'true or false';
    case 'choice':
      return spec.choices.includes(value as string | number) ? null : `one of ${spec.choices.join(', ')}`;
    case 'integers': {
      const valid =
        Array.isArray(value) && value.length > 0 && value.every((v) => Number.isSafeInteger(v) && v > 0);
      return valid ? null : 'a list of positive integers';
    }
    default: {
      const { min = -Infinity, max = Infinity } = spec;
      if (value === null && spec.default === null) return null;
      const valid =
        typeof value === 'number' &&
        (spec.type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)) &&
        value >= min &&
        value <= max;
      if (valid) return null;
      const range = `${min === -Infinity ? '' : ` from ${min}`}${max === Infinity ? '' : ` up to ${max}`}`;
      return `${spec.type === 'integer' ? 'an integer' : 'a number'}${range}`;
    }
  }
}

/**
 * A new, untraced module of the zoo. Options beyond `numClasses` and `inChannels` are those that the architecture
 * lists; any other, or a value of another type, is an ArgumentError.
 */
export function createModule(name: string, options: ModelOptions & Record<string, unknown> = {}): Module {
  const architecture = findArchitecture(name);
  const known: Record<string, OptionSpec> = { ...common, ...architecture.options };
  for (const [key, value] of Object.entries(options)) {
    const spec = Object.hasOwn(known, key) ? known[key]! : null;
    if (spec === null) {
      const hint = nearest(key, Object.keys(known));
      throw new ArgumentError({
        what: `${name} has no option '${key}'`,
        fix: hint ? `did you mean '${hint}'?` : `it has: ${Object.keys(known).join(', ')}`,
      });
    }
    const expected = faultOf(spec, value);
    if (value !== undefined && expected !== null) {
      throw new ArgumentError({
        what: `option '${key}' of ${name} must be ${expected}, not ${JSON.stringify(value)}`,
      });
    }
  }
  return architecture.create(options);
}
