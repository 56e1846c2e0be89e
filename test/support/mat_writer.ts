/** Writes MAT-files of level 5, as far as tests need them. */
import { deflateSync } from 'node:zlib';

export type MatContent = string | { rows: number[][]; type?: 'double' | 'int32' | 'uint8' } | MatContent[];

export interface MatOptions {
  compressed?: boolean;
  bigEndian?: boolean;
}

class Writer {
  constructor(private readonly big: boolean) {}

  private numbers(type: number, bytes: number, values: number[]): Buffer {
    const data = Buffer.alloc(bytes * values.length);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    values.forEach((value, i) => {
      if (type === 9) view.setFloat64(i * 8, value, !this.big);
      else if (bytes === 4) view.setInt32(i * 4, value, !this.big);
      else if (bytes === 2) view.setUint16(i * 2, value, !this.big);
      else view.setUint8(i, value);
    });
    return this.element(type, data);
  }

  element(type: number, data: Buffer): Buffer {
    const tag = Buffer.alloc(8);
    const write = (value: number, at: number): unknown =>
      this.big ? tag.writeUInt32BE(value, at) : tag.writeUInt32LE(value, at);
    if (data.length > 0 && data.length <= 4) {
      // The small form: type and size share the first word.
      write(((data.length << 16) | type) >>> 0, 0);
      data.copy(tag, 4);
      return tag;
    }
    write(type, 0);
    write(data.length, 4);
    const padding = type === 15 ? 0 : (8 - (data.length % 8)) % 8;
    return Buffer.concat([tag, data, Buffer.alloc(padding)]);
  }

  matrix(name: string, content: MatContent): Buffer {
    const header = (kind: number, dims: number[]): Buffer[] => [
      this.numbers(6, 4, [kind, 0]),
      this.numbers(5, 4, dims),
      this.element(1, Buffer.from(name, 'latin1')),
    ];
    const parts = (): Buffer[] => {
      if (typeof content === 'string') {
        const codes = [...content].map((character) => character.charCodeAt(0));
        return [...header(4, [1, codes.length]), this.numbers(17, 2, codes)];
      }
      if (Array.isArray(content)) {
        return [...header(1, [content.length, 1]), ...content.map((cell) => this.matrix('', cell))];
      }
      const { rows, type = 'double' } = content;
      const columns = rows[0]?.length ?? 0;
      const values = Array.from({ length: columns }, (_, j) => rows.map((row) => row[j]!)).flat();
      const [kind, element, bytes] = { double: [6, 9, 8], int32: [12, 5, 4], uint8: [9, 2, 1] }[type];
      return [...header(kind!, [rows.length, columns]), this.numbers(element!, bytes!, values)];
    };
    return this.element(14, Buffer.concat(parts()));
  }
}

/** The bytes of a file with these variables. */
export function matFile(variables: Record<string, MatContent>, options: MatOptions = {}): Buffer {
  const { compressed = false, bigEndian = false } = options;
  const writer = new Writer(bigEndian);
  const header = Buffer.alloc(128, ' ');
  header.write('MATLAB 5.0 MAT-file, written by a test', 'latin1');
  if (bigEndian) header.set([0x01, 0x00, 0x4d, 0x49], 124);
  else header.set([0x00, 0x01, 0x49, 0x4d], 124);
  const elements = Object.entries(variables).map(([name, content]) => {
    const matrix = writer.matrix(name, content);
    return compressed ? writer.element(15, deflateSync(matrix)) : matrix;
  });
  return Buffer.concat([header, ...elements]);
}
