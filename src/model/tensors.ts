/** Between the public tensors and those of the native core. */
import type { NativeTensor } from '../native/contract.js';
import { Tensor } from '../tensor.js';

export function wrap(tensors: Record<string, NativeTensor>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, new Tensor(tensor)]));
}

export function unwrap(tensors: Record<string, Tensor>): Record<string, NativeTensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.native]));
}
