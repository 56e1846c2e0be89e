/**
 * The directory of a zip archive as torch.save and torch.jit.save write it: entries are stored, not compressed,
 * so that a tensor's bytes can be read where they lie. PKWARE's APPNOTE.TXT, with zip64. Archives come from
 * anywhere: entries that overlap, repeat a name or reach outside the file are refused.
 */
import { inflateRawSync } from 'node:zlib';

import { WeightsError } from '../errors.js';
import { escapeControlCharacters } from '../io/control_characters.js';
import type { ByteSource } from './byte_source.js';

const MAX_ENTRIES = 1_000_000;
const MAX_DIRECTORY_BYTES = 256 * 2 ** 20;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

export interface ZipEntry {
  name: string;
  /** 0: stored; 8: deflated. */
  method: number;
  compressedBytes: number;
  bytes: number;
  /** Of the local header. */
  headerOffset: number;
}

function fail(what: string): never {
  throw new WeightsError({
    what: escapeControlCharacters(`not a sound zip archive: ${what}`),
    fix: 'the file is damaged or was not written completely; write or download it again',
  });
}

function uint64(buffer: Buffer, at: number): number {
  const value = buffer.readBigUInt64LE(at);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : fail(`a size of ${value} bytes`);
}

/** Where the central directory lies, and how many entries it has. */
async function findDirectory(
  source: ByteSource,
): Promise<{ offset: number; bytes: number; entries: number; end: number }> {
  // A comment of up to 65,535 bytes may follow the record.
  const length = Math.min(source.size, 22 + 65_535);
  const tail = await source.read(source.size - length, length);
  let at = tail.length - 22;
  while (at >= 0 && !(tail.readUInt32LE(at) === END && at + 22 + tail.readUInt16LE(at + 20) === tail.length))
    at--;
  if (at < 0) return fail('it has no directory at its end');
  const end = source.size - length + at;
  const found = {
    entries: tail.readUInt16LE(at + 10),
    bytes: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
    end,
  };
  if (tail.readUInt16LE(at + 4) !== 0 || tail.readUInt16LE(at + 8) !== found.entries)
    return fail('it is split over several disks');
  const is64 = found.entries === 0xffff || found.bytes === 0xffffffff || found.offset === 0xffffffff;
  if (!is64) return found;
  if (end < 20 + 56) return fail('its zip64 record is missing');
  const locator = await source.read(end - 20, 20);
  if (locator.readUInt32LE(0) !== LOCATOR64) return fail('its zip64 record is missing');
  const record = uint64(locator, 8);
  if (record > end - 20 - 56) return fail('its zip64 record lies outside the file');
  const end64 = await source.read(record, 56);
  if (end64.readUInt32LE(0) !== END64) return fail('its zip64 record is missing');
  if (uint64(end64, 24) !== uint64(end64, 32)) return fail('it is split over several disks');
  return { entries: uint64(end64, 32), bytes: uint64(end64, 40), offset: uint64(end64, 48), end: record };
}

/** Sizes of 0xffffffff stand in the zip64 extra field, in this order. */
function readExtra64(extra: Buffer, fields: number[]): number[] {
  if (!fields.includes(0xffffffff)) return fields;
  for (let at = 0; at + 4 <= extra.length;) {
    const size = extra.readUInt16LE(at + 2);
    if (at + 4 + size > extra.length) break;
    if (extra.readUInt16LE(at) === 1) {
      const body = extra.subarray(at + 4, at + 4 + size);
      let next = 0;
      return fields.map((field) => {
        if (field !== 0xffffffff) return field;
        if (next + 8 > body.length) return fail('a zip64 field is too short');
        next += 8;
        return uint64(body, next - 8);
      });
    }
    at += 4 + size;
  }
  return fail('a zip64 field is missing');
}

/** Reads the directory. Entries by name, in its order. */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipEntry>> {
  if (source.size < 22) return fail('it is too short');
  const { offset, bytes, entries: count, end } = await findDirectory(source);
  if (count > MAX_ENTRIES || bytes > MAX_DIRECTORY_BYTES) return fail(`a directory of ${count} entries`);
  if (offset + bytes > end || bytes < 46 * count) return fail('its directory does not fit into the file');
  const directory = await source.read(offset, bytes);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== CENTRAL)
      return fail(`entry ${i} of its directory is damaged`);
    const nameEnd = at + 46 + directory.readUInt16LE(at + 28);
    const extraEnd = nameEnd + directory.readUInt16LE(at + 30);
    const next = extraEnd + directory.readUInt16LE(at + 32);
    if (next > directory.length) return fail(`entry ${i} of its directory is damaged`);
    const name = directory.toString('utf8', at + 46, nameEnd);
    const [full, compressed, header] = readExtra64(directory.subarray(nameEnd, extraEnd), [
      directory.readUInt32LE(at + 24),
      directory.readUInt32LE(at + 20),
      directory.readUInt32LE(at + 42),
    ]) as [number, number, number];
    if (directory.readUInt16LE(at + 8) & 1) return fail(`'${name}' is encrypted`);
    if (entries.has(name)) return fail(`'${name.slice(0, 200)}' occurs twice`);
    const method = directory.readUInt16LE(at + 10);
    if (method === 0 && full !== compressed) return fail(`'${name.slice(0, 200)}' has two sizes`);
    entries.set(name, { name, method, compressedBytes: compressed, bytes: full, headerOffset: header });
    at = next;
  }
  checkOverlap([...entries.values()], offset);
  return entries;
}

/** A small file can pretend to hold much if its entries share bytes. */
function checkOverlap(entries: ZipEntry[], dataEnd: number): void {
  entries.sort((a, b) => a.headerOffset - b.headerOffset);
  for (const [i, entry] of entries.entries()) {
    const limit = entries[i + 1]?.headerOffset ?? dataEnd;
    // The name of the local header is as long as that of the directory; its extra field may differ.
    const least = entry.headerOffset + 30 + Buffer.byteLength(entry.name) + entry.compressedBytes;
    if (least > dataEnd) fail(`'${entry.name.slice(0, 200)}' reaches outside the file`);
    if (least > limit)
      fail(`'${entry.name.slice(0, 200)}' and '${entries[i + 1]!.name.slice(0, 200)}' overlap`);
  }
}

/** Where an entry's bytes begin. */
export async function dataOffset(source: ByteSource, entry: ZipEntry): Promise<number> {
  const header = await source.read(entry.headerOffset, 30);
  if (header.readUInt32LE(0) !== LOCAL) return fail(`the header of '${entry.name.slice(0, 200)}' is damaged`);
  const begin = entry.headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (begin + entry.compressedBytes > source.size)
    return fail(`'${entry.name.slice(0, 200)}' reaches outside the file`);
  return begin;
}

/** An entry's contents, inflated where it is compressed. `limit`: bytes it may have. */
export async function readEntry(source: ByteSource, entry: ZipEntry, limit: number): Promise<Buffer> {
  const shown = entry.name.slice(0, 200);
  if (entry.bytes > limit || entry.compressedBytes > limit)
    return fail(`'${shown}' has ${entry.bytes} bytes; up to ${limit} are read`);
  const data = await source.read(await dataOffset(source, entry), entry.compressedBytes);
  if (entry.method === 0) return data;
  if (entry.method !== 8)
    return fail(`'${shown}' is compressed by a method that is not known (${entry.method})`);
  try {
    const inflated = inflateRawSync(data, { maxOutputLength: Math.max(1, entry.bytes) });
    return inflated.length === entry.bytes ? inflated : fail(`'${shown}' is not as long as it says`);
  } catch (error) {
    if (error instanceof WeightsError) throw error;
    return fail(`'${shown}' cannot be inflated to the ${entry.bytes} bytes it says`);
  }
}
