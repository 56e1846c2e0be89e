/**
 * The pickle of a state dict as torch.save writes it (protocol 2): an OrderedDict from names to
 * `torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`, each storage a persistent id
 * `('storage', torch.FloatStorage, '0', 'cpu', elements)`. `torch.load(weights_only=True)` knows all of these.
 */
import type { DType } from '../graph/format.js';

const storageTypes: Readonly<Record<DType, string>> = {
  float32: 'FloatStorage',
  float64: 'DoubleStorage',
  float16: 'HalfStorage',
  bfloat16: 'BFloat16Storage',
  int64: 'LongStorage',
  int32: 'IntStorage',
  int16: 'ShortStorage',
  int8: 'CharStorage',
  uint8: 'ByteStorage',
  bool: 'BoolStorage',
};

/** Opcodes of Python's pickletools, by their names there. */
const PROTO = 0x80;
const MARK = 0x28;
const STOP = 0x2e;
const GLOBAL = 0x63;
const REDUCE = 0x52;
const EMPTY_TUPLE = 0x29;
const TUPLE = 0x74;
const BINPERSID = 0x51;
const BINUNICODE = 0x58;
const BININT = 0x4a;
const LONG1 = 0x8a;
const NEWFALSE = 0x89;
const SETITEMS = 0x75;
const BINPUT = 0x71;
const BINGET = 0x68;

class Pickler {
  private readonly chunks: Buffer[] = [];
  private readonly memo = new Map<string, number>();

  bytes(...values: number[]): void {
    this.chunks.push(Buffer.from(values));
  }

  text(value: string): void {
    const data = Buffer.from(value, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32LE(data.length);
    this.chunks.push(Buffer.from([BINUNICODE]), length, data);
  }

  integer(value: number): void {
    const small = value < 2 ** 31;
    const data = Buffer.alloc(small ? 4 : 8);
    if (small) data.writeInt32LE(value);
    else data.writeBigInt64LE(BigInt(value));
    this.chunks.push(Buffer.from(small ? [BININT] : [LONG1, 8]), data);
  }

  integers(values: readonly number[]): void {
    this.bytes(MARK);
    for (const value of values) this.integer(value);
    this.bytes(TUPLE);
  }

  /** Written once, and taken from the memo afterwards. There are at most a dozen different ones. */
  shared(key: string, write: () => void): void {
    const known = this.memo.get(key);
    if (known !== undefined) return this.bytes(BINGET, known);
    write();
    this.memo.set(key, this.memo.size);
    this.bytes(BINPUT, this.memo.size - 1);
  }

  global(module: string, name: string): void {
    this.shared(`${module}.${name}`, () =>
      this.chunks.push(Buffer.from([GLOBAL]), Buffer.from(`${module}\n${name}\n`, 'ascii')),
    );
  }

  emptyDict(): void {
    this.global('collections', 'OrderedDict');
    this.bytes(EMPTY_TUPLE, REDUCE);
  }

  finish(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

function contiguousStrides(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (const length of [...shape].reverse()) {
    strides.unshift(stride);
    stride *= Math.max(length, 1);
  }
  return strides;
}

/** The `data.pkl` of a state dict; the i-th tensor's bytes are those of the record `data/<i>`. */
export function pickleStateDict(
  tensors: readonly { name: string; shape: readonly number[]; dtype: DType }[],
): Buffer {
  const out = new Pickler();
  out.bytes(PROTO, 2);
  out.emptyDict();
  out.bytes(MARK);
  for (const [i, { name, shape, dtype }] of tensors.entries()) {
    out.text(name);
    out.global('torch._utils', '_rebuild_tensor_v2');
    out.bytes(MARK, MARK);
    out.shared("'storage'", () => out.text('storage'));
    out.global('torch', storageTypes[dtype]);
    out.text(String(i));
    out.shared("'cpu'", () => out.text('cpu'));
    out.integer(shape.reduce((product, length) => product * length, 1));
    out.bytes(TUPLE, BINPERSID);
    out.integer(0);
    out.integers(shape);
    out.integers(contiguousStrides(shape));
    out.bytes(NEWFALSE);
    out.emptyDict();
    out.bytes(TUPLE, REDUCE);
  }
  out.bytes(SETITEMS, STOP);
  return out.finish();
}
