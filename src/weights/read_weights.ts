/** Recognises a file of weights by its first bytes and lists its tensors. No tensor is read. */
import { WeightsError } from '../errors.js';
import { readHeader } from '../io/safetensors_header.js';
import { withFile, type ByteSource } from './byte_source.js';
import { isLegacy, readLegacyWeights, readZipWeights } from './read_pth.js';
import type { TensorDirectory } from './tensor_directory.js';

export interface ReadWeightsOptions {
  /** Take the state dict under this key of a checkpoint (`model_ema`), instead of looking for it. */
  key?: string;
}

/**
 * Lists the tensors of a `.safetensors`, `.pth`/`.pt`/`.tar`/`.th` (zip or legacy form) or TorchScript file.
 * The file may come from anywhere: nothing in it is executed.
 *
 * @throws WeightsError if it is missing, damaged, hostile or of another kind.
 */
export async function readWeights(file: string, options: ReadWeightsOptions = {}): Promise<TensorDirectory> {
  const directory = await withFile(file, (source) => readPickledWeights(source, options.key));
  if (directory) return directory;
  const { tensors, metadata } = await readHeader(file);
  return { format: 'safetensors', tensors, skipped: [], metadata, notes: [] };
}

/** The directory of a file that holds pickles; null for one that may be safetensors. */
export async function readPickledWeights(source: ByteSource, key?: string): Promise<TensorDirectory | null> {
  const head = await source.read(0, Math.min(source.size, 512));
  if (head.length >= 4 && head.readUInt32LE(0) === 0x04034b50) return readZipWeights(source, key);
  if (isLegacy(head)) return readLegacyWeights(source, key);
  if (head.length >= 9 && head[8] === 0x7b) return null; // a length, then {
  throw new WeightsError({
    what: `this is no file of weights that is known${guess(head)}`,
    fix: 'give a .safetensors file, a .pth file of torch.save, or a TorchScript archive',
  });
}

function guess(head: Buffer): string {
  const text = head.toString('latin1');
  if (text.slice(257, 262) === 'ustar')
    return ': it is a tar archive (PyTorch before 0.1.10, or not weights)';
  if (text.startsWith('<')) return ': it is a web page, maybe the error page of a download';
  if (text.startsWith('\x89HDF')) return ': it is an HDF5 file (Keras)';
  if (text.startsWith('version https://git-lfs'))
    return ": it is Git LFS's pointer; fetch the file with git lfs pull";
  if (text.startsWith('\x1f\x8b')) return ': it is compressed with gzip';
  if (head[0] === 0x80 && head[1]! <= 5) return ': it is a pickle that torch.save did not write';
  return '';
}
