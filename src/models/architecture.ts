/** What the zoo knows of an architecture beside its layers. */
import type { DetectionInfo, Preprocessing } from '../model/info.js';
import type { Module } from '../nn/index.js';

/** What every model of the zoo can be told. */
export interface ModelOptions {
  /** Length of the logits. Default: that of the published weights (1000 for ImageNet, 10 for CIFAR). */
  numClasses?: number;
  /** Channels of the image. Default 3. */
  inChannels?: number;
}

export type Task = 'classification' | 'segmentation' | 'detection';

/** An option of an architecture beyond ModelOptions, so that configs and commands can check and explain it. */
export type OptionSpec = { description: string } & (
  | { type: 'boolean'; default: boolean }
  | { type: 'integer' | 'number'; default: number | null; min?: number; max?: number }
  /** A list of positive integers, such as widths. */
  | { type: 'integers'; default: readonly number[] }
  | { type: 'choice'; default: string | number; choices: readonly (string | number)[] }
);

export interface Architecture {
  name: string;
  task: Task;
  /** Where it is described: `He et al. 2015, arXiv:1512.03385`. */
  paper: string;
  /** Height and width for which the published model was trained. */
  defaultResolution: number;
  /** Classes of the published model. */
  defaultClasses: number;
  /** Options beyond ModelOptions that `create` takes, by their TypeScript names. */
  options: Readonly<Record<string, OptionSpec>>;
  /** How images become the input of the published weights, where no data decides it (detectors). */
  preprocessing?: Preprocessing;
  /** Of detectors: how their outputs become boxes. */
  detection?: DetectionInfo;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each architecture has its own options
  create: (options: any) => Module;
}

/** Everything but name and constructor, shared by a family. */
export type Family = Omit<Architecture, 'name' | 'create'>;

/** The members of a family, named as the constructors are. */
export function family(shared: Family, members: Record<string, Architecture['create']>): Architecture[] {
  return Object.entries(members).map(([name, create]) => ({ name, ...shared, create }));
}

/** A family of classifiers with weights for ImageNet: 1000 classes, 224² unless told otherwise. */
export function imagenet(
  shared: Pick<Family, 'paper'> & Partial<Family>,
  members: Record<string, Architecture['create']>,
): Architecture[] {
  const defaults = {
    task: 'classification',
    defaultResolution: 224,
    defaultClasses: 1000,
    options: {},
  } as const;
  return family({ ...defaults, ...shared }, members);
}

/** A family of classifiers for CIFAR-10: 10 classes, 32². */
export function cifar(
  shared: Pick<Family, 'paper'> & Partial<Family>,
  members: Record<string, Architecture['create']>,
): Architecture[] {
  const defaults = {
    task: 'classification',
    defaultResolution: 32,
    defaultClasses: 10,
    options: {},
  } as const;
  return family({ ...defaults, ...shared }, members);
}

/** A family of segmenters: 21 classes (those of Pascal VOC), 520² unless told otherwise. */
export function segmentation(
  shared: Pick<Family, 'paper'> & Partial<Family>,
  members: Record<string, Architecture['create']>,
): Architecture[] {
  const defaults = {
    task: 'segmentation',
    defaultResolution: 520,
    defaultClasses: 21,
    options: {},
  } as const;
  return family({ ...defaults, ...shared }, members);
}

/** The option most classifiers have. */
export function dropoutOption(probability: number): { dropout: OptionSpec } {
  return {
    dropout: {
      type: 'number',
      default: probability,
      min: 0,
      max: 1,
      description: 'Probability of dropout before the classifier.',
    },
  };
}

/** Of the mobile families. */
export const widthOption: { width: OptionSpec } = {
  width: {
    type: 'number',
    default: 1,
    min: 0.05,
    max: 10,
    description: 'Factor of all numbers of channels, rounded to multiples of 8.',
  },
};

/** Of the networks that serve as backbones of segmentation: the first value is the default. */
export function outputStrideOption(...strides: readonly [number, ...number[]]): { outputStride: OptionSpec } {
  return {
    outputStride: {
      type: 'choice',
      default: strides[0],
      choices: strides,
      description:
        'Factor between the sizes of image and features; below the default, late stages are dilated.',
    },
  };
}

/** Of residual networks whose branches are dropped in training (Huang et al. 2016, arXiv:1603.09382). */
export function stochasticDepthOption(probability: number): { stochasticDepth: OptionSpec } {
  return {
    stochasticDepth: {
      type: 'number',
      default: probability,
      min: 0,
      max: 1,
      description:
        "Probability that the last block's branch is dropped; grows linearly from 0 over the blocks.",
    },
  };
}
