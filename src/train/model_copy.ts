/** A copy of a model's weights, to be written while training changes the originals. */
import { writeModelFile } from '../model/file.js';
import type { Model } from '../model.js';
import type { NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';

export interface ModelCopy {
  /** Writes a model file with the weights as they were when the copy was made. */
  saveModel(file: string): Promise<void>;
  dispose(): void;
}

/** Takes as long as copying the weights to the CPU. Only while no step is being computed. */
export function copyModel(model: Model): ModelCopy {
  const { Tensor } = loadAddon();
  const copies = model.native
    .state()
    .map(({ name, kind, tensor }) => ({ name, kind, tensor: copyOf(tensor) }));
  const { graph, info } = model;
  return {
    saveModel: async (file) => void (await writeModelFile(file, graph, copies, info)),
    dispose: () => copies.forEach(({ tensor }) => tensor.dispose()),
  };

  function copyOf(tensor: NativeTensor): NativeTensor {
    const copy =
      tensor.device === 'cpu' ? Tensor.call('aten::clone', [tensor])[0]! : tensor.to({ device: 'cpu' });
    tensor.dispose();
    return copy;
  }
}
