/**
 * Just enough of ELF (System V gABI, chapter 5) to know, before opening a library, what it is built for and what
 * it needs: machine, soname, NEEDED, RPATH. Reads a few kilobytes, never the whole file.
 */
import { closeSync, openSync, readSync } from 'node:fs';

export interface ElfFacts {
  /** e_machine: 62 x86-64, 183 AArch64. */
  machine: number;
  soname: string | undefined;
  needed: string[];
  /** DT_RPATH or DT_RUNPATH, split at colons, `$ORIGIN` left in. */
  runpath: string[];
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_SONAME = 14;
const DT_RPATH = 15;
const DT_RUNPATH = 29;

/** @throws Error with a short reason if the file is not a complete 64-bit little-endian ELF library */
export function readElf(path: string): ElfFacts {
  const fd = openSync(path, 'r');
  try {
    const read = (offset: number, length: number): Buffer => {
      const buffer = Buffer.alloc(length);
      if (readSync(fd, buffer, 0, length, offset) !== length) throw new Error('the file is cut short');
      return buffer;
    };
    const header = read(0, 64);
    if (header.readUInt32BE(0) !== 0x7f454c46) throw new Error('not an ELF file');
    if (header[4] !== 2 || header[5] !== 1) throw new Error('not a 64-bit little-endian ELF file');
    const machine = header.readUInt16LE(18);

    const entrySize = header.readUInt16LE(54);
    const count = header.readUInt16LE(56);
    const table = read(Number(header.readBigUInt64LE(32)), entrySize * count);
    const loads: { offset: number; address: number; size: number }[] = [];
    let dynamic: { offset: number; size: number } | undefined;
    for (let i = 0; i < count; i++) {
      const at = i * entrySize;
      const type = table.readUInt32LE(at);
      const segment = {
        offset: Number(table.readBigUInt64LE(at + 8)),
        address: Number(table.readBigUInt64LE(at + 16)),
        size: Number(table.readBigUInt64LE(at + 32)),
      };
      if (type === PT_LOAD) loads.push(segment);
      if (type === PT_DYNAMIC) dynamic = segment;
    }
    const facts: ElfFacts = { machine, soname: undefined, needed: [], runpath: [] };
    if (!dynamic) return facts;

    const entries = read(dynamic.offset, dynamic.size);
    const tags: [number, number][] = [];
    for (let at = 0; at + 16 <= entries.length; at += 16) {
      tags.push([Number(entries.readBigInt64LE(at)), Number(entries.readBigUInt64LE(at + 8))]);
    }
    const tag = (wanted: number) => tags.find(([id]) => id === wanted)?.[1];
    const address = tag(DT_STRTAB);
    const size = tag(DT_STRSZ);
    const segment = loads.find(
      (s) => address !== undefined && address >= s.address && address < s.address + s.size,
    );
    if (address === undefined || size === undefined || !segment) throw new Error('no dynamic string table');
    const strings = read(address - segment.address + segment.offset, size);
    const text = (offset: number) => strings.toString('latin1', offset, strings.indexOf(0, offset));

    for (const [id, value] of tags) {
      if (id === DT_NEEDED) facts.needed.push(text(value));
      else if (id === DT_SONAME) facts.soname = text(value);
      else if (id === DT_RPATH || id === DT_RUNPATH) facts.runpath.push(...text(value).split(':'));
    }
    return facts;
  } finally {
    closeSync(fd);
  }
}
