/**
 * RetinaFace: Single-stage Dense Face Localisation in the Wild, Deng et al. 2019 (arXiv:1905.00641), in the form
 * of biubug6/Pytorch_Retinaface with MobileNetV1-0.25: names and order of the state dict are that repository's.
 */
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  LeakyReLU,
  Module,
  type ModuleList,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { faceAnchors } from '../detect/anchors.js';
import { family, type ModelOptions } from './architecture.js';
import {
  ContextModule,
  contextSlope,
  headOutputs,
  facePreprocessing,
  makeBody,
  makeHeads,
  type FaceOutputs,
  type Levels,
} from './face_parts.js';
import type { MobileNetV1Body } from './mobilenetv1.js';

function convBn(inChannels: number, outChannels: number, kernel: 1 | 3): Sequential {
  return new Sequential(
    new Conv2d(inChannels, outChannels, kernel, { padding: (kernel - 1) / 2, bias: false }),
    new BatchNorm2d(outChannels),
    new LeakyReLU(contextSlope(outChannels)),
  );
}

/** Lin et al. 2017, arXiv:1612.03144: coarse features flow down to the finer levels. */
class FeaturePyramid extends Module {
  readonly output1: Sequential;
  readonly output2: Sequential;
  readonly output3: Sequential;
  readonly merge1: Sequential;
  readonly merge2: Sequential;

  constructor(inChannels: readonly number[], channels: number) {
    super();
    this.output1 = convBn(inChannels[0]!, channels, 1);
    this.output2 = convBn(inChannels[1]!, channels, 1);
    this.output3 = convBn(inChannels[2]!, channels, 1);
    this.merge1 = convBn(channels, channels, 3);
    this.merge2 = convBn(channels, channels, 3);
  }

  forward(levels: Levels): Levels {
    const coarse = this.output3.forward(levels[2]);
    const middle = this.merge2.forward(addUpsampled(this.output2.forward(levels[1]), coarse));
    const fine = this.merge1.forward(addUpsampled(this.output1.forward(levels[0]), middle));
    return [fine, middle, coarse];
  }
}

function addUpsampled(fine: Tensor, coarse: Tensor): Tensor {
  return fine.add(F.interpolate(coarse, { size: [fine.size(2), fine.size(3)] }));
}

export class RetinaFace extends Module {
  readonly body: MobileNetV1Body;
  readonly fpn: FeaturePyramid;
  readonly ssh1: ContextModule;
  readonly ssh2: ContextModule;
  readonly ssh3: ContextModule;
  readonly ClassHead: ModuleList;
  readonly BboxHead: ModuleList;
  readonly LandmarkHead: ModuleList;

  constructor(options: ModelOptions = {}) {
    super();
    const channels = 64;
    const conv3x3 = (from: number, to: number): Conv2d =>
      new Conv2d(from, to, 3, { padding: 1, bias: false });
    this.body = makeBody(options);
    this.fpn = new FeaturePyramid(this.body.channels, channels);
    this.ssh1 = new ContextModule(channels, conv3x3);
    this.ssh2 = new ContextModule(channels, conv3x3);
    this.ssh3 = new ContextModule(channels, conv3x3);
    this.ClassHead = makeHeads(channels, options.numClasses ?? 2);
    this.BboxHead = makeHeads(channels, 4);
    this.LandmarkHead = makeHeads(channels, 10);
  }

  /** [N, 3, H, W], blue, green, red → offsets, class scores and landmarks of each anchor. */
  forward(image: Tensor): FaceOutputs {
    const [fine, middle, coarse] = this.fpn.forward(this.body.forward(image));
    return headOutputs(this, [this.ssh1.forward(fine), this.ssh2.forward(middle), this.ssh3.forward(coarse)]);
  }
}

export const retinaface_mobilenet025 = (options?: ModelOptions): RetinaFace => new RetinaFace(options);

export const retinafaces = family(
  {
    task: 'detection',
    paper: 'Deng et al. 2019, arXiv:1905.00641',
    defaultResolution: 640,
    defaultClasses: 2,
    options: {},
    preprocessing: facePreprocessing,
    detection: faceAnchors,
  },
  { retinaface_mobilenet025 },
);
