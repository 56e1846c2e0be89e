/**
 * The one decoder of images (through sharp): packing, prediction and measuring all call it, so that a model sees
 * in use the pixels it was trained on. It gives what `PIL.Image.open(f).convert('RGB')` gives, with these rules:
 * - EXIF orientation is applied (PIL alone does not; torchvision's users are bitten by it).
 * - 16-bit samples are scaled to 8 bits (value / 257), not clipped.
 * - Alpha is dropped and the stored colours under it are kept, as `convert('RGB')` does; nothing is blended.
 * - Grayscale is repeated to three channels; colour becomes one channel by ITU-R 601 luma, as `convert('L')`.
 * - CMYK is converted to sRGB by libvips' profile. Embedded ICC profiles of RGB and grayscale images are
 *   ignored, as PIL, OpenCV and thus the published weights do: a model is fed the stored numbers.
 * - The first frame of an animated WebP is taken.
 * - A file that ends early is broken, even if part of it can be shown.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import sharp from 'sharp';

import { DataError } from '../errors.js';

export interface DecodedImage {
  /** uint8 [height, width, channels]. */
  data: Uint8Array;
  height: number;
  width: number;
  channels: 1 | 3;
}

export interface DecodeOptions {
  /** Scale so that the shorter side has this many pixels, if it has more (never enlarges). Default: as it is. */
  shorterSide?: number;
  /** Largest accepted image in pixels. Default 268 million (2^14 × 2^14), a guard against decompression bombs. */
  maxPixels?: number;
  /** Bytes of the file if known: small files are read without a trip through the thread pool. */
  fileBytes?: number;
}

/** Reading a file this small synchronously costs less than the hops of an asynchronous read (0.02 against 0.15 ms). */
const SYNC_READ_BYTES = 32 * 1024;

/**
 * Decodes a JPEG, PNG or WebP.
 *
 * @param input path, or the encoded bytes.
 * @param channels 3: RGB; 1: grayscale.
 * @throws DataError naming the file and why it cannot be decoded.
 */
export async function decodeImage(
  input: string | Uint8Array,
  channels: 1 | 3,
  options: DecodeOptions = {},
): Promise<DecodedImage> {
  const where = typeof input === 'string' ? input : 'image in memory';
  let bytes: Uint8Array;
  try {
    bytes = typeof input === 'string' ? await readImageFile(input, options.fileBytes) : input;
  } catch (error) {
    throw isOurFault(error) ? error : broken(readReason(error), where, error);
  }
  const unreadable = whyNotAnImage(bytes);
  if (unreadable !== null) throw broken(unreadable, where);
  try {
    let pipeline = sharp(bytes, {
      failOn: 'error',
      ignoreIcc: true,
      limitInputPixels: options.maxPixels ?? 0x3fff * 0x3fff,
    }).autoOrient();
    if (options.shorterSide !== undefined) {
      const side = options.shorterSide;
      pipeline = pipeline.resize({ width: side, height: side, fit: 'outside', withoutEnlargement: true });
    }
    const { data, info } = await pipeline
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return {
      data: toChannels(data, info.channels, channels),
      height: info.height,
      width: info.width,
      channels,
    };
  } catch (error) {
    throw broken(decodeReason(error as Error), where, error);
  }
}

/** Height and width as `decodeImage` would deliver them (orientation applied), from the header alone. */
export async function imageSize(input: string | Uint8Array): Promise<{ height: number; width: number }> {
  try {
    const { autoOrient } = await sharp(input, { failOn: 'error' }).metadata();
    return { height: autoOrient.height, width: autoOrient.width };
  } catch (error) {
    const where = typeof input === 'string' ? input : 'image in memory';
    throw broken(decodeReason(error as Error), where, error);
  }
}

/** The reason alone, for lists of broken files. */
export function brokenReason(error: unknown): string {
  if (error instanceof DataError) return error.what.replace(/^cannot read image: /, '');
  return (error as Error).message;
}

async function readImageFile(path: string, knownBytes?: number): Promise<Uint8Array> {
  if (knownBytes !== undefined && knownBytes <= SYNC_READ_BYTES) return readFileSync(path);
  return readFile(path);
}

function broken(reason: string, where: string, cause?: unknown): DataError {
  return new DataError({ what: `cannot read image: ${reason}`, where, cause });
}

/** Too many open files or no memory: no verdict on the file. */
function isOurFault(error: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function readReason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES' || code === 'EPERM') return 'no permission to read it';
  if (code === 'EISDIR') return 'it is a folder';
  return message;
}

function decodeReason(error: Error): string {
  const text = error.message.trim();
  if (/premature end|unexpected end|truncated|read error|unable to parse image|Read Error/i.test(text)) {
    return `the file is truncated or damaged (${text.split('\n')[0]})`;
  }
  if (/exceeds pixel limit/i.test(text)) return 'it has more pixels than the decoder accepts';
  return text.split('\n')[0] ?? 'unknown error';
}

const SIGNATURES: [name: string, offset: number, bytes: string][] = [
  ['a GIF', 0, 'GIF8'],
  ['a BMP', 0, 'BM'],
  ['a TIFF', 0, 'II*\0'],
  ['a TIFF', 0, 'MM\0*'],
  ['a HEIF or AVIF', 4, 'ftyp'],
  ['a PDF', 0, '%PDF'],
  ['a ZIP archive', 0, 'PK\x03\x04'],
  ['a Git LFS pointer (run `git lfs pull`)', 0, 'version https://git-lfs'],
];

/** null for JPEG, PNG and WebP; otherwise what the bytes are instead. The name's extension is not trusted. */
function whyNotAnImage(bytes: Uint8Array): string | null {
  if (bytes.length === 0) return 'the file is empty (0 bytes)';
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 512)).toString('latin1');
  if (head.startsWith('\xff\xd8\xff') || head.startsWith('\x89PNG')) return null;
  if (head.startsWith('RIFF') && head.slice(8, 12) === 'WEBP') return null;
  for (const [name, offset, signature] of SIGNATURES) {
    if (head.startsWith(signature, offset)) {
      return `it is ${name}, not a JPEG, PNG or WebP image`;
    }
  }
  if (/^\s*<(!doctype html|html)/i.test(head)) return 'it is an HTML page (a failed download?), not an image';
  // eslint-disable-next-line no-control-regex
  if (!/[\x00-\x08\x0e-\x1f]/.test(head)) {
    return `it is text, not an image (it begins with ${JSON.stringify(head.slice(0, 24))})`;
  }
  return 'it is not a JPEG, PNG or WebP image';
}

function toChannels(data: Uint8Array, from: number, to: 1 | 3): Uint8Array {
  if (from === to) return data;
  const pixels = data.length / from;
  const out = new Uint8Array(pixels * to);
  if (to === 3) {
    for (let i = 0, j = 0; i < pixels; i++, j += 3) out[j] = out[j + 1] = out[j + 2] = data[i * from]!;
  } else {
    // PIL's integer form of 0.299 R + 0.587 G + 0.114 B (its L24 macro).
    for (let i = 0, j = 0; i < pixels; i++, j += from) {
      out[i] = (data[j]! * 19595 + data[j + 1]! * 38470 + data[j + 2]! * 7471 + 0x8000) >> 16;
    }
  }
  return out;
}
