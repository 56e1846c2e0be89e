/** Contents of files whose checksums are compared. */
import { random } from './random.js';

/** So many bytes, the same for the same length. */
export function bytesOf(length: number): Uint8Array {
  const draw = random(length);
  return Uint8Array.from({ length }, () => draw(256));
}
