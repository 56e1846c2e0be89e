/** Tensors: the values that travel between JavaScript and the native core. Part of contract.ts. */
import type { DType, GraphArg } from '../../graph/format.js';

export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint16Array
  | Uint8Array
  | Uint8ClampedArray;

/** `cpu`, `cuda:0`, `meta`. */
export type DeviceName = string;

export interface NativeHandle {
  dispose(): void;
  readonly disposed: boolean;
}

/** A tensor owned by the native core; external memory is reported to V8. */
export interface NativeTensor extends NativeHandle {
  readonly shape: number[];
  readonly dtype: DType;
  readonly device: DeviceName;
  /** Copies to the CPU and returns contiguous elements. float16/bfloat16 come as Float32Array, bool as Uint8Array. */
  toTypedArray(): TypedArray;
  /** Same tensor on another device or with another dtype. Shares memory if nothing changes. */
  to(options: { device?: DeviceName; dtype?: DType }): NativeTensor;
  /** The value of a one-element tensor. */
  item(): number;
}

export interface TensorClass {
  /**
   * Copies the elements: JavaScript may detach or resize a buffer while native threads would read it.
   * Uint8Array → uint8, Uint16Array needs dtype float16/bfloat16/int16.
   */
  fromTypedArray(data: TypedArray, shape: number[], options?: { dtype?: DType }): NativeTensor;
  /** Calls any operator by the boxed path of the executor. Results in schema order. Unrestricted (user's own script). */
  call(op: string, args: (GraphArg | NativeTensor | (NativeTensor | null)[])[]): NativeTensor[];
}
