/** Activations. Graphs are functional, so PyTorch's `inplace` does not exist: the executor saves the memory. */
import * as F from '../functional.js';
import { Module } from '../module.js';
import { withDefaults } from '../options.js';
import type { SymbolicTensor } from '../tensor.js';

export class ReLU extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.relu(x);
  }
}

export class ReLU6 extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.relu6(x);
  }
}

export class LeakyReLU extends Module {
  readonly negativeSlope: number;

  constructor(negativeSlope = 0.01) {
    super();
    this.negativeSlope = negativeSlope;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.leakyRelu(x, this.negativeSlope);
  }
}

/** x·σ(x), also called swish. */
export class SiLU extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.silu(x);
  }
}

export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';

  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    this.approximate = withDefaults<{ approximate: 'none' | 'tanh' }>(
      'GELU',
      { approximate: 'none' },
      options,
    ).approximate;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.gelu(x, this.approximate);
  }
}

export class Hardswish extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.hardswish(x);
  }
}

export class Hardsigmoid extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.hardsigmoid(x);
  }
}

export class Sigmoid extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.sigmoid(x);
  }
}

export class Tanh extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return F.tanh(x);
  }
}

export class Softmax extends Module {
  readonly dim: number;

  constructor(dim: number) {
    super();
    this.dim = dim;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return F.softmax(x, this.dim);
  }
}
