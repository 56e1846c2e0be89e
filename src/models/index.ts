/**
 * Every architecture as a constructor, `models.resnet50({ numClasses: 10 })`, with the options it takes. The names are
 * those of `fornax models`; test/model_types.test.ts compares the two lists.
 */
export type { ModelOptions } from './architecture.js';
export { alexnet } from './alexnet.js';
export type { AlexNetOptions } from './alexnet.js';
export { convnext_tiny, convnext_small, convnext_base, convnext_large } from './convnext.js';
export type { ConvNeXtOptions } from './convnext.js';
export { deeplabv3_resnet50, deeplabv3_resnet101, deeplabv3_mobilenet_v3_large } from './deeplabv3.js';
export { densenet121, densenet161, densenet169, densenet201 } from './densenet.js';
export type { DenseNetOptions } from './densenet.js';
export {
  efficientnet_b0,
  efficientnet_b1,
  efficientnet_b2,
  efficientnet_b3,
  efficientnet_b4,
  efficientnet_b5,
  efficientnet_b6,
  efficientnet_b7,
  efficientnet_v2_s,
  efficientnet_v2_m,
  efficientnet_v2_l,
} from './efficientnet.js';
export type { EfficientNetOptions } from './efficientnet.js';
export { fcn_resnet50, fcn_resnet101 } from './fcn.js';
export { featherface, featherface_baseline, featherface_eca_cbam } from './featherface.js';
export { googlenet } from './googlenet.js';
export type { GoogLeNetOptions } from './googlenet.js';
export { inception_v3 } from './inception.js';
export type { Inception3Options } from './inception.js';
export { lraspp_mobilenet_v3_large } from './lraspp.js';
export { mnasnet0_5, mnasnet0_75, mnasnet1_0, mnasnet1_3 } from './mnasnet.js';
export type { MnasNetOptions } from './mnasnet.js';
export { mobilenet_v2 } from './mobilenet_v2.js';
export type { MobileNetV2Options } from './mobilenet_v2.js';
export { mobilenet_v3_large, mobilenet_v3_small } from './mobilenet_v3.js';
export type { MobileNetV3Options } from './mobilenet_v3.js';
export { mobilenetv1, mobilenetv1_025 } from './mobilenetv1.js';
export type { MobileNetV1Options } from './mobilenetv1.js';
export {
  regnet_x_400mf,
  regnet_x_800mf,
  regnet_x_1_6gf,
  regnet_x_3_2gf,
  regnet_x_8gf,
  regnet_x_16gf,
  regnet_x_32gf,
  regnet_y_400mf,
  regnet_y_800mf,
  regnet_y_1_6gf,
  regnet_y_3_2gf,
  regnet_y_8gf,
  regnet_y_16gf,
  regnet_y_32gf,
  regnet_y_128gf,
} from './regnet.js';
export {
  resnet18,
  resnet34,
  resnet50,
  resnet101,
  resnet152,
  resnext50_32x4d,
  resnext101_32x8d,
  resnext101_64x4d,
  wide_resnet50_2,
  wide_resnet101_2,
  resnet18_cifar,
  resnet34_cifar,
  resnet50_cifar,
  resnet101_cifar,
  resnet152_cifar,
} from './resnet.js';
export type { ResNetOptions } from './resnet.js';
export { resnet20, resnet32, resnet44, resnet56, resnet110 } from './resnet_cifar.js';
export { retinaface_mobilenet025 } from './retinaface.js';
export {
  shufflenet_v2_x0_5,
  shufflenet_v2_x1_0,
  shufflenet_v2_x1_5,
  shufflenet_v2_x2_0,
} from './shufflenet_v2.js';
export { squeezenet1_0, squeezenet1_1 } from './squeezenet.js';
export type { SqueezeNetOptions } from './squeezenet.js';
export { swin_t, swin_s, swin_b } from './swin.js';
export type { SwinOptions } from './swin.js';
export { tiny_cnn } from './tiny_cnn.js';
export type { TinyCnnOptions } from './tiny_cnn.js';
export { unet, unet_tiny } from './unet.js';
export type { UNetOptions } from './unet.js';
export {
  vgg11,
  vgg13,
  vgg16,
  vgg19,
  vgg11_bn,
  vgg13_bn,
  vgg16_bn,
  vgg19_bn,
  vgg11_bn_cifar,
  vgg13_bn_cifar,
  vgg16_bn_cifar,
  vgg19_bn_cifar,
} from './vgg.js';
export type { VGGOptions } from './vgg.js';
export { vit_b_16, vit_b_32, vit_l_16, vit_l_32 } from './vit.js';
export type { VisionTransformerOptions } from './vit.js';
export { wrn_16_4, wrn_16_8, wrn_28_10, wrn_40_2, wrn_40_4 } from './wide_resnet_cifar.js';
export type { CifarWideResNetOptions } from './wide_resnet_cifar.js';
export type { SegmenterOptions } from './segmenter.js';
