/** Runs epochs of a native loader and copies what it delivers into JavaScript. */
import { loadAddon } from '#fornax/native.js';
import type { LoaderOptions, NativeLoader } from '#fornax/native/contract.js';

export interface DeliveredBatch {
  shape: number[];
  image: Uint8Array | Float32Array;
  label: number[];
  index: number[];
}

export function openLoader(options: LoaderOptions): NativeLoader {
  return new (loadAddon().Loader)(options);
}

/** The next batch, its tensors copied and disposed; null at the end. */
export async function nextBatch(loader: NativeLoader): Promise<DeliveredBatch | null> {
  const batch = await loader.next();
  if (!batch) return null;
  const result = {
    shape: batch.image!.shape,
    image: batch.image!.toTypedArray() as Uint8Array | Float32Array,
    label: Array.from(batch.label!.toTypedArray() as BigInt64Array, Number),
    index: Array.from(batch.index!.toTypedArray() as BigInt64Array, Number),
  };
  for (const tensor of Object.values(batch)) tensor.dispose();
  return result;
}

export async function runEpoch(loader: NativeLoader, epoch: number, skip = 0): Promise<DeliveredBatch[]> {
  loader.startEpoch(epoch, skip);
  const batches: DeliveredBatch[] = [];
  for (let batch = await nextBatch(loader); batch; batch = await nextBatch(loader)) batches.push(batch);
  return batches;
}

/** Opens a loader, runs one epoch, disposes of it. */
export async function loadOnce(options: LoaderOptions, epoch = 0): Promise<DeliveredBatch[]> {
  const loader = openLoader(options);
  try {
    return await runEpoch(loader, epoch);
  } finally {
    loader.dispose();
  }
}
