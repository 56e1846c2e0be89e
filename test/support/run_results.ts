/** What a run left behind, in a form that can be compared bit for bit with another run. */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import { readSafetensors } from '#fornax/io/safetensors.js';

/** The tensors of a safetensors file by name, as base64. */
export async function weightsOf(file: string): Promise<Record<string, string>> {
  const { tensors } = await readSafetensors(file);
  const entries = [...tensors].map(([name, tensor]) => {
    const { buffer, byteOffset, byteLength } = tensor.toTypedArray();
    tensor.dispose();
    return [name, Buffer.from(buffer, byteOffset, byteLength).toString('base64')];
  });
  return Object.fromEntries(entries) as Record<string, string>;
}

/**
 * The log without what a clock decides and the marks of interruptions.
 *
 * @param types of the records that count; without: records of steps, epochs and evaluations.
 */
export async function logOf(
  folder: string,
  types: readonly string[] = ['steps', 'epoch', 'evaluation'],
): Promise<Record<string, unknown>[]> {
  const lines = (await fs.readFile(path.join(folder, 'events.jsonl'), 'utf8')).trimEnd().split('\n');
  return lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ type }) => types.includes(type as string))
    .map(({ time: _t, seconds: _s, samples_per_second: _p, ...rest }) => rest);
}
