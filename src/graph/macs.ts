/**
 * Multiply-accumulates of one node. What is not listed costs none worth counting beside convolutions and
 * products of matrices (the custom of torchinfo, fvcore and the papers' tables).
 */
import type { NodeInfo } from '../native/contract.js';

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

type Count = (info: NodeInfo) => number;

/** Each output element takes one product per weight of its output channel: weight [O, I / groups, ...]. */
const convolution: Count = ({ inputs: [, weight], outputs: [out] }) =>
  (product(out!) * product(weight!)) / weight![0]!;

/** Each input element feeds every weight of its input channel: weight [I, O / groups, ...]. */
const transposedConvolution: Count = ({ inputs: [x, weight] }) =>
  (product(x!) * product(weight!)) / weight![0]!;

/** Every output element is a dot product over the last dimension of the left factor. */
function product2d(left: number): Count {
  return ({ inputs, outputs: [out] }) => product(out!) * (inputs[left]!.at(-1) ?? 1);
}

/** q [..., L, E], k [..., S, E], v [..., S, Ev]: q·kᵀ, then its product with v. */
const attention: Count = ({ inputs: [q, k, v] }) =>
  (product(q!) / q!.at(-1)!) * k!.at(-2)! * (q!.at(-1)! + v!.at(-1)!);

/** By the operator's name without its overload. */
const counts: Readonly<Record<string, Count>> = {
  'aten::conv1d': convolution,
  'aten::conv2d': convolution,
  'aten::conv3d': convolution,
  'mkldnn::_convolution_pointwise': convolution,
  'aten::conv_transpose1d': transposedConvolution,
  'aten::conv_transpose2d': transposedConvolution,
  'aten::conv_transpose3d': transposedConvolution,
  'aten::linear': product2d(0),
  'aten::matmul': product2d(0),
  'aten::mm': product2d(0),
  'aten::bmm': product2d(0),
  'aten::addmm': product2d(1),
  'aten::baddbmm': product2d(1),
  'aten::scaled_dot_product_attention': attention,
};

/** Multiply-accumulates of a node, for the shapes with which it ran. */
export function macs(info: NodeInfo): number {
  const count = counts[info.op.split('.', 1)[0]!];
  if (count === undefined || info.outputs.some((shape) => shape.includes(0))) return 0;
  return count(info);
}
