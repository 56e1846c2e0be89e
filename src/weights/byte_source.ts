/** Random access to the bytes of a file of weights. Reads are checked; nothing is mapped. */
import { WeightsError } from '../errors.js';
import { openWeights } from '../io/open_weights.js';

export interface ByteSource {
  readonly size: number;
  /** Exactly so many bytes; WeightsError beyond the end. */
  read(offset: number, length: number): Promise<Buffer>;
}

function checkRange(size: number, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    throw new WeightsError({
      what: `the file ends too early: bytes ${offset}…${offset + length} of ${size} are needed`,
      fix: 'the file is truncated or damaged: get it again',
    });
  }
}

/** Bytes in memory, for tests and small parts. */
export function bytesOf(data: Uint8Array): ByteSource {
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return {
    size: data.length,
    read(offset, length) {
      checkRange(data.length, offset, length);
      return Promise.resolve(buffer.subarray(offset, offset + length));
    },
  };
}

/**
 * Opens a file, hands it to `work` and closes it. WeightsErrors without a place get the file's path.
 *
 * @throws WeightsError if it cannot be opened or is no file.
 */
export async function withFile<T>(file: string, work: (source: ByteSource) => Promise<T>): Promise<T> {
  const handle = await openWeights(file);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new WeightsError({ what: 'this is not a file', where: file });
    return await work({
      size: stat.size,
      async read(offset, length) {
        checkRange(stat.size, offset, length);
        const buffer = Buffer.alloc(length);
        const { bytesRead } = await handle.read(buffer, 0, length, offset);
        if (bytesRead !== length)
          throw new WeightsError('the file ends too early: it shrinks while it is read');
        return buffer;
      },
    });
  } catch (error) {
    throw located(error, file);
  } finally {
    await handle.close();
  }
}

/** The same error with its place, unless it has one. */
export function located(error: unknown, where: string): unknown {
  if (!(error instanceof WeightsError) || error.where !== undefined) return error;
  return new WeightsError({ what: error.what, where, fix: error.fix, cause: error.cause });
}
