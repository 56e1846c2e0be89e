/** Parameters as the initializers of an ONNX graph. */
import { loadAddon } from '../../native.js';
import type { ExportTensor } from '../format.js';
import { tensorBytes, type OnnxBuilder } from './builder.js';
import type { Conversion } from './conversion.js';

/** Stored on first use: what no node needs (num_batches_tracked) is left out. */
export class Weights {
  private readonly names = new Map<string, string>();

  constructor(
    private readonly bySlot: ReadonlyMap<number, ExportTensor>,
    private readonly builder: OnnxBuilder,
  ) {}

  has(slot: number): boolean {
    return this.bySlot.has(slot);
  }

  /** Under its name in the state dict. */
  name(slot: number): string {
    const { name, tensor } = this.bySlot.get(slot)!;
    return this.stored(name, () =>
      this.builder.initializer(name, tensor.dtype, tensor.shape, () => tensorBytes(tensor)),
    );
  }

  /** A matrix stored transposed. */
  transposed(slot: number): string {
    const { name, tensor } = this.bySlot.get(slot)!;
    const [rows, columns] = tensor.shape as [number, number];
    return this.stored(`${name}.transposed`, () =>
      this.builder.initializer(`${name}.transposed`, tensor.dtype, [columns, rows], () => {
        const view = loadAddon().Tensor.call('aten::t', [tensor])[0]!;
        try {
          return tensorBytes(view);
        } finally {
          view.dispose();
        }
      }),
    );
  }

  private stored(key: string, store: () => string): string {
    let name = this.names.get(key);
    if (name === undefined) {
      name = store();
      this.names.set(key, name);
    }
    return name;
  }
}

/** A matrix as the right factor of a product: a parameter is stored transposed, anything else is transposed. */
export function transposedParameter(c: Conversion, slot: number): string {
  return c.weights.has(slot)
    ? c.weights.transposed(slot)
    : c.emit('Transpose', [c.value(slot)], { perm: [1, 0] });
}
