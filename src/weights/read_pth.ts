/**
 * Files of torch.save: the zip form (PyTorch ≥ 1.6; torch/serialization.py `_load`), the legacy form
 * (`_legacy_load`) and TorchScript archives, whose parameters lie in the same layout.
 */
import { WeightsError } from '../errors.js';
import { escapeControlCharacters } from '../io/control_characters.js';
import { DTYPE_BYTES } from '../graph/dtypes.js';
import type { DType } from '../graph/format.js';
import type { ByteSource } from './byte_source.js';
import { InertObject, PickledStorage, PickleTuple, StorageType, type PickleValue } from './pickle/values.js';
import { PickleEnds } from './pickle/reader.js';
import { unpickle } from './pickle/unpickler.js';
import { findStateDict, flattenModule, type FoundTensors } from './state_dict.js';
import { locate, type StorageRange, type TensorDirectory, type WeightsFormat } from './tensor_directory.js';
import { dataOffset, readEntry, readZipDirectory, type ZipEntry } from './zip.js';

/** Bytes of a pickle. Those of the largest models (without their tensors) have some megabytes. */
const MAX_PICKLE_BYTES = 64 * 2 ** 20;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

/** Bytes of dtypes that only storages have. */
const OTHER_BYTES: Record<string, number> = {
  ...{ complex32: 4, complex64: 8, complex128: 16, qint8: 1, quint8: 1, qint32: 4, quint4x2: 1, quint2x4: 1 },
};

function elementBytes(dtype: string | null): number {
  if (dtype === null) return 1;
  return DTYPE_BYTES[dtype as DType] ?? OTHER_BYTES[dtype] ?? 1;
}

/** Collects the storages a pickle refers to: `('storage', type, key, location, numel[, view])`. */
class Storages {
  readonly byKey = new Map<string, PickledStorage>();

  load = (id: PickleValue): PickleValue => {
    const items = id instanceof PickleTuple ? id.items : [];
    if (items[0] === 'module') return items[1] ?? null; // (class, source file, source): only the class's name
    const [tag, type, rawKey, , elements, view] = items;
    const key = typeof rawKey === 'number' ? String(rawKey) : rawKey;
    if (tag !== 'storage' || !(type instanceof StorageType) || typeof key !== 'string')
      throw new WeightsError('the pickle is not sound: it refers to data in a way that is not known');
    if (!Number.isSafeInteger(elements) || (elements as number) < 0)
      throw new WeightsError('the pickle is not sound: a storage has no valid size');
    const storage = new PickledStorage(key, type.dtype, elements as number);
    const known = this.byKey.get(key);
    if (known && known.elements * elementBytes(known.dtype) !== storage.elements * elementBytes(type.dtype))
      throw new WeightsError(`the pickle is not sound: the storage '${shorten(key)}' has two sizes`);
    if (!known) this.byKey.set(key, storage);
    if (!(view instanceof PickleTuple)) return storage;
    // (key, offset, size) in elements: how PyTorch before 0.4 shared storages.
    const [, offset, size] = view.items;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(size) || (offset as number) < 0)
      throw new WeightsError('the pickle is not sound: a view of a storage has no valid place');
    if ((size as number) < 0 || (offset as number) + (size as number) > storage.elements)
      throw new WeightsError('the pickle is not sound: a view reaches outside its storage');
    return new PickledStorage(key, type.dtype, size as number, offset as number);
  };
}

function shorten(text: string): string {
  return escapeControlCharacters(text.length > 80 ? text.slice(0, 77) + '…' : text);
}

async function directoryOf(
  format: WeightsFormat,
  found: FoundTensors,
  rangeOf: (storage: PickledStorage) => Promise<StorageRange | string>,
): Promise<TensorDirectory> {
  const directory: TensorDirectory = {
    format,
    tensors: [],
    skipped: [...found.skipped],
    metadata: {},
    notes: [...found.notes],
  };
  for (const [name, tensor] of found.tensors) {
    const range = tensor.storage ? await rangeOf(tensor.storage) : tensor.reason!;
    const located = typeof range === 'string' ? range : locate(shorten(name), tensor, range);
    if (typeof located === 'string') directory.skipped.push({ name, reason: located });
    else directory.tensors.push({ ...located, name });
  }
  return directory;
}

/** Reads a zip archive of torch.save or torch.jit.save. */
export async function readZipWeights(source: ByteSource, key?: string): Promise<TensorDirectory> {
  const entries = await readZipDirectory(source);
  // `<archive>/data.pkl`: the name of the folder is that of the file when it was written.
  const pickles = [...entries.keys()].filter((name) => /^([^/]*\/)?data\.pkl$/.test(name));
  if (pickles.length !== 1) {
    throw new WeightsError({
      what: `this zip archive holds no weights: there is ${pickles.length === 0 ? 'no' : 'more than one'} data.pkl in it`,
      fix: 'give a file that torch.save or torch.jit.save has written',
    });
  }
  const prefix = pickles[0]!.slice(0, -'data.pkl'.length);
  const isScript = entries.has(`${prefix}constants.pkl`);
  const storages = new Storages();
  const pickle = await readEntry(source, entries.get(pickles[0]!)!, MAX_PICKLE_BYTES);
  const { value } = unpickle(pickle, 0, { persistentLoad: storages.load });
  const order = entries.get(`${prefix}byteorder`);
  const bigEndian = order !== undefined && (await readEntry(source, order, 16)).toString('latin1') === 'big';
  const ranges = new Map<string, StorageRange>();
  if (isScript && value instanceof InertObject && flattenModule(value) === null) {
    throw new WeightsError({
      what: 'the modules of this TorchScript archive have no tensors: it is frozen, its weights are constants without names',
      fix: 'export it without torch.jit.freeze, or save its state dict',
    });
  }
  return directoryOf(isScript ? 'torchscript' : 'pth', findStateDict(value, key), async ({ key: id }) => {
    const known = ranges.get(id);
    if (known) return known;
    const entry = entries.get(`${prefix}data/${id}`);
    if (!entry) throw new WeightsError(`the archive lacks the storage '${shorten(id)}'`);
    const range = await storageRange(source, entry, storages.byKey.get(id)!, bigEndian);
    ranges.set(id, range);
    return range;
  });
}

async function storageRange(
  source: ByteSource,
  entry: ZipEntry,
  storage: PickledStorage,
  bigEndian: boolean,
): Promise<StorageRange> {
  if (entry.method !== 0) {
    throw new WeightsError({
      what: `the tensors in the archive are compressed ('${shorten(entry.name)}')`,
      fix: 'torch.save does not compress: load the file in Python and save it again, or unpack it and pack it without compression',
    });
  }
  const bytes = storage.elements * elementBytes(storage.dtype);
  if (entry.bytes < bytes) {
    throw new WeightsError(
      `the storage '${shorten(entry.name)}' has ${entry.bytes} bytes in the archive and ${bytes} in its pickle`,
    );
  }
  return { offset: await dataOffset(source, entry), bytes, bigEndian };
}

/** Whether a file begins like one of the legacy form: PROTO 2, then the magic number. */
export function isLegacy(head: Uint8Array): boolean {
  try {
    return unpickle(head).value === LEGACY_MAGIC;
  } catch {
    return false;
  }
}

/** Reads a legacy file: five pickles, then every storage with its length in elements before it. */
export async function readLegacyWeights(source: ByteSource, key?: string): Promise<TensorDirectory> {
  const { value, keys, end, storages } = await readLegacyPickles(source);
  const ranges = new Map<string, StorageRange>();
  let at = end;
  for (const id of keys) {
    const storage =
      typeof id === 'string' || typeof id === 'number' ? storages.byKey.get(String(id)) : undefined;
    if (!storage) throw new WeightsError('the file lists a storage that no tensor uses: it is damaged');
    const elements = (await source.read(at, 8)).readBigInt64LE(0);
    if (elements !== BigInt(storage.elements)) {
      throw new WeightsError(
        `the storage '${shorten(storage.key)}' has ${elements} elements in the file and ${storage.elements} in its pickle`,
      );
    }
    const bytes = storage.elements * elementBytes(storage.dtype);
    if (at + 8 + bytes > source.size) {
      throw new WeightsError({
        what: `the file ends too early: the storage '${shorten(storage.key)}' needs ${bytes} bytes`,
        fix: 'the file is truncated: get it again',
      });
    }
    // Written little endian on every machine (torch/csrc/serialization.cpp).
    ranges.set(storage.key, { offset: at + 8, bytes, bigEndian: false });
    at += 8 + bytes;
  }
  return directoryOf('legacy pth', findStateDict(value, key), ({ key: id }) => {
    const range = ranges.get(id);
    if (!range) throw new WeightsError(`the file lacks the storage '${shorten(id)}'`);
    return Promise.resolve(range);
  });
}

/** The pickles stand at the beginning, of unknown length: a growing piece of the file is read until they fit. */
async function readLegacyPickles(
  source: ByteSource,
): Promise<{ value: PickleValue; keys: PickleValue[]; end: number; storages: Storages }> {
  for (
    let length = Math.min(source.size, 1 << 20);
    ;
    length = Math.min(source.size, length * 4, MAX_PICKLE_BYTES)
  ) {
    const bytes = await source.read(0, length);
    const storages = new Storages();
    try {
      const magic = unpickle(bytes);
      const protocol = unpickle(bytes, magic.end);
      if (magic.value !== LEGACY_MAGIC || protocol.value !== LEGACY_PROTOCOL)
        throw new WeightsError('the file is not of the legacy form of torch.save that is known');
      const system = unpickle(bytes, protocol.end);
      const object = unpickle(bytes, system.end, { persistentLoad: storages.load });
      const { value: keys, end } = unpickle(bytes, object.end);
      if (!Array.isArray(keys)) throw new WeightsError('the file is not sound: its list of storages is none');
      return { value: object.value, keys, end, storages };
    } catch (error) {
      if (!(error instanceof PickleEnds) || length === source.size || length === MAX_PICKLE_BYTES)
        throw error;
    }
  }
}
