/** Every architecture by the name under which configs and commands know it. */
import { ArgumentError, ConfigError } from '../errors.js';
import { nearest } from '../nearest.js';
import type { Module } from '../nn/index.js';
import {
  resnet101,
  resnet152,
  resnet18,
  resnet34,
  resnet50,
  resnext50_32x4d,
  wide_resnet50_2,
} from './resnet.js';
import { resnet20, resnet32, resnet44, resnet56 } from './resnet_cifar.js';
import { tiny_cnn } from './tiny_cnn.js';

/** What every model of the zoo can be told. */
export interface ModelOptions {
  /** Length of the logits. Default: that of the published weights (1000 for ImageNet, 10 for CIFAR). */
  numClasses?: number;
  /** Channels of the image. Default 3. */
  inChannels?: number;
}

export type Task = 'classification';

export interface Architecture {
  name: string;
  task: Task;
  /** Height and width for which the published model was trained. */
  defaultResolution: number;
  /** Classes of the published model. */
  defaultClasses: number;
  /** Names of the options beyond ModelOptions that `create` takes. */
  options: readonly string[];
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each architecture has its own options
  create: (options: any) => Module;
}

function imagenet(name: string, options: readonly string[], create: Architecture['create']): Architecture {
  return { name, task: 'classification', defaultResolution: 224, defaultClasses: 1000, options, create };
}

function cifar(name: string, options: readonly string[], create: Architecture['create']): Architecture {
  return { name, task: 'classification', defaultResolution: 32, defaultClasses: 10, options, create };
}

export const architectures: readonly Architecture[] = [
  cifar('tiny_cnn', ['dropout'], tiny_cnn),
  cifar('resnet20', [], resnet20),
  cifar('resnet32', [], resnet32),
  cifar('resnet44', [], resnet44),
  cifar('resnet56', [], resnet56),
  imagenet('resnet18', ['zeroInitResidual'], resnet18),
  imagenet('resnet34', ['zeroInitResidual'], resnet34),
  imagenet('resnet50', ['zeroInitResidual'], resnet50),
  imagenet('resnet101', ['zeroInitResidual'], resnet101),
  imagenet('resnet152', ['zeroInitResidual'], resnet152),
  imagenet('resnext50_32x4d', ['zeroInitResidual'], resnext50_32x4d),
  imagenet('wide_resnet50_2', ['zeroInitResidual'], wide_resnet50_2),
];

/** The architecture called `name`; ConfigError with the nearest name if there is none. */
export function findArchitecture(name: string): Architecture {
  const found = architectures.find((a) => a.name === name);
  if (found !== undefined) return found;
  const names = architectures.map((a) => a.name);
  const hint = nearest(name, names);
  throw new ConfigError({
    what: `there is no model called '${name}'`,
    fix: hint ? `did you mean '${hint}'?` : `there are: ${names.join(', ')}`,
  });
}

/**
 * A new, untraced module of the zoo. Options beyond `numClasses` and `inChannels` are those that the architecture
 * lists; any other is an ArgumentError.
 */
export function createModule(name: string, options: ModelOptions & Record<string, unknown> = {}): Module {
  const architecture = findArchitecture(name);
  const known = ['numClasses', 'inChannels', ...architecture.options];
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const hint = nearest(key, known);
    throw new ArgumentError({
      what: `${name} has no option '${key}'`,
      fix: hint ? `did you mean '${hint}'?` : `it has: ${known.join(', ')}`,
    });
  }
  return architecture.create(options);
}
