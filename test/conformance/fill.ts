/**
 * The deterministic fill of the golden files, exact in any language. For flat index j and tensor ordinal t (the
 * position in the state dict) a hash gives v in [0, 1) and u = 2v − 1. Computed in double, stored as float32.
 */
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';

/** v in [0, 1) for flat index j and tensor ordinal t. */
export function fillUnit(j: number, t: number): number {
  let h = (Math.imul(j, 2654435761) + Math.imul(t, 40503) + 12345) | 0;
  h ^= h >>> 15;
  h = Math.imul(h, 2246822519);
  h ^= h >>> 13;
  return (h >>> 0) / 2 ** 32;
}

/** `count` values u: an input of a golden case. */
export function fillInput(count: number, t: number): Float32Array {
  return filled(count, t, 2, -1);
}

/** The values of a floating entry of a state dict, `t` being its position there. */
export function fillState(name: string, shape: readonly number[], t: number): Float32Array {
  const count = shape.reduce((product, size) => product * size, 1);
  if (name.endsWith('running_mean')) return scaledBy(0.1, count, t);
  if (name.endsWith('running_var')) return filled(count, t, 0.5, 0.75);
  if (shape.length >= 2) {
    const fanIn = count / shape[0]!;
    return scaledBy(Math.sqrt(6 / fanIn) * (shape.length === 2 ? 0.5 : 1), count, t);
  }
  if (shape.length === 1 && name.endsWith('weight')) {
    const values = new Float32Array(count);
    for (let j = 0; j < count; j++) values[j] = 1 + 0.1 * (2 * fillUnit(j, t) - 1);
    return values;
  }
  return scaledBy(0.1, count, t);
}

/** scale · u. */
function scaledBy(scale: number, count: number, t: number): Float32Array {
  const values = new Float32Array(count);
  for (let j = 0; j < count; j++) values[j] = scale * (2 * fillUnit(j, t) - 1);
  return values;
}

/** slope · v + offset. */
function filled(count: number, t: number, slope: number, offset: number): Float32Array {
  const values = new Float32Array(count);
  for (let j = 0; j < count; j++) values[j] = slope * fillUnit(j, t) + offset;
  return values;
}

export interface FillOptions {
  /** Every parameter of four dimensions is multiplied by it after the fill (in float32). Default 1. */
  convGain?: number;
}

/** Fills a model's whole state; entries of integers (counts, tables of indices) keep their initial values. */
export function fillModel(model: NativeGraph, { convGain = 1 }: FillOptions = {}): void {
  const { Tensor } = loadAddon();
  const gain = Math.fround(convGain);
  const entries: Record<string, NativeTensor> = {};
  model.initialize(0);
  for (const [t, { name, kind, tensor }] of model.state().entries()) {
    const { shape, dtype } = tensor;
    tensor.dispose();
    if (!/float/.test(dtype)) continue;
    const values = fillState(name, shape, t);
    if (gain !== 1 && kind === 'parameter' && shape.length === 4) {
      for (let j = 0; j < values.length; j++) values[j]! *= gain;
    }
    entries[name] = Tensor.fromTypedArray(values, shape);
  }
  model.loadState(entries, { strict: false });
  for (const tensor of Object.values(entries)) tensor.dispose();
}
