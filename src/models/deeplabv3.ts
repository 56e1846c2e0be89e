/**
 * Rethinking Atrous Convolution, Chen et al. 2017 (arXiv:1706.05587), figure 5. Names and order of the state dict are
 * torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  cat,
  Conv2d,
  Dropout,
  Module,
  ModuleList,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { segmentation } from './architecture.js';
import { mobilenet_v3_large } from './mobilenet_v3.js';
import { resnet101, resnet50, type ResNet, type ResNetOptions } from './resnet.js';
import {
  auxLossOption,
  FCNHead,
  IntermediateLayers,
  resizeTo,
  Segmenter,
  type SegmenterOptions,
} from './segmenter.js';

const channels = 256;
const rates = [12, 24, 36] as const;

function convolution(inChannels: number, kernelSize: 1 | 3, dilation = 1): Module[] {
  const padding = kernelSize === 1 ? 0 : dilation;
  return [
    new Conv2d(inChannels, channels, kernelSize, { padding, dilation, bias: false }),
    new BatchNorm2d(channels),
    new ReLU(),
  ];
}

/** What the whole image looks like, at every pixel. */
class ImagePooling extends Sequential {
  constructor(inChannels: number) {
    super(new AdaptiveAvgPool2d(1), ...convolution(inChannels, 1));
  }

  override forward(x: Tensor): Tensor {
    return resizeTo(x, super.forward(x));
  }
}

/** Atrous spatial pyramid pooling: the same features at several rates. */
class ASPP extends Module {
  readonly convs: ModuleList;
  readonly project: Sequential;

  constructor(inChannels: number) {
    super();
    this.convs = new ModuleList([
      new Sequential(...convolution(inChannels, 1)),
      ...rates.map((rate) => new Sequential(...convolution(inChannels, 3, rate))),
      new ImagePooling(inChannels),
    ]);
    this.project = new Sequential(...convolution(this.convs.length * channels, 1), new Dropout(0.5));
  }

  forward(x: Tensor): Tensor {
    const branches = [...this.convs].map((branch) => branch.forward(x) as Tensor);
    return this.project.forward(cat(branches, 1));
  }
}

class DeepLabHead extends Sequential {
  constructor(inChannels: number, numClasses: number) {
    super(new ASPP(inChannels), ...convolution(channels, 3), new Conv2d(channels, numClasses, 1));
  }
}

function onResnet(resnet: (options: ResNetOptions) => ResNet, options: SegmenterOptions = {}): Segmenter {
  const { numClasses = 21, inChannels = 3, auxLoss = true } = options;
  const backbone = resnet({ inChannels, outputStride: 8 });
  return new Segmenter(
    new IntermediateLayers(backbone, { layer3: 'aux', layer4: 'out' }),
    new DeepLabHead(2048, numClasses),
    auxLoss ? new FCNHead(1024, numClasses) : null,
  );
}

export const deeplabv3_resnet50 = (options?: SegmenterOptions): Segmenter => onResnet(resnet50, options);
export const deeplabv3_resnet101 = (options?: SegmenterOptions): Segmenter => onResnet(resnet101, options);

/** The last features (stride 16) and, for the auxiliary head, the first ones at stride 8. */
export const deeplabv3_mobilenet_v3_large = (options: SegmenterOptions = {}): Segmenter => {
  const { numClasses = 21, inChannels = 3, auxLoss = true } = options;
  const { features } = mobilenet_v3_large({ inChannels, outputStride: 16 });
  return new Segmenter(
    new IntermediateLayers(features, { 4: 'aux', 16: 'out' }),
    new DeepLabHead(960, numClasses),
    auxLoss ? new FCNHead(40, numClasses) : null,
  );
};

export const deeplabv3s = segmentation(
  { paper: 'Chen et al. 2017, arXiv:1706.05587', options: auxLossOption },
  { deeplabv3_resnet50, deeplabv3_resnet101, deeplabv3_mobilenet_v3_large },
);
