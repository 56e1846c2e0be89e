/**
 * An evaluation that runs out of memory is begun anew in batches of half the size. Its figures do not depend on that,
 * but for a script's metrics that give one number for a batch.
 */
import { DeviceError } from '../errors.js';
import type { AnyLoaderOptions } from '../native/contract.js';

/** Whether the native core says so. */
export function isOutOfMemory(error: unknown): error is DeviceError {
  return error instanceof DeviceError && error.what.startsWith('out of memory');
}

/**
 * Calls `work` with the loader's options, and again with batches of half the size as long as memory runs out.
 *
 * @param onHalved is told of each halving.
 * @throws DeviceError if not even one image at a time fits; whatever else `work` throws.
 */
export async function inSmallerBatches<T>(
  options: AnyLoaderOptions,
  work: (options: AnyLoaderOptions) => Promise<T>,
  onHalved?: (from: number, to: number) => void,
): Promise<T> {
  let current = options;
  for (;;) {
    try {
      return await work(current);
    } catch (error) {
      const { batch_size: from } = current;
      if (!isOutOfMemory(error) || from === 1) throw error;
      const to = Math.ceil(from / 2);
      onHalved?.(from, to);
      current = { ...current, batch_size: to };
    }
  }
}
