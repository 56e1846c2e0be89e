/**
 * Zip archives of stored records whose data begins at multiples of 64 bytes, as PyTorch's own writer makes them
 * (caffe2/serialize/inline_container.cc): the space between is an extra field 'FB' of the record's header.
 */
import { crc32 } from 'node:zlib';

import { ArgumentError } from '../errors.js';
import type { NativeTensor } from '../native/contract.js';

export interface ZipRecord {
  name: string;
  /** What the record holds: bytes, or a tensor's with their length and CRC-32. */
  data: Uint8Array | { tensor: NativeTensor; length: number; crc: number };
}

const ALIGNMENT = 64;
/** Names are UTF-8. */
const FLAGS = 0x0800;
/** 1 January 1980, the first date there is: the same model gives the same file. */
const DOS_DATE = 0x0021;
const LARGEST = 0xffff_fffe;

interface Placed {
  name: Buffer;
  length: number;
  crc: number;
  offset: number;
}

/** The fields that the local and the central header share. */
function commonFields({ name, length, crc }: Placed, extraLength: number): Buffer {
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(FLAGS, 2);
  fields.writeUInt16LE(DOS_DATE, 8);
  fields.writeUInt32LE(crc, 10);
  fields.writeUInt32LE(length, 14);
  fields.writeUInt32LE(length, 18);
  fields.writeUInt16LE(name.length, 22);
  fields.writeUInt16LE(extraLength, 24);
  return fields;
}

function localHeader(record: Placed): Buffer {
  const before = record.offset + 30 + record.name.length;
  // The field itself takes 4 bytes.
  const padding = (ALIGNMENT - ((before + 4) % ALIGNMENT)) % ALIGNMENT;
  const extra = Buffer.alloc(4 + padding, 'Z');
  extra.write('FB', 0, 'ascii');
  extra.writeUInt16LE(padding, 2);
  const signature = Buffer.from('PK\x03\x04', 'latin1');
  return Buffer.concat([signature, commonFields(record, extra.length), record.name, extra]);
}

function centralHeader(record: Placed): Buffer {
  const tail = Buffer.alloc(14);
  tail.writeUInt32LE(record.offset, 10);
  const start = Buffer.from('PK\x01\x02\x00\x00', 'latin1');
  return Buffer.concat([start, commonFields(record, 0), tail, record.name]);
}

function endOfCentralDirectory(records: number, length: number, offset: number): Buffer {
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(records, 8);
  end.writeUInt16LE(records, 10);
  end.writeUInt32LE(length, 12);
  end.writeUInt32LE(offset, 16);
  return end;
}

/**
 * The archive as the pieces that `writeTensors` takes, tensors in their places.
 *
 * @throws ArgumentError beyond 4 GiB or 65,534 records, which need the zip64 form.
 */
export function zipChunks(records: readonly ZipRecord[]): (Uint8Array | NativeTensor)[] {
  const chunks: (Uint8Array | NativeTensor)[] = [];
  const placed: Placed[] = [];
  let offset = 0;
  for (const { name, data } of records) {
    const bytes = data instanceof Uint8Array ? data : null;
    const { length, crc } = data instanceof Uint8Array ? { length: data.length, crc: checksum(data) } : data;
    const record: Placed = { name: Buffer.from(name, 'utf8'), length, crc, offset };
    if (offset + length > LARGEST) throw tooLarge();
    const header = localHeader(record);
    chunks.push(header, bytes ?? (data as { tensor: NativeTensor }).tensor);
    placed.push(record);
    offset += header.length + length;
  }
  const directory = Buffer.concat(placed.map(centralHeader));
  if (offset > LARGEST || placed.length >= 0xffff) throw tooLarge();
  chunks.push(directory, endOfCentralDirectory(placed.length, directory.length, offset));
  return chunks;
}

function tooLarge(): ArgumentError {
  return new ArgumentError({
    what: 'the weights are too large for a zip archive without extensions (4 GiB, 65,534 tensors)',
    fix: 'export them as safetensors',
  });
}

function checksum(data: Uint8Array): number {
  return crc32(data);
}
