/** A copy of a model's weights, to be written while training changes the originals. */
import type { WrittenFile } from '../io/safetensors.js';
import { writeModelFile } from '../model/file.js';
import type { Model } from '../model.js';
import type { NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';

export interface ModelCopy {
  /** Writes a model file with the weights as they were when the copy was made, straight to its place. */
  saveModel(file: string): Promise<WrittenFile>;
  dispose(): void;
}

/**
 * Takes as long as copying the weights to the CPU. Only while no step is being computed.
 *
 * @param options.share weights on the CPU are not copied: no step until they are written.
 */
export function copyModel(model: Model, { share = false }: { share?: boolean } = {}): ModelCopy {
  const { Tensor } = loadAddon();
  const entries = model.native.state();
  const copies: typeof entries = [];
  try {
    for (const { name, kind, tensor } of entries) copies.push({ name, kind, tensor: copyOf(tensor) });
  } catch (error) {
    for (const { tensor } of [...entries, ...copies]) tensor.dispose();
    throw error;
  }
  const { graph, info } = model;
  return {
    saveModel: (file) => writeModelFile(file, graph, copies, info, { atomic: false }),
    dispose: () => copies.forEach(({ tensor }) => tensor.dispose()),
  };

  function copyOf(tensor: NativeTensor): NativeTensor {
    if (share && tensor.device === 'cpu') return tensor;
    const copy =
      tensor.device === 'cpu' ? Tensor.call('aten::clone', [tensor])[0]! : tensor.to({ device: 'cpu' });
    tensor.dispose();
    return copy;
  }
}
