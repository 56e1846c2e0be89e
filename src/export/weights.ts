/**
 * The formats that hold the state dict: a model file of our own, plain safetensors, and PyTorch's `.pth`. Opened
 * again, their tensors are loaded into a fresh graph.
 */
import { DTYPE_BYTES } from '../graph/dtypes.js';
import { disposeAll, writeSafetensors } from '../io/safetensors.js';
import { readModelHeader, writeModelFile, type ModelFileHeader } from '../model/file.js';
import { normalizeOf } from '../model/info.js';
import type { FileTensor, NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { readWeights } from '../weights/read_weights.js';
import { checkState } from './compare.js';
import type { Exporter, ExportSource, ExportTensor, Reopened } from './format.js';
import { exportMetadata } from './metadata.js';
import { pickleStateDict } from './pickle.js';
import { zipChunks } from './zip.js';

type State = readonly { name: string; tensor: NativeTensor }[];

/** The state dict, without what belongs to the export. */
function stateDict({ state, constants }: ExportSource): ExportTensor[] {
  return state.filter(({ name }) => !constants.has(name));
}

/** A graph with the weights that were read, checked against those that were written. */
async function reopen(
  source: ExportSource,
  options: { file: string; how: string; read: () => Promise<State>; model?: ModelFileHeader },
): Promise<Reopened> {
  const { Graph: NativeGraph, InferenceSession } = loadAddon();
  const { file, how, read, model } = options;
  const native = new NativeGraph(model?.graph ?? source.original.graph, { trusted: model === undefined });
  const tensors = await read();
  try {
    checkState(stateDict(source), tensors, file);
    native.loadState(Object.fromEntries(tensors.map(({ name, tensor }) => [name, tensor])));
  } catch (error) {
    native.dispose();
    throw error;
  } finally {
    disposeAll(tensors.map(({ tensor }) => tensor));
  }
  // For inputs of an export with preprocessing inside: these formats leave it to whoever reads them.
  const normalize = normalizeOf((model?.info ?? source.info).preprocessing);
  const session = new InferenceSession(native, normalize ? { normalize } : {});
  return {
    how,
    forward: (inputs) => session.forward(inputs),
    dispose: () => {
      session.dispose();
      native.dispose();
    },
  };
}

async function readTensors(file: string, tensors: FileTensor[]): Promise<State> {
  const read = await loadAddon().readTensors(file, tensors);
  return tensors.map(({ name }, i) => ({ name, tensor: read[i]! }));
}

/** By the reader of weights that knows no model. */
async function readListed(file: string): Promise<State> {
  return readTensors(file, (await readWeights(file)).tensors);
}

/** The self-describing file that `Model.load` and every command take. */
export const fornax: Exporter = {
  format: 'fornax',
  extension: '.fornax.safetensors',
  unsupported: () => null,
  write: async (source, file) => {
    await writeModelFile(file, source.original.graph, stateDict(source), source.original.info);
    return [];
  },
  open: async (source, file) => {
    const model = await readModelHeader(file);
    const read = (): Promise<State> => readTensors(file, model.tensors);
    return reopen(source, { file, how: 'the model file read again', read, model });
  },
};

/** Names and tensors of the state dict alone, for `safetensors.torch.load_file`. */
export const safetensors: Exporter = {
  format: 'safetensors',
  extension: '.safetensors',
  unsupported: () => null,
  write: async (source, file) => {
    await writeSafetensors(
      file,
      stateDict(source).map(({ name, tensor }) => [name, tensor] as const),
      // `format` is what Hugging Face's tools look for.
      { format: 'pt', fornax: JSON.stringify(exportMetadata(source)) },
    );
    return [];
  },
  open: (source, file) =>
    reopen(source, { file, how: 'the weights read again', read: () => readListed(file) }),
};

async function writePth(source: ExportSource, file: string): Promise<string[]> {
  const tensors = stateDict(source);
  const sums = await loadAddon().tensorChecksums(tensors.map(({ tensor }) => tensor));
  const text = (value: string): Uint8Array => Buffer.from(value, 'ascii');
  const described = tensors.map(({ name, tensor }) => ({
    name,
    shape: tensor.shape,
    dtype: tensor.dtype,
  }));
  const records = [
    { name: 'archive/data.pkl', data: pickleStateDict(described) },
    { name: 'archive/.format_version', data: text('1') },
    { name: 'archive/.storage_alignment', data: text('64') },
    { name: 'archive/byteorder', data: text('little') },
    ...tensors.map(({ tensor }, i) => {
      const elements = tensor.shape.reduce((product, length) => product * length, 1);
      return {
        name: `archive/data/${i}`,
        data: { tensor, length: elements * DTYPE_BYTES[tensor.dtype], crc: sums[i]! },
      };
    }),
    { name: 'archive/version', data: text('3\n') },
  ];
  await loadAddon().writeTensors(file, zipChunks(records));
  return [];
}

/** A state dict as torch.save writes it, which `torch.load(weights_only=True)` opens. */
export const pth: Exporter = {
  format: 'pth',
  extension: '.pth',
  unsupported: () => null,
  write: writePth,
  open: (source, file) =>
    reopen(source, { file, how: 'the weights read again', read: () => readListed(file) }),
};
