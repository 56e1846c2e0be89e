/** Reading and writing whole safetensors files. Headers: safetensors_header.ts; bytes: the native core. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';

import { WeightsError } from '../errors.js';
import type { NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { writeAtomically } from './atomic.js';
import { encodeHeader, readHeader } from './safetensors_header.js';
import { writeError } from './write_error.js';

export interface SafetensorsFile {
  /** By name, in the order of their bytes in the file. The caller disposes them. */
  tensors: Map<string, NativeTensor>;
  metadata: Record<string, string>;
}

/**
 * Reads a safetensors file into tensors on the CPU.
 *
 * @param options.names read only these; one that the file lacks is an error.
 * @throws WeightsError if the file is missing, damaged or lacks a tensor.
 */
export async function readSafetensors(
  file: string,
  options: { names?: readonly string[] } = {},
): Promise<SafetensorsFile> {
  const { tensors, metadata } = await readHeader(file);
  let wanted = tensors;
  if (options.names) {
    const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    wanted = options.names.map((name) => {
      const found = byName.get(name);
      if (!found) throw new WeightsError({ what: `the file holds no tensor '${name}'`, where: file });
      return found;
    });
  }
  const handles = await loadAddon().readTensors(file, wanted);
  return { tensors: new Map(wanted.map((tensor, i) => [tensor.name, handles[i]!])), metadata };
}

/** What was written. */
export interface WrittenFile {
  /** SHA-256, in hex. */
  sha256: string;
  bytes: number;
}

/**
 * Writes tensors to a safetensors file, atomically and flushed to the disk.
 *
 * @param tensors written in this order; read, not disposed.
 * @param options.atomic false: straight to its place, in a folder that is committed as a whole.
 */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<readonly [string, NativeTensor]>,
  metadata: Record<string, string> = {},
  { atomic = true }: { atomic?: boolean } = {},
): Promise<WrittenFile> {
  const entries = [...tensors];
  const { header, fileBytes } = encodeHeader(
    entries.map(([name, tensor]) => ({ name, dtype: tensor.dtype, shape: tensor.shape })),
    metadata,
  );
  const chunks = [header, ...entries.map(([, tensor]) => tensor)];
  const write = (place: string): Promise<string> => loadAddon().writeTensors(place, chunks);
  try {
    const sha256 = await (atomic ? writeAtomically(file, write, { flushed: true }) : write(file));
    return { sha256, bytes: fileBytes };
  } catch (error) {
    throw writeError(error, file);
  }
}

/** SHA-256 of a file, in hex. */
export async function fileSha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** Disposes every tensor of a collection. */
export function disposeAll(tensors: Iterable<NativeTensor> | Map<string, NativeTensor>): void {
  for (const tensor of tensors instanceof Map ? tensors.values() : tensors) tensor.dispose();
}
