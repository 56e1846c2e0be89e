/**
 * Lite R-ASPP, the segmentation head of MobileNetV3: Howard et al. 2019 (arXiv:1905.02244), figure 10. Names and order
 * of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Module,
  ReLU,
  Sequential,
  Sigmoid,
  type Tensor,
} from '../nn/index.js';
import { segmentation, type ModelOptions } from './architecture.js';
import { mobilenet_v3_large } from './mobilenet_v3.js';
import { IntermediateLayers, resizeTo, type Features } from './segmenter.js';

class LRASPPHead extends Module {
  readonly cbr: Sequential;
  readonly scale: Sequential;
  readonly low_classifier: Conv2d;
  readonly high_classifier: Conv2d;

  constructor(lowChannels: number, highChannels: number, numClasses: number, channels = 128) {
    super();
    this.cbr = new Sequential(
      new Conv2d(highChannels, channels, 1, { bias: false }),
      new BatchNorm2d(channels),
      new ReLU(),
    );
    this.scale = new Sequential(
      new AdaptiveAvgPool2d(1),
      new Conv2d(highChannels, channels, 1, { bias: false }),
      new Sigmoid(),
    );
    this.low_classifier = new Conv2d(lowChannels, numClasses, 1);
    this.high_classifier = new Conv2d(channels, numClasses, 1);
  }

  /** `low` at stride 8, `high` at stride 16 → logits at stride 8. */
  forward(low: Tensor, high: Tensor): Tensor {
    const x = this.cbr.forward(high).mul(this.scale.forward(high));
    return this.low_classifier.forward(low).add(this.high_classifier.forward(resizeTo(low, x)));
  }
}

export class LRASPP extends Module {
  readonly backbone: IntermediateLayers;
  readonly classifier: LRASPPHead;

  constructor({ numClasses = 21, inChannels = 3 }: ModelOptions = {}) {
    super();
    const { features } = mobilenet_v3_large({ inChannels, outputStride: 16 });
    this.backbone = new IntermediateLayers(features, { 4: 'low', 16: 'high' });
    this.classifier = new LRASPPHead(40, 960, numClasses);
  }

  /** [N, 3, H, W] → logits `out` [N, classes, H, W]. */
  forward(image: Tensor): Features {
    const { low, high } = this.backbone.forward(image);
    return { out: resizeTo(image, this.classifier.forward(low!, high!)) };
  }
}

export const lraspp_mobilenet_v3_large = (options?: ModelOptions): LRASPP => new LRASPP(options);

export const lraspps = segmentation(
  { paper: 'Howard et al. 2019, arXiv:1905.02244' },
  { lraspp_mobilenet_v3_large },
);
