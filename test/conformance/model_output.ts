/** Runs a model in eval mode on one input. */
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';

/** The flat values of the single output. */
export async function evalOutput(model: NativeGraph, image: NativeTensor): Promise<Float32Array> {
  const session = new (loadAddon().InferenceSession)(model, {});
  try {
    const outputs = Object.values(await session.forward({ image }));
    if (outputs.length !== 1) throw new Error(`the model has ${outputs.length} outputs, expected one`);
    const values = outputs[0]!.toTypedArray();
    outputs[0]!.dispose();
    if (!(values instanceof Float32Array)) throw new Error('the output is not float32');
    return values;
  } finally {
    session.dispose();
  }
}
