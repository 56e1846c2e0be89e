/** Options and results of the public Model. */
import type { DType } from '../graph/format.js';
import type { Modes } from '../native/contract.js';
import type { Tensor } from '../tensor.js';
import type { PretrainedOptions } from '../weights/pretrained.js';
import type { Preprocessing } from './info.js';

/** @typeParam Options what the architecture can be told: `OptionsOf<'resnet50'>` */
export interface CreateOptions<Options = Record<string, unknown>> {
  /** Seed of the weights. Default 0. */
  seed?: number;
  /**
   * Example inputs: shapes (`[1, 3, 224, 224]`) or named specifications. The model works at any batch size and,
   * where its architecture allows, any resolution. Default for zoo models: one image of the published size.
   */
  inputs?: readonly (readonly number[] | { name: string; shape: readonly number[]; dtype?: DType })[];
  /** For zoo models: classes, channels and the architecture's own options. */
  numClasses?: number;
  inChannels?: number;
  options?: Options;
  labels?: readonly string[];
  preprocessing?: Preprocessing | null;
  /** Default: the zoo name, or the class name of the module. */
  name?: string;
}

/** Options of `Model.pretrained`. */
export interface PretrainedModelOptions<Options = Record<string, unknown>>
  extends CreateOptions<Options>, PretrainedOptions {
  /** A path, an address with `#sha256=…`, or the name of published weights. Default `default`. */
  weights?: string;
}

export interface ForwardOptions {
  /** Dropout, batch norm and stochastic depth together. Default `eval`. */
  mode?: 'eval' | 'train';
  /** Single kinds and prefixes of module paths, beyond `mode`. */
  modes?: Modes;
  /** Module paths whose outputs are returned too (`layer4.1`). */
  taps?: string[];
  /**
   * Names of the outputs to compute: what they and the taps do not need is left out. Default: all, but in eval mode
   * without auxiliary ones (the second head of a segmenter).
   */
  outputs?: string[];
  /** Seed of dropout and stochastic depth in this run. */
  seed?: number;
  /** Default `cpu`. */
  device?: string;
  /** Threads of one operator. Default: all cores. */
  threads?: number;
}

export interface StateEntry {
  name: string;
  kind: 'parameter' | 'buffer';
  /** Shares the model's memory. */
  tensor: Tensor;
}

export interface LossAndGradients {
  loss: number;
  /** By parameter name. */
  gradients: Record<string, Tensor>;
  outputs: Record<string, Tensor>;
}
