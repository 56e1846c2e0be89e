/** Files of weights made by hand, sound and unsound, independent of the product's own writers. */
import { deflateRawSync } from 'node:zlib';

import { Opcode } from '#fornax/weights/pickle/opcodes.js';

const bytes = (...values: number[]): Buffer => Buffer.from(values);

function uint(value: number | bigint, size: 1 | 2 | 4 | 8): Buffer {
  const data = Buffer.alloc(size);
  if (size === 8) data.writeBigUInt64LE(BigInt(value));
  else data.writeUIntLE(Number(value), 0, size);
  return data;
}

/** A value for `encode` that JavaScript has no literal for. */
export class Py {
  constructor(readonly code: Buffer) {}
}

export const global = (module: string, name: string): Py =>
  new Py(Buffer.concat([bytes(Opcode.GLOBAL), Buffer.from(`${module}\n${name}\n`)]));
export const tuple = (...items: unknown[]): Py =>
  new Py(Buffer.concat([bytes(Opcode.MARK), ...items.map(encode), bytes(Opcode.TUPLE)]));
export const call = (callable: Py, ...args: unknown[]): Py =>
  new Py(Buffer.concat([callable.code, tuple(...args).code, bytes(Opcode.REDUCE)]));
export const instance = (type: Py, state: unknown): Py =>
  new Py(Buffer.concat([type.code, tuple().code, bytes(Opcode.NEWOBJ), encode(state), bytes(Opcode.BUILD)]));
export const persistent = (id: Py): Py => new Py(Buffer.concat([id.code, bytes(Opcode.BINPERSID)]));
export const float = (value: number): Py => {
  const data = Buffer.alloc(8);
  data.writeDoubleBE(value);
  return new Py(Buffer.concat([bytes(Opcode.BINFLOAT), data]));
};

export function encode(value: unknown): Buffer {
  if (value instanceof Py) return value.code;
  if (value === null || value === undefined) return bytes(Opcode.NONE);
  if (typeof value === 'boolean') return bytes(value ? Opcode.NEWTRUE : Opcode.NEWFALSE);
  if (typeof value === 'number') {
    const data = Buffer.alloc(8);
    data.writeBigInt64LE(BigInt(value));
    return Buffer.concat([bytes(Opcode.LONG1, 8), data]);
  }
  if (typeof value === 'string') {
    const data = Buffer.from(value);
    return Buffer.concat([bytes(Opcode.BINUNICODE), uint(data.length, 4), data]);
  }
  if (Array.isArray(value)) {
    return Buffer.concat([
      bytes(Opcode.EMPTY_LIST, Opcode.MARK),
      ...value.map(encode),
      bytes(Opcode.APPENDS),
    ]);
  }
  const entries = value instanceof Map ? [...value] : Object.entries(value as object);
  return Buffer.concat([
    bytes(Opcode.EMPTY_DICT, Opcode.MARK),
    ...entries.flatMap(([key, item]) => [encode(key), encode(item)]),
    bytes(Opcode.SETITEMS),
  ]);
}

export function pickle(value: unknown, protocol = 2): Buffer {
  return Buffer.concat([bytes(Opcode.PROTO, protocol), encode(value), bytes(Opcode.STOP)]);
}

export interface TensorSpec {
  /** Name of the storage's class. Default FloatStorage. */
  type?: string;
  key: string;
  /** Elements of the storage. */
  elements: number;
  shape: number[];
  strides: number[];
  offset?: number;
  view?: Py | null;
}

/** `torch._utils._rebuild_tensor_v2(storage, …)`. In the legacy form a storage's id has a sixth entry. */
export function tensor(spec: TensorSpec, legacy = false): Py {
  const { type = 'FloatStorage', key, elements, shape, strides, offset = 0, view = null } = spec;
  const id = ['storage', global('torch', type), key, 'cpu', elements, ...(legacy ? [view] : [])];
  return call(
    global('torch._utils', '_rebuild_tensor_v2'),
    persistent(tuple(...id)),
    offset,
    tuple(...shape),
    tuple(...strides),
    false,
    call(global('collections', 'OrderedDict')),
  );
}

export interface ZipPart {
  name: string;
  data: Buffer;
  /** Compress it. */
  deflate?: boolean;
  /** Lies in the directory. */
  claims?: { bytes?: number; compressed?: number; offset?: number; flags?: number };
}

/** A zip archive as torch.save writes it, or one that lies about itself. */
export function zip(parts: readonly ZipPart[], options: { zip64?: boolean; comment?: string } = {}): Buffer {
  const chunks: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  const push = (chunk: Buffer): void => {
    chunks.push(chunk);
    at += chunk.length;
  };
  for (const { name, data, deflate, claims = {} } of parts) {
    const stored = deflate ? deflateRawSync(data) : data;
    const method = deflate ? 8 : 0;
    const title = Buffer.from(name);
    const offset = at;
    const common = [uint(claims.flags ?? 0, 2), uint(method, 2), uint(0, 4), uint(0, 4)];
    const sizes = [claims.compressed ?? stored.length, claims.bytes ?? data.length] as const;
    push(
      Buffer.concat([
        Buffer.from('PK\x03\x04\x14\x00', 'latin1'),
        ...common,
        uint(sizes[0], 4),
        uint(sizes[1], 4),
        uint(title.length, 2),
        uint(0, 2),
        title,
      ]),
    );
    push(stored);
    const extra = options.zip64
      ? Buffer.concat([
          uint(1, 2),
          uint(24, 2),
          uint(sizes[1], 8),
          uint(sizes[0], 8),
          uint(claims.offset ?? offset, 8),
        ])
      : Buffer.alloc(0);
    const small = (value: number): Buffer => uint(options.zip64 ? 0xffffffff : value, 4);
    directory.push(
      Buffer.concat([
        Buffer.from('PK\x01\x02\x14\x00\x14\x00', 'latin1'),
        ...common,
        small(sizes[0]),
        small(sizes[1]),
        uint(title.length, 2),
        uint(extra.length, 2),
        Buffer.alloc(10),
        small(claims.offset ?? offset),
        title,
        extra,
      ]),
    );
  }
  const start = at;
  const listing = Buffer.concat(directory);
  push(listing);
  const comment = Buffer.from(options.comment ?? '');
  if (options.zip64) {
    const record = at;
    const counts = [uint(parts.length, 8), uint(parts.length, 8), uint(listing.length, 8), uint(start, 8)];
    push(Buffer.concat([Buffer.from('PK\x06\x06', 'latin1'), uint(44, 8), Buffer.alloc(12), ...counts]));
    push(Buffer.concat([Buffer.from('PK\x06\x07', 'latin1'), uint(0, 4), uint(record, 8), uint(1, 4)]));
  }
  const count = options.zip64 ? 0xffff : parts.length;
  const last = [
    uint(options.zip64 ? 0xffffffff : listing.length, 4),
    uint(options.zip64 ? 0xffffffff : start, 4),
  ];
  push(
    Buffer.concat([
      Buffer.from('PK\x05\x06\x00\x00\x00\x00', 'latin1'),
      uint(count, 2),
      uint(count, 2),
      ...last,
      uint(comment.length, 2),
      comment,
    ]),
  );
  return Buffer.concat(chunks);
}

export const floats = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);

/** An archive of torch.save: the pickle and its storages. */
export function pth(
  value: unknown,
  storages: Record<string, Buffer>,
  options: { script?: boolean; byteorder?: string; deflate?: boolean; zip64?: boolean } = {},
): Buffer {
  const parts: ZipPart[] = [
    { name: 'archive/data.pkl', data: pickle(value), ...(options.deflate ? { deflate: true } : {}) },
  ];
  if (options.byteorder) parts.push({ name: 'archive/byteorder', data: Buffer.from(options.byteorder) });
  if (options.script) {
    parts.push({ name: 'archive/code/__torch__.py', data: Buffer.from('class Net(Module):\n') });
    parts.push({ name: 'archive/constants.pkl', data: pickle(tuple()) });
  }
  for (const [key, data] of Object.entries(storages)) parts.push({ name: `archive/data/${key}`, data });
  parts.push({ name: 'archive/version', data: Buffer.from('3\n') });
  return zip(parts, options.zip64 ? { zip64: true } : {});
}

export const LEGACY_MAGIC = new Py(
  Buffer.concat([bytes(Opcode.LONG1, 10), Buffer.from('6cfc9c46f9206aa85019', 'hex')]),
);

/** The legacy form of torch.save: five pickles, then each storage behind its number of elements. */
export function legacy(
  value: unknown,
  storages: readonly { key: string; elements: number; data: Buffer }[],
): Buffer {
  return Buffer.concat([
    pickle(LEGACY_MAGIC),
    pickle(1001),
    pickle({ protocol_version: 1001, little_endian: true, type_sizes: { short: 2, int: 4, long: 4 } }),
    pickle(value),
    pickle(storages.map(({ key }) => key)),
    ...storages.flatMap(({ elements, data }) => [uint(elements, 8), data]),
  ]);
}
