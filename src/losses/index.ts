export {
  binaryCrossEntropy,
  BinaryCrossEntropyLoss,
  type BinaryCrossEntropyLossOptions,
} from './binary_cross_entropy.js';
export { crossEntropy, CrossEntropyLoss, type CrossEntropyLossOptions } from './cross_entropy.js';
export { dice, DiceLoss } from './dice.js';
export { distillation, DistillationLoss, type DistillationLossOptions } from './distillation.js';
export { focal, FocalLoss, type FocalLossOptions } from './focal.js';
export { jaccard, JaccardLoss } from './jaccard.js';
export { lovasz, LovaszLoss, type LovaszLossOptions } from './lovasz.js';
export { mse, MSELoss } from './mse.js';
export { multiBox, MultiBoxLoss, multiBoxParts, type MultiBoxLossOptions } from './multibox.js';
export { smoothL1, SmoothL1Loss, type SmoothL1LossOptions } from './smooth_l1.js';
export { traceLoss, type LossInput } from './trace_loss.js';
export { tversky, TverskyLoss, type RegionLossOptions, type TverskyLossOptions } from './tversky.js';
export { weightedSum, type LossTerm } from './weighted_sum.js';
export type { LossMode, TargetOptions } from './target.js';
