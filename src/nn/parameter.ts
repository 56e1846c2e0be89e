/** Parameters and buffers: the named tensors of a module's state dict. */
import { ArgumentError } from '../errors.js';
import type { DType, Init } from '../graph/format.js';
import { SymInt } from './sym_int.js';
import { SymbolicTensor } from './tensor.js';

abstract class StateTensor extends SymbolicTensor {
  /** Fixed, unlike the sizes of other tensors. */
  readonly dims: readonly number[];
  readonly dtype: DType;
  /** How it starts; drawn natively from the run's seed. Set it through src/nn/init.ts. */
  init: Init;

  protected constructor(dims: readonly number[], init: Init, dtype: DType) {
    super(null, null);
    if (!dims.every((d) => Number.isSafeInteger(d) && d >= 0)) {
      throw new ArgumentError({
        what: `[${dims.join(', ')}] is not a shape: lengths are integers from 0 on`,
      });
    }
    this.dims = [...dims];
    this.init = init;
    this.dtype = dtype;
  }

  override get shape(): SymInt[] {
    return this.dims.map((d) => new SymInt(d));
  }

  override dim(): number {
    return this.dims.length;
  }

  override size(dim: number): SymInt {
    const length = this.dims.at(dim);
    if (length === undefined) {
      throw new ArgumentError({
        what: `there is no dimension ${dim} in a tensor of shape [${this.dims.join(', ')}]`,
      });
    }
    return new SymInt(length);
  }
}

/** A tensor that training changes. Assigned to a module's attribute, it is in the state dict under its name. */
export class Parameter extends StateTensor {
  /** `init` defaults to zeros. */
  constructor(
    shape: readonly number[],
    init: Init = { kind: 'constant', value: 0 },
    dtype: DType = 'float32',
  ) {
    super(shape, init, dtype);
  }
}

/** A tensor that belongs to the state but is not trained, such as running statistics. */
export class Buffer extends StateTensor {
  /** `init` defaults to zeros. */
  constructor(
    shape: readonly number[],
    init: Init = { kind: 'constant', value: 0 },
    dtype: DType = 'float32',
  ) {
    super(shape, init, dtype);
  }
}
