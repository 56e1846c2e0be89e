/**
 * Reads MATLAB's level 5 MAT-files (.mat of versions 5 to 7: "MAT-File Format", MathWorks): the numbers, texts and
 * cell arrays in them, also compressed. Structures, objects and sparse matrices are left out (`null`); files of
 * version 7.3 are HDF5 and refused. Made for files that nobody has checked: sizes are bounded before anything is
 * allocated.
 */
import { promises as fs } from 'node:fs';
import { inflateSync } from 'node:zlib';

import { DataError } from '../errors.js';

/** Column by column, as MATLAB keeps arrays: element (i, j) of an m × n matrix is `values[i + j·m]`. */
export interface MatNumbers {
  kind: 'numbers';
  dims: number[];
  values: number[];
}
export interface MatText {
  kind: 'text';
  dims: number[];
  /** Of a matrix of one row: its text. */
  text: string;
}
export interface MatCells {
  kind: 'cells';
  dims: number[];
  cells: (MatValue | null)[];
}
export type MatValue = MatNumbers | MatText | MatCells;

/** Far above the files of data sets' annotations, far below what hurts. */
const maxFileBytes = 64 * 2 ** 20;
const maxInflatedBytes = 64 * 2 ** 20;
const maxDepth = 32;

const miMatrix = 14;
const miCompressed = 15;
const mxCell = 1;
const mxChar = 4;

interface NumberType {
  bytes: number;
  read: (view: DataView, at: number, little: boolean) => number;
}

/** Types of data elements; 64-bit integers beyond 2^53 lose their last bits. */
const numberTypes: Record<number, NumberType> = {
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 1, read: (view, at) => view.getUint8(at) },
  3: { bytes: 2, read: (view, at, little) => view.getInt16(at, little) },
  4: { bytes: 2, read: (view, at, little) => view.getUint16(at, little) },
  5: { bytes: 4, read: (view, at, little) => view.getInt32(at, little) },
  6: { bytes: 4, read: (view, at, little) => view.getUint32(at, little) },
  7: { bytes: 4, read: (view, at, little) => view.getFloat32(at, little) },
  9: { bytes: 8, read: (view, at, little) => view.getFloat64(at, little) },
  12: { bytes: 8, read: (view, at, little) => Number(view.getBigInt64(at, little)) },
  13: { bytes: 8, read: (view, at, little) => Number(view.getBigUint64(at, little)) },
};
/** Characters in UTF-8, UTF-16 and UTF-32 (16, 17, 18) or as plain numbers. */
const utf8 = 16;
const characterBytes: Record<number, number> = { 17: 2, 18: 4 };

interface Element {
  type: number;
  data: DataView;
}

/** Walks over the data elements of a part of the file. */
class Elements {
  private at = 0;

  constructor(
    private readonly view: DataView,
    private readonly file: MatFile,
  ) {}

  get done(): boolean {
    // Padding after the last element is shorter than any element.
    return this.view.byteLength - this.at < 8;
  }

  next(): Element {
    const { view, file } = this;
    if (this.done) throw file.broken('it ends in the middle of a variable');
    const first = view.getUint32(this.at, file.little);
    const small = first >>> 16;
    if (small > 0) {
      if (small > 4) throw file.broken(`a small element claims ${small} bytes`);
      const element = { type: first & 0xffff, data: this.part(this.at + 4, small) };
      this.at += 8;
      return element;
    }
    const bytes = view.getUint32(this.at + 4, file.little);
    const data = this.part(this.at + 8, bytes);
    // Elements begin on multiples of 8, except after compressed ones.
    const padded = first === miCompressed ? bytes : Math.ceil(bytes / 8) * 8;
    this.at += 8 + padded;
    return { type: first, data };
  }

  private part(start: number, bytes: number): DataView {
    if (start + bytes > this.view.byteLength) throw this.file.broken('an element reaches beyond its end');
    return new DataView(this.view.buffer, this.view.byteOffset + start, bytes);
  }
}

class MatFile {
  little = true;
  private inflated = 0;

  constructor(private readonly path: string) {}

  broken(what: string): DataError {
    return new DataError({
      what: `this is not a MAT-file of MATLAB 5 to 7 that can be read: ${what}`,
      where: this.path,
      fix: 'download it again; files of version 7.3 (HDF5) must be saved with `save -v7`',
    });
  }

  read(bytes: Uint8Array): Map<string, MatValue> {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (view.byteLength < 128) throw this.broken('it is too short');
    // "MI" as a 16-bit number, in the byte order of the writer.
    const order = view.getUint16(126, true);
    if (order !== 0x4d49 && order !== 0x494d) throw this.broken('its header is another one');
    this.little = order === 0x4d49;
    const version = view.getUint16(124, this.little);
    if (version !== 0x0100) throw this.broken(`its version is 0x${version.toString(16)}`);
    const variables = new Map<string, MatValue>();
    const elements = new Elements(
      new DataView(view.buffer, view.byteOffset + 128, view.byteLength - 128),
      this,
    );
    while (!elements.done) {
      let element = elements.next();
      if (element.type === miCompressed) element = this.inflate(element.data);
      if (element.type !== miMatrix) continue;
      const { name, value } = this.matrix(element.data, 0);
      if (value) variables.set(name, value);
    }
    return variables;
  }

  private inflate(data: DataView): Element {
    let bytes: Buffer;
    try {
      bytes = inflateSync(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), {
        maxOutputLength: Math.max(1, maxInflatedBytes - this.inflated),
      });
    } catch (error) {
      throw this.broken(`a compressed variable cannot be unpacked (${(error as Error).message})`);
    }
    this.inflated += bytes.byteLength;
    return new Elements(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), this).next();
  }

  private matrix(view: DataView, depth: number): { name: string; value: MatValue | null } {
    if (depth > maxDepth) throw this.broken(`cells lie more than ${maxDepth} deep in each other`);
    // An empty cell may be a matrix without any content.
    if (view.byteLength === 0) return { name: '', value: { kind: 'numbers', dims: [0, 0], values: [] } };
    const elements = new Elements(view, this);
    const flags = elements.next();
    if (flags.data.byteLength < 4) throw this.broken('a variable has no flags');
    const kind = flags.data.getUint32(0, this.little) & 0xff;
    const dims = this.numbers(elements.next());
    const count = dims.reduce((product, size) => product * size, 1);
    if (dims.length < 2 || dims.some((size) => size < 0) || !Number.isSafeInteger(count)) {
      throw this.broken(`a variable has the size [${dims.slice(0, 8).join(', ')}]`);
    }
    const name = this.text(elements.next());
    if (kind === mxCell) return { name, value: this.cells(elements, dims, count, depth) };
    if (kind === mxChar) return { name, value: { kind: 'text', dims, text: this.text(elements.next()) } };
    // double, single and the integers
    if (kind < 6 || kind > 15) return { name, value: null };
    const values = this.numbers(elements.next());
    if (values.length !== count) {
      throw this.broken(`'${name}' has ${values.length} values where its size says ${count}`);
    }
    return { name, value: { kind: 'numbers', dims, values } };
  }

  private cells(elements: Elements, dims: number[], count: number, depth: number): MatCells {
    const cells: (MatValue | null)[] = [];
    // One element each: a wrong count ends with the data.
    for (let i = 0; i < count; i++) {
      const element = elements.next();
      if (element.type !== miMatrix) throw this.broken('a cell holds no variable');
      cells.push(this.matrix(element.data, depth + 1).value);
    }
    return { kind: 'cells', dims, cells };
  }

  private numbers({ type, data }: Element): number[] {
    const reader = numberTypes[type];
    if (!reader) throw this.broken(`numbers of type ${type}`);
    const count = Math.floor(data.byteLength / reader.bytes);
    return Array.from({ length: count }, (_, i) => reader.read(data, i * reader.bytes, this.little));
  }

  private text({ type, data }: Element): string {
    if (type === utf8) return new TextDecoder().decode(data);
    const width = characterBytes[type];
    if (width === undefined) {
      const codes = this.numbers({ type, data });
      return codes.map((code) => String.fromCharCode(code)).join('');
    }
    let text = '';
    for (let at = 0; at + width <= data.byteLength; at += width) {
      const code = width === 2 ? data.getUint16(at, this.little) : data.getUint32(at, this.little);
      if (code > 0x10ffff) throw this.broken('a text has a character that does not exist');
      text += width === 2 ? String.fromCharCode(code) : String.fromCodePoint(code);
    }
    return text;
  }
}

/**
 * The variables of a MAT-file by name.
 *
 * @throws DataError if it cannot be read, is of another version or is broken.
 */
export async function readMatFile(path: string): Promise<Map<string, MatValue>> {
  let bytes: Buffer;
  try {
    const { size } = await fs.stat(path);
    if (size > maxFileBytes) {
      throw new DataError({ what: `a MAT-file of ${size} bytes is too large`, where: path });
    }
    bytes = await fs.readFile(path);
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError({ what: 'the file cannot be read', where: path, cause: error });
  }
  return parseMatFile(bytes, path);
}

/** The same from memory; `path` is for messages. */
export function parseMatFile(bytes: Uint8Array, path: string): Map<string, MatValue> {
  return new MatFile(path).read(bytes);
}
