/** Layers that drop something at random in train mode, drawing from the generator of the running session. */
import * as F from '../functional.js';
import { Module } from '../module.js';
import { probability } from '../options.js';
import type { SymbolicTensor } from '../tensor.js';

/** Srivastava et al. 2014: single elements. */
export class Dropout extends Module {
  readonly p: number;

  constructor(p = 0.5) {
    super();
    this.p = probability('Dropout', p);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.dropout(x, this.p);
  }
}

/** Tompson et al. 2015: whole channels of [N, C, H, W]. */
export class Dropout2d extends Module {
  readonly p: number;

  constructor(p = 0.5) {
    super();
    this.p = probability('Dropout2d', p);
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.dropout2d(x, this.p);
  }
}

/** Huang et al. 2016: the residual branch of single samples (`row`) or of the whole batch (`batch`). */
export class StochasticDepth extends Module {
  readonly p: number;
  readonly mode: 'row' | 'batch';

  constructor(p: number, mode: 'row' | 'batch') {
    super();
    this.p = probability('StochasticDepth', p);
    this.mode = mode;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.stochasticDepth(x, this.p, this.mode);
  }
}
