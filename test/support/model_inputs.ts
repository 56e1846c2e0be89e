/** Inputs of models that are the same every time. */
import { Tensor } from '#fornax/tensor.js';

/** Numbers in −1…1, the same every time. */
export function numbers(count: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return (2 * state) / 2147483647 - 1;
  });
}

export function image(n: number, side = 32, channels = 3): Tensor {
  return Tensor.from(numbers(n * channels * side * side), [n, channels, side, side]);
}
