/**
 * What the segmenters of torchvision share: a classifier's layers as backbone, a head on the features, and its result
 * resized to the image. Names and order of the state dict are torchvision's.
 */
import { ArgumentError } from '../errors.js';
import {
  auxiliary,
  BatchNorm2d,
  Conv2d,
  Dropout,
  functional as F,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import type { ModelOptions, OptionSpec } from './architecture.js';

/** Feature maps by the names that a segmenter gives them. */
export type Features = Record<string, Tensor>;

/** The children of a module up to the last one whose result is wanted; what comes after is left out. */
export class IntermediateLayers extends Module {
  /** `returned`: names of children, each with the name of its result. */
  constructor(
    source: Module,
    private readonly returned: Readonly<Record<string, string>>,
  ) {
    super();
    const wanted = new Set(Object.keys(returned));
    for (const [name, child] of source.namedChildren()) {
      if (wanted.size === 0) break;
      this.register(name, child);
      wanted.delete(name);
    }
    if (wanted.size > 0) {
      throw new ArgumentError({ what: `${source.constructor.name} has no child ${[...wanted].join(', ')}` });
    }
  }

  forward(image: Tensor): Features {
    const features: Features = {};
    let x = image;
    for (const [name, child] of this.namedChildren()) {
      x = child.forward(x) as Tensor;
      const result = this.returned[name];
      if (result !== undefined) features[result] = x;
    }
    return features;
  }
}

/** Two convolutions: Long et al. 2014 (arXiv:1411.4038) in torchvision's form. */
export class FCNHead extends Sequential {
  constructor(channels: number, numClasses: number) {
    const inner = Math.floor(channels / 4);
    super(
      new Conv2d(channels, inner, 3, { padding: 1, bias: false }),
      new BatchNorm2d(inner),
      new ReLU(),
      new Dropout(0.1),
      new Conv2d(inner, numClasses, 1),
    );
  }
}

/** Resizes logits to the height and width of the image. */
export function resizeTo(image: Tensor, logits: Tensor): Tensor {
  return F.interpolate(logits, {
    size: [image.size(2), image.size(3)],
    mode: 'bilinear',
    alignCorners: false,
  });
}

export interface SegmenterOptions extends ModelOptions {
  /** A second head on earlier features, whose output `aux` only training computes. Default true. */
  auxLoss?: boolean;
}

export class Segmenter extends Module {
  readonly backbone: IntermediateLayers;
  readonly classifier: Module;
  readonly aux_classifier: FCNHead | null;

  /** `backbone` returns `out` and, for the auxiliary head, `aux`. */
  constructor(backbone: IntermediateLayers, classifier: Module, auxClassifier: FCNHead | null) {
    super();
    this.backbone = backbone;
    this.classifier = classifier;
    this.aux_classifier = auxClassifier;
  }

  /** [N, 3, H, W] → logits `out` and, auxiliary, `aux`: [N, classes, H, W]. */
  forward(image: Tensor): Features {
    const features = this.backbone.forward(image);
    const out = resizeTo(image, this.classifier.forward(features['out']) as Tensor);
    if (this.aux_classifier === null) return { out };
    return { out, aux: auxiliary(resizeTo(image, this.aux_classifier.forward(features['aux']!))) };
  }
}

export const auxLossOption: { auxLoss: OptionSpec } = {
  auxLoss: {
    type: 'boolean',
    default: true,
    description: 'A second head on earlier features, for training.',
  },
};
