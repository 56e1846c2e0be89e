/**
 * What the face detectors share: heads over three levels of features, at strides 8, 16 and 32, and a context
 * module. Names of the state dict are those of biubug6/Pytorch_Retinaface, irregular capitals included.
 */
import {
  BatchNorm2d,
  cat,
  Conv2d,
  LeakyReLU,
  Module,
  ModuleList,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import type { Preprocessing } from '../model/info.js';
import { faceBody, MobileNetV1Body } from './mobilenetv1.js';
import type { ModelOptions } from './architecture.js';

/** Features at strides 8, 16 and 32. */
export type Levels = [Tensor, Tensor, Tensor];

/** Pixels 0…255 in the order blue, green, red, minus the means that Caffe's networks subtracted. */
export const facePreprocessing: Preprocessing = {
  channels: 3,
  channel_order: 'bgr',
  pack_size: null,
  resize: null,
  size: null,
  normalize: { mean: [104 / 255, 117 / 255, 123 / 255], std: [1 / 255, 1 / 255, 1 / 255] },
};

const anchorsAPlace = 2;

/** Below this width rectifiers are leaky, as in the original. */
export function contextSlope(channels: number): number {
  return channels <= 64 ? 0.1 : 0;
}

/** MobileNetV1 of width 0.25. */
export function makeBody({ inChannels = 3 }: ModelOptions): MobileNetV1Body {
  return new MobileNetV1Body({ ...faceBody, inChannels });
}

/** `values` numbers for each anchor, [N, C, H, W] → [N, H·W·2, values]. */
class Head extends Module {
  readonly conv1x1: Conv2d;

  constructor(
    channels: number,
    readonly values: number,
  ) {
    super();
    this.conv1x1 = new Conv2d(channels, anchorsAPlace * values, 1);
  }

  forward(x: Tensor): Tensor {
    const perPlace = this.conv1x1.forward(x).permute(0, 2, 3, 1);
    return perPlace.reshape(x.size(0), -1, this.values);
  }
}

export function makeHeads(channels: number, values: number): ModuleList {
  return new ModuleList([0, 1, 2].map(() => new Head(channels, values)));
}

function allLevels(heads: ModuleList, features: Levels): Tensor {
  return cat(
    features.map((feature, i) => (heads.at(i) as Head).forward(feature)),
    1,
  );
}

/** What every face detector returns. P: number of anchors, level by level, row by row. */
export interface FaceOutputs extends Record<string, Tensor> {
  /** [N, P, 4]: offsets of centre and size, in units of the anchor. */
  loc: Tensor;
  /** [N, P, classes]: class scores before the softmax; class 0 is the background. */
  conf: Tensor;
  /** [N, P, 10]: offsets of five points (x, y): eyes, nose, corners of the mouth. */
  landm: Tensor;
}

/** Runs the heads of a detector on its last features. */
export function headOutputs(
  heads: { ClassHead: ModuleList; BboxHead: ModuleList; LandmarkHead: ModuleList },
  features: Levels,
): FaceOutputs {
  return {
    loc: allLevels(heads.BboxHead, features),
    conf: allLevels(heads.ClassHead, features),
    landm: allLevels(heads.LandmarkHead, features),
  };
}

/**
 * Najibi et al. 2017, arXiv:1708.03979 (SSH), figure 4: views of 3×3, 5×5 and 7×7, the larger ones made of 3×3
 * convolutions that share their first.
 */
export class ContextModule extends Module {
  readonly conv3X3: Sequential;
  readonly conv5X5_1: Sequential;
  readonly conv5X5_2: Sequential;
  readonly conv7X7_2: Sequential;
  readonly conv7x7_3: Sequential;

  /** `conv3x3` makes the convolutions: plain or deformable ones, 3×3 without bias. */
  constructor(channels: number, conv3x3: (inChannels: number, outChannels: number) => Module) {
    super();
    const quarter = channels / 4;
    const slope = contextSlope(channels);
    const plain = (from: number, to: number): Sequential =>
      new Sequential(conv3x3(from, to), new BatchNorm2d(to));
    const rectified = (from: number, to: number): Sequential => plain(from, to).append(new LeakyReLU(slope));
    this.conv3X3 = plain(channels, channels / 2);
    this.conv5X5_1 = rectified(channels, quarter);
    this.conv5X5_2 = plain(quarter, quarter);
    this.conv7X7_2 = rectified(quarter, quarter);
    this.conv7x7_3 = plain(quarter, quarter);
  }

  forward(x: Tensor): Tensor {
    const shared = this.conv5X5_1.forward(x);
    const views = [
      this.conv3X3.forward(x),
      this.conv5X5_2.forward(shared),
      this.conv7x7_3.forward(this.conv7X7_2.forward(shared)),
    ];
    return cat(views, 1).relu();
  }
}
