/**
 * Shards of a pack: safetensors files that native/data maps (PackShard in native/contract.ts), written as a
 * stream so that memory stays bounded. Tensors, in the order of the file: `pixels` uint8 [bytes], `offsets` int64
 * [n + 1], `sizes` int32 [n, 2] (height, width), `labels` int64 [n].
 *
 * The header stands first but is known last: room for it is kept (a multiple of 4096 bytes, so that pixels start
 * on a page) and filled with the spaces the format allows. `pixels` is padded with zeros to a multiple of eight,
 * so that the tensors behind it are aligned; offsets[n] is its true end.
 */
import { promises as fs } from 'node:fs';

import { DataError } from '../errors.js';
import { encodeHeader, readHeader, type HeaderEntry } from '../io/safetensors_header.js';
import type { PackField, PackShard } from '../native/contract.js';
import type { DecodedImage } from './decode.js';

/** Version of the layout of packs. A pack of another version is built anew. */
export const PACK_FORMAT_VERSION = 1;
const PAGE = 4096;
const WRITE_BYTES = 4 * 1024 * 1024;

/** Writes one shard. Call `add` in order, then `finish`; `abort` closes the file after an error. */
export class ShardWriter {
  private readonly sizes: number[] = [];
  private readonly offsets: number[] = [0];
  private readonly labels: number[] = [];
  private buffer = Buffer.allocUnsafe(WRITE_BYTES);
  private filled = 0;
  private position: number;
  private pending: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly handle: fs.FileHandle,
    private readonly reserve: number,
    private readonly metadata: Record<string, string>,
  ) {
    this.position = reserve;
  }

  static async create(file: string, metadata: Record<string, string>): Promise<ShardWriter> {
    // The longest header there can be: every number at its largest.
    const longest = encodeHeader(entries(2 ** 43, 2 ** 43), metadata).header.length;
    const reserve = Math.ceil(longest / PAGE) * PAGE;
    return new ShardWriter(await fs.open(file, 'wx'), reserve, metadata);
  }

  get samples(): number {
    return this.labels.length;
  }

  get pixelBytes(): number {
    return this.offsets.at(-1)!;
  }

  async add(image: DecodedImage, label: number): Promise<void> {
    this.sizes.push(image.height, image.width);
    this.labels.push(label);
    this.offsets.push(this.pixelBytes + image.data.length);
    await this.append(image.data);
  }

  private async append(data: Uint8Array): Promise<void> {
    if (data.length >= WRITE_BYTES) {
      await this.flush();
      await this.write(data);
      return;
    }
    if (this.filled + data.length > WRITE_BYTES) await this.flush();
    this.buffer.set(data, this.filled);
    this.filled += data.length;
  }

  /** Hands the buffer to the file and goes on in a new one; waits only for the write before. */
  private async flush(): Promise<void> {
    if (this.filled === 0) return;
    const chunk = this.buffer.subarray(0, this.filled);
    this.buffer = Buffer.allocUnsafe(WRITE_BYTES);
    this.filled = 0;
    await this.write(chunk);
  }

  private async write(chunk: Uint8Array): Promise<void> {
    await this.pending;
    const at = this.position;
    this.position += chunk.length;
    this.pending = writeAll(this.handle, chunk, at);
    // Awaited by the next write or by finish; without this an early failure would count as unhandled.
    this.pending.catch(() => undefined);
  }

  /** Writes the small tensors and the header, flushes to the disk, closes. */
  async finish(): Promise<void> {
    const n = this.samples;
    const padded = Math.ceil(this.pixelBytes / 8) * 8;
    await this.append(new Uint8Array(padded - this.pixelBytes));
    await this.flush();
    await this.write(bytesOf(BigInt64Array.from(this.offsets, BigInt)));
    await this.write(bytesOf(Int32Array.from(this.sizes)));
    await this.write(bytesOf(BigInt64Array.from(this.labels, BigInt)));
    await this.pending;
    const { header } = encodeHeader(entries(padded, n), this.metadata);
    await writeAll(this.handle, widen(header, this.reserve), 0);
    await this.handle.sync();
    await this.handle.close();
  }

  async abort(): Promise<void> {
    await this.pending.catch(() => undefined);
    await this.handle.close();
  }
}

/** Where the fields of a shard lie. Throws WeightsError or DataError if the file is not a sound shard. */
export async function readShard(path: string): Promise<PackShard> {
  const { tensors } = await readHeader(path);
  const field = (name: string, dtype: PackField['dtype'], rank: number): PackField => {
    const tensor = tensors.find((candidate) => candidate.name === name);
    if (!tensor || tensor.dtype !== dtype || tensor.shape.length !== rank || tensor.offset % 8 !== 0) {
      throw new DataError({
        what: `the pack has no valid tensor '${name}'`,
        where: path,
        fix: 'delete the pack',
      });
    }
    return { path, dtype, shape: tensor.shape, offset: tensor.offset };
  };
  const shard = {
    pixels: field('pixels', 'uint8', 1),
    offsets: field('offsets', 'int64', 1),
    sizes: field('sizes', 'int32', 2),
    labels: field('labels', 'int64', 1),
  };
  const n = shard.labels.shape[0]!;
  if (shard.offsets.shape[0] !== n + 1 || shard.sizes.shape[0] !== n || shard.sizes.shape[1] !== 2) {
    throw new DataError({
      what: 'the tensors of the pack do not fit together',
      where: path,
      fix: 'delete the pack',
    });
  }
  return shard;
}

/** Reads a whole small field into memory. */
export async function readField(field: PackField, Kind: 'int64'): Promise<BigInt64Array>;
export async function readField(field: PackField, Kind: 'int32'): Promise<Int32Array>;
export async function readField(
  field: PackField,
  kind: 'int64' | 'int32',
): Promise<BigInt64Array | Int32Array> {
  const count = field.shape.reduce((product, size) => product * size, 1);
  const out = kind === 'int64' ? new BigInt64Array(count) : new Int32Array(count);
  await readBytes(field.path, field.offset, bytesOf(out));
  return out;
}

/** Fills `into` from the file. Throws DataError if the file ends before. */
export async function readBytes(path: string, offset: number, into: Uint8Array): Promise<void> {
  const handle = await fs.open(path, 'r');
  try {
    for (let done = 0; done < into.length;) {
      const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0)
        throw new DataError({ what: 'the pack ends early', where: path, fix: 'delete the pack' });
      done += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

function entries(pixels: number, n: number): HeaderEntry[] {
  return [
    { name: 'pixels', dtype: 'uint8', shape: [pixels] },
    { name: 'offsets', dtype: 'int64', shape: [n + 1] },
    { name: 'sizes', dtype: 'int32', shape: [n, 2] },
    { name: 'labels', dtype: 'int64', shape: [n] },
  ];
}

/** Pads a header with spaces to `bytes` in all. */
function widen(header: Uint8Array, bytes: number): Uint8Array {
  const out = Buffer.alloc(bytes, ' ');
  out.set(header);
  out.writeBigUInt64LE(BigInt(bytes - 8), 0);
  return out;
}

function bytesOf(array: BigInt64Array | Int32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

async function writeAll(handle: fs.FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < chunk.length;) {
    const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, at + done);
    done += bytesWritten;
  }
}
