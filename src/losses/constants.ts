/** Numbers inside a loss. */
import { ArgumentError } from '../errors.js';
import { call, stack, type Tensor } from '../nn/index.js';

/** A float32 tensor of constants. Filled on the device, so that a CUDA graph can capture it. */
export function constants(values: readonly number[]): Tensor {
  return stack(values.map((value) => call('aten::scalar_tensor', [value, { dtype: 'float32' }])));
}

/** @throws ArgumentError unless all are finite and at least 0 */
export function checkWeights(owner: string, name: string, values: readonly number[] | undefined): void {
  if (values === undefined) return;
  if (values.length === 0 || values.some((w) => !(w >= 0 && Number.isFinite(w)))) {
    throw new ArgumentError({ what: `${owner}: ${name} must be finite numbers from 0 on, one per class` });
  }
}

/** @throws ArgumentError unless min ≤ value ≤ max */
export function checkRange(owner: string, name: string, value: number, min: number, max = Infinity): void {
  if (value >= min && value <= max && Number.isFinite(value)) return;
  const range = max === Infinity ? `at least ${min}` : `between ${min} and ${max}`;
  throw new ArgumentError({ what: `${owner}: ${name} must be ${range}, not ${String(value)}` });
}
