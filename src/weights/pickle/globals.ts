/**
 * The names a pickle may refer to. What torch.save and torch.jit.save write is understood; a class that is not
 * known becomes an inert object; a function that is not known is an error as soon as the pickle wants it called.
 * Nothing is ever imported or called but the functions in this file, which only build plain data.
 */
import { WeightsError } from '../../errors.js';
import {
  InertObject,
  PickledDType,
  PickledStorage,
  PickledTensor,
  PickleGlobal,
  PickleTuple,
  StorageType,
  type PickleValue,
} from './values.js';

/** Modules that no honest file of weights names. Refused on sight, so that the message can be clear. */
const HOSTILE = new Set([
  ...['os', 'posix', 'nt', 'sys', 'subprocess', 'pty', 'socket', 'shutil', 'importlib', 'imp', 'runpy'],
  ...['codeop', 'ctypes', 'multiprocessing', 'webbrowser', 'urllib', 'requests', 'pip', 'pydoc', 'timeit'],
  ...['bdb', 'pdb', 'cProfile', 'popen2', 'operator', 'tempfile', 'pickle', '_pickle', 'cloudpickle', 'dill'],
  ...['marshal', 'asyncio', 'threading', '_thread'],
]);

/** What pickles may take from Python's builtins; everything else there (eval, getattr, open) is hostile. */
const BUILTINS = new Set([
  ...['object', 'int', 'float', 'str', 'bool', 'complex', 'slice', 'range', 'xrange', 'long', 'unicode'],
  ...['NoneType', 'Ellipsis', 'type', 'Exception'],
]);

const STORAGES: Record<string, string> = {
  FloatStorage: 'float32',
  DoubleStorage: 'float64',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
  LongStorage: 'int64',
  IntStorage: 'int32',
  ShortStorage: 'int16',
  CharStorage: 'int8',
  ByteStorage: 'uint8',
  BoolStorage: 'bool',
  ComplexFloatStorage: 'complex64',
  ComplexDoubleStorage: 'complex128',
  QInt8Storage: 'qint8',
  QUInt8Storage: 'quint8',
  QInt32Storage: 'qint32',
  QUInt4x2Storage: 'quint4x2',
  QUInt2x4Storage: 'quint2x4',
};

const DTYPES = new Set([
  ...Object.values(STORAGES),
  ...['float', 'double', 'half', 'long', 'int', 'short', 'complex32', 'uint16', 'uint32', 'uint64'],
  ...['float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz'],
]);

function fail(what: string): never {
  throw new WeightsError(what);
}

function sizes(value: PickleValue | undefined, what: string): number[] {
  const items = value instanceof PickleTuple ? value.items : Array.isArray(value) ? value : null;
  if (!items || items.length > 64 || !items.every((item) => Number.isSafeInteger(item)))
    return fail(`a tensor's ${what} is not a tuple of integers`);
  return [...(items as number[])];
}

function integer(value: PickleValue | undefined, what: string): number {
  return Number.isSafeInteger(value) ? (value as number) : fail(`${what} is no integer`);
}

/** torch._utils._rebuild_tensor(storage, storage_offset, size, stride); a dtype only for untyped storages. */
function rebuildTensor(args: readonly PickleValue[], dtype?: PickledDType): PickledTensor {
  const [storage, offset, size, stride] = args;
  if (!(storage instanceof PickledStorage))
    return fail('a tensor is rebuilt from something that is no storage');
  return new PickledTensor(
    storage,
    dtype?.name ?? storage.dtype ?? 'uint8',
    sizes(size, 'size'),
    sizes(stride, 'stride'),
    integer(offset, "a tensor's storage offset"),
  );
}

function tensorOf(value: PickleValue | undefined, by: string): PickledTensor {
  return value instanceof PickledTensor ? value : fail(`${by} wraps something that is no tensor`);
}

/** A tensor of a sort whose bytes have no plain layout. */
function unreadable(sort: string): () => PickledTensor {
  return () => new PickledTensor(null, sort, [], [], 0, `it is a ${sort} tensor`);
}

function mapOf(value: PickleValue | undefined): Map<PickleValue, PickleValue> {
  if (value === undefined || value === null) return new Map();
  if (value instanceof Map) return new Map(value);
  const pairs = listOf(value);
  return new Map(
    pairs.map((pair) => {
      // Not copied before it is known to be short: many pairs could be one long list.
      const parts = pair instanceof PickleTuple ? pair.items : Array.isArray(pair) ? pair : [];
      const [key, item] = parts.length === 2 ? parts : [];
      return key === undefined || item === undefined
        ? fail('a dict is made of something else than pairs')
        : [key, item];
    }),
  );
}

function listOf(value: PickleValue | undefined): PickleValue[] {
  if (value === undefined) return [];
  if (Array.isArray(value)) return [...value];
  if (value instanceof PickleTuple) return [...value.items];
  if (value instanceof Set) return [...value];
  return fail('a sequence is made of something that is none');
}

function bytesOf(value: PickleValue | undefined, encoding: PickleValue | undefined): Uint8Array {
  if (value === undefined) return new Uint8Array();
  if (value instanceof Uint8Array) return value;
  // How protocol 2 writes bytes. An integer would ask for that many zeros: memory from nothing.
  if (typeof value === 'string') return Buffer.from(value, encoding === 'utf-8' ? 'utf8' : 'latin1');
  if (Array.isArray(value) || value instanceof PickleTuple)
    return Uint8Array.from(listOf(value).map((item) => integer(item, 'a byte')));
  return fail('bytes are made of something that holds none');
}

const first = (args: readonly PickleValue[]): PickleValue => args[0] ?? null;
const inert =
  (type: string) =>
  (args: readonly PickleValue[]): InertObject =>
    new InertObject(type, args);

/** By full name: what may be called, and what it makes. */
const CALLABLE: Record<string, (args: readonly PickleValue[]) => PickleValue> = {
  'collections.OrderedDict': ([items]) => mapOf(items),
  'collections.defaultdict': ([, items]) => mapOf(items),
  'collections.Counter': ([items]) => mapOf(items),
  'collections.deque': ([items]) => listOf(items),
  'torch._utils._rebuild_tensor': (args) => rebuildTensor(args),
  'torch._utils._rebuild_tensor_v2': (args) => rebuildTensor(args),
  'torch._utils._rebuild_tensor_v3': (args) =>
    rebuildTensor(args, args[6] instanceof PickledDType ? args[6] : fail('a tensor has no dtype')),
  'torch._utils._rebuild_parameter': ([data]) => tensorOf(data, 'a parameter'),
  'torch._utils._rebuild_parameter_with_state': ([data]) => tensorOf(data, 'a parameter'),
  'torch._utils._rebuild_device_tensor_from_cpu_tensor': ([data]) => tensorOf(data, 'a tensor'),
  // (function, type, args, state): a subclass of Tensor. The function must be one of these.
  'torch._tensor._rebuild_from_type_v2': ([func, , args]) => {
    // Not itself, which would go on for ever in a list that holds itself.
    if (!(func instanceof PickleGlobal) || !func.call || !func.path.startsWith('torch._utils.'))
      return fail('a tensor is rebuilt by a function that is not known');
    return tensorOf(func.call(listOf(args)), 'a subclass of Tensor');
  },
  'torch._utils._rebuild_sparse_tensor': unreadable('sparse'),
  'torch._utils._rebuild_sparse_csr_tensor': unreadable('sparse'),
  'torch._utils._rebuild_nested_tensor': unreadable('nested'),
  'torch._utils._rebuild_qtensor': unreadable('quantised'),
  'torch._utils._rebuild_meta_tensor_no_storage': unreadable('meta'),
  'torch._utils._rebuild_wrapper_subclass': unreadable('wrapper'),
  'torch._utils._rebuild_device_tensor_from_numpy': unreadable('device'),
  'torch.Size': ([items]) => new PickleTuple(listOf(items)),
  'torch.device': inert('torch.device'),
  'torch.Generator': inert('torch.Generator'),
  'torch.serialization._get_layout': inert('torch.layout'),
  'torch.jit._pickle.build_intlist': first,
  'torch.jit._pickle.build_doublelist': first,
  'torch.jit._pickle.build_boollist': first,
  'torch.jit._pickle.build_tensorlist': first,
  'torch.jit._pickle.restore_type_tag': first,
  'torch.jit._pickle.build_tensor_from_id': unreadable('constant'),
  'numpy.dtype': inert('numpy.dtype'),
  'numpy.core.multiarray.scalar': inert('numpy.scalar'),
  'numpy._core.multiarray.scalar': inert('numpy.scalar'),
  'numpy.core.multiarray._reconstruct': inert('numpy.ndarray'),
  'numpy._core.multiarray._reconstruct': inert('numpy.ndarray'),
  'pathlib.PosixPath': inert('pathlib.Path'),
  'pathlib.PurePosixPath': inert('pathlib.Path'),
  'pathlib.WindowsPath': inert('pathlib.Path'),
  'pathlib._local.PosixPath': inert('pathlib.Path'),
  'datetime.datetime': inert('datetime.datetime'),
  'datetime.date': inert('datetime.date'),
  'datetime.timedelta': inert('datetime.timedelta'),
  'copyreg._reconstructor': ([type]) =>
    new InertObject(type instanceof PickleGlobal ? type.path : 'an object', []),
  '_codecs.encode': ([text, encoding]) => bytesOf(text, encoding),
  'builtins.set': ([items]) => new Set(listOf(items)),
  'builtins.frozenset': ([items]) => new Set(listOf(items)),
  'builtins.list': ([items]) => listOf(items),
  'builtins.tuple': ([items]) => new PickleTuple(listOf(items)),
  'builtins.dict': ([items]) => mapOf(items),
  'builtins.bytes': ([data, encoding]) => bytesOf(data, encoding),
  'builtins.bytearray': ([data, encoding]) => bytesOf(data, encoding),
  'builtins.complex': inert('complex'),
  'builtins.slice': inert('slice'),
  'builtins.range': inert('range'),
};

/** Names under which older Pythons know the same modules. */
const RENAMED: Record<string, string> = { __builtin__: 'builtins', copy_reg: 'copyreg' };

/**
 * The value of a global. Never imports anything.
 *
 * @throws WeightsError naming it, if only a malicious file would hold it.
 */
export function findGlobal(givenModule: string, name: string): PickleValue {
  const module = Object.hasOwn(RENAMED, givenModule) ? RENAMED[givenModule]! : givenModule;
  const path = `${module}.${name}`;
  if (Object.hasOwn(CALLABLE, path)) return new PickleGlobal(module, name, CALLABLE[path]!);
  if (module === 'torch' || module === 'torch.cuda' || module === 'torch.storage') {
    if (Object.hasOwn(STORAGES, name)) return new StorageType(STORAGES[name]!);
    if (name === 'UntypedStorage') return new StorageType(null);
    if (module === 'torch' && DTYPES.has(name)) return new PickledDType(name);
  }
  const root = module.split('.')[0]!;
  if (
    HOSTILE.has(root) ||
    (root === 'builtins' && !BUILTINS.has(name)) ||
    path === 'torch.storage._load_from_bytes' ||
    /^torch\.(hub|serialization|jit|package|utils\.(cpp_extension|model_zoo))\b/.test(path)
  ) {
    throw new WeightsError({
      what: `the file wants to use '${path}', which no file of weights needs: it was made to do harm, or is no file of weights`,
      fix: 'do not load it in Python either; nothing of it was executed here',
    });
  }
  return new PickleGlobal(module, name);
}
