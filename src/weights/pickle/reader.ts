/** The bytes of a pickle: numbers, lines and scalar values as the opcodes encode them. */
import { WeightsError } from '../../errors.js';
import { Opcode } from './opcodes.js';
import type { PickleValue } from './values.js';

/** Far above what files of weights need: a state dict of 10,000 tensors takes 400,000 operations. */
export const PICKLE_LIMITS = {
  operations: 10_000_000,
  /** Containers and objects made. */
  objects: 1_000_000,
  stack: 1_000_000,
  memo: 1_000_000,
  /** Elements (and eighths of bytes) that allowed functions copy: a small pickle could copy one dict for ever. */
  copies: 4_000_000,
  /** Bytes of an integer (numpy's generators have states of 16). */
  integer: 256,
  /** Bytes of a line in the text forms of protocol 0. */
  line: 1 << 20,
};

/** The bytes given end before the pickle does; a longer piece of the file may help. */
export class PickleEnds extends WeightsError {}

export function fail(what: string): never {
  throw new WeightsError(`the pickle is not sound: ${what}`);
}

/** Reads from `position` on, which moves. */
export class PickleReader {
  private readonly buffer: Buffer;

  constructor(
    bytes: Uint8Array,
    public position: number,
  ) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private take(count: number): number {
    const at = this.position;
    if (count > this.buffer.length - at) throw new PickleEnds('the pickle ends too early');
    this.position += count;
    return at;
  }

  byte(): number {
    return this.buffer[this.take(1)]!;
  }

  uint16(): number {
    return this.buffer.readUInt16LE(this.take(2));
  }

  uint32(): number {
    return this.buffer.readUInt32LE(this.take(4));
  }

  uint64(): number {
    const value = this.buffer.readBigUInt64LE(this.take(8));
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : fail(`a length of ${value} bytes`);
  }

  private data(length: number): Buffer {
    const at = this.take(length);
    return this.buffer.subarray(at, at + length);
  }

  line(): string {
    const end = this.buffer.indexOf(0x0a, this.position);
    if (end < 0 && this.buffer.length - this.position < PICKLE_LIMITS.line)
      throw new PickleEnds('the pickle ends within a line');
    if (end < 0 || end - this.position > PICKLE_LIMITS.line) return fail('a line is too long');
    const text = this.buffer.toString('utf8', this.position, end);
    this.position = end + 1;
    return text;
  }

  /** Little endian, two's complement. */
  private integer(length: number): number | bigint {
    if (length > PICKLE_LIMITS.integer) return fail(`an integer of ${length} bytes`);
    if (length === 0) return 0;
    const digits = this.data(length);
    let value = BigInt('0x' + Buffer.from(digits).reverse().toString('hex'));
    if (digits[length - 1]! & 0x80) value -= 1n << BigInt(8 * length);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  decimal(text: string): number {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    return Number.isNaN(value) ? fail('a number is not one') : value;
  }

  /** The value of an opcode that is a number, a text, bytes or a constant; undefined for any other. */
  scalar(code: number): PickleValue | undefined {
    switch (code) {
      case Opcode.NONE:
        return null;
      case Opcode.NEWTRUE:
        return true;
      case Opcode.NEWFALSE:
        return false;
      case Opcode.INT:
      case Opcode.LONG: {
        const text = this.line().replace(/L$/, '');
        if (code === Opcode.INT && (text === '00' || text === '01')) return text === '01';
        if (!/^[+-]?\d{1,600}$/.test(text)) return fail('an integer is not one');
        return Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text);
      }
      case Opcode.BININT:
        return this.buffer.readInt32LE(this.take(4));
      case Opcode.BININT1:
        return this.byte();
      case Opcode.BININT2:
        return this.uint16();
      case Opcode.LONG1:
        return this.integer(this.byte());
      case Opcode.LONG4:
        return this.integer(this.uint32());
      case Opcode.FLOAT:
        return Number(this.line());
      case Opcode.BINFLOAT:
        return this.buffer.readDoubleBE(this.take(8));
      case Opcode.STRING: {
        const text = this.line();
        const quoted = /^(['"])(.*)\1$/s.exec(text);
        return quoted ? quoted[2]! : fail('a string is not quoted');
      }
      // Python 2's strings: text in the files of interest.
      case Opcode.BINSTRING:
        return text(this.data(this.uint32()));
      case Opcode.SHORT_BINSTRING:
        return text(this.data(this.byte()));
      case Opcode.UNICODE:
        return this.line();
      case Opcode.SHORT_BINUNICODE:
        return this.data(this.byte()).toString('utf8');
      case Opcode.BINUNICODE:
        return this.data(this.uint32()).toString('utf8');
      case Opcode.BINUNICODE8:
        return this.data(this.uint64()).toString('utf8');
      case Opcode.SHORT_BINBYTES:
        return this.data(this.byte());
      case Opcode.BINBYTES:
        return this.data(this.uint32());
      case Opcode.BINBYTES8:
      case Opcode.BYTEARRAY8:
        return this.data(this.uint64());
      default:
        return undefined;
    }
  }
}

function text(bytes: Buffer): string {
  const utf8 = bytes.toString('utf8');
  return utf8.includes('\ufffd') ? bytes.toString('latin1') : utf8;
}
