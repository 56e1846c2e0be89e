export { crossEntropy, CrossEntropyLoss, type CrossEntropyLossOptions } from './cross_entropy.js';
export { mse, MSELoss } from './mse.js';
export { traceLoss, type LossInput } from './trace_loss.js';
