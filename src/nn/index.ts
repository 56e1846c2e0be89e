/** torch.nn for TypeScript: modules with PyTorch's names and semantics, traced into graphs (src/graph/trace.ts). */
export { Module, type StateEntry } from './module.js';
export { Buffer, Parameter } from './parameter.js';
export {
  auxiliary,
  call,
  cat,
  stack,
  SymbolicTensor,
  where,
  type Dims,
  type Operand,
  type ReduceOptions,
  type SymbolicTensor as Tensor,
} from './tensor.js';
export { SymInt } from './sym_int.js';
export type { CallArgument, IntLike } from './recorder.js';
export * as functional from './functional.js';
export * as init from './init.js';
export * from './layers/activation.js';
export * from './layers/attention.js';
export * from './layers/container.js';
export {
  Conv2d,
  ConvTranspose2d,
  type Conv2dOptions,
  type ConvTranspose2dOptions,
  type PaddingMode,
} from './layers/conv.js';
export { DeformConv2d, type DeformConv2dOptions } from './layers/deform_conv.js';
export * from './layers/dropout.js';
export * from './layers/linear.js';
export * from './layers/normalization.js';
export * from './layers/pooling.js';
export type { Pair } from './options.js';
