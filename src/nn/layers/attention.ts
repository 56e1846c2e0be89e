/** Attention over sequences. */
import { ArgumentError } from '../../errors.js';
import * as F from '../functional.js';
import * as init from '../init.js';
import { Module } from '../module.js';
import { integer, probability, withDefaults } from '../options.js';
import { Parameter } from '../parameter.js';
import type { SymbolicTensor } from '../tensor.js';
import { Linear } from './linear.js';

/**
 * Self-attention with several heads (Vaswani et al. 2017, section 3.2.2): [N, L, E] → [N, L, E]. The state dict is
 * that of torch.nn.MultiheadAttention, whose query, key and value projections are one matrix.
 */
export class MultiheadAttention extends Module {
  readonly embedDim: number;
  readonly numHeads: number;
  readonly dropout: number;
  in_proj_weight: Parameter;
  in_proj_bias: Parameter;
  readonly out_proj: Linear;

  /** `dropout`: of the attention weights, default 0. */
  constructor(embedDim: number, numHeads: number, options: { dropout?: number } = {}) {
    super();
    const { dropout } = withDefaults('MultiheadAttention', { dropout: 0 }, options);
    this.embedDim = integer('MultiheadAttention', 'embedDim', embedDim);
    this.numHeads = integer('MultiheadAttention', 'numHeads', numHeads);
    if (embedDim % numHeads !== 0) {
      throw new ArgumentError({ what: `MultiheadAttention: ${numHeads} heads do not divide ${embedDim}` });
    }
    this.dropout = probability('MultiheadAttention', dropout);
    this.in_proj_weight = init.xavierUniform(new Parameter([3 * embedDim, embedDim]));
    this.in_proj_bias = new Parameter([3 * embedDim]);
    this.out_proj = new Linear(embedDim, embedDim);
    init.zeros(this.out_proj.bias!);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    const width = this.embedDim / this.numHeads;
    const [length, projected] = [x.size(1), F.linear(x, this.in_proj_weight, this.in_proj_bias)];
    // [3, N, heads, L, E / heads]
    const heads = projected.reshape(-1, length, 3, this.numHeads, width).permute(2, 0, 3, 1, 4);
    const [q, k, v] = [heads.select(0, 0), heads.select(0, 1), heads.select(0, 2)];
    const mixed = this.dropout === 0 ? F.scaledDotProductAttention(q, k, v) : this.dropped(q, k, v);
    return this.out_proj.forward(mixed.transpose(1, 2).reshape(-1, length, this.embedDim));
  }

  /** libtorch's attention draws its dropout from the process's generator; this from the session's. */
  private dropped(q: SymbolicTensor, k: SymbolicTensor, v: SymbolicTensor): SymbolicTensor {
    const scale = 1 / Math.sqrt(this.embedDim / this.numHeads);
    const weights = q.mul(scale).matmul(k.transpose(-2, -1)).softmax(-1);
    return F.dropout(weights, this.dropout).matmul(v);
  }
}
