/**
 * Fully Convolutional Networks, Long et al. 2014 (arXiv:1411.4038), on a dilated ResNet as torchvision has them. Names
 * and order of the state dict are torchvision's.
 */
import { segmentation } from './architecture.js';
import { resnet101, resnet50, type ResNet, type ResNetOptions } from './resnet.js';
import { auxLossOption, FCNHead, IntermediateLayers, Segmenter, type SegmenterOptions } from './segmenter.js';

function fcn(resnet: (options: ResNetOptions) => ResNet, options: SegmenterOptions = {}): Segmenter {
  const { numClasses = 21, inChannels = 3, auxLoss = true } = options;
  const backbone = resnet({ inChannels, outputStride: 8 });
  return new Segmenter(
    new IntermediateLayers(backbone, { layer3: 'aux', layer4: 'out' }),
    new FCNHead(2048, numClasses),
    auxLoss ? new FCNHead(1024, numClasses) : null,
  );
}

export const fcn_resnet50 = (options?: SegmenterOptions): Segmenter => fcn(resnet50, options);
export const fcn_resnet101 = (options?: SegmenterOptions): Segmenter => fcn(resnet101, options);

export const fcns = segmentation(
  { paper: 'Long et al. 2014, arXiv:1411.4038', options: auxLossOption },
  { fcn_resnet50, fcn_resnet101 },
);
