/** The public tensor: a handle of the native core with a few conveniences. */
import { ArgumentError } from './errors.js';
import { DTYPE_BYTES } from './graph/dtypes.js';
import type { DType, GraphArg } from './graph/format.js';
import { elementCount } from './io/safetensors_header.js';
import type { NativeTensor, TypedArray } from './native/contract.js';
import { loadAddon } from './native.js';

/** Numbers in any nesting; the shape is read off. */
export type NestedNumbers = number | readonly NestedNumbers[];

/** An argument of `Tensor.call`: what a graph's node may hold, or tensors. */
export type CallArg = GraphArg | Tensor | readonly (Tensor | null)[];

const ARRAY_OF_DTYPE = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  // Made as float32 and converted by the native core.
  float16: Float32Array,
  bfloat16: Float32Array,
} as const;

function isTypedArray(value: unknown): value is TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

function dtypeOfArray(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  throw new ArgumentError({
    what: `a ${data.constructor.name} has no dtype of its own`,
    fix: 'use Float32Array, Float64Array, BigInt64Array, Int32Array, Int16Array, Int8Array or Uint8Array',
  });
}

/** Shape of nested arrays; every sub-array of a level must have the same length. */
function nestedShape(data: NestedNumbers): number[] {
  const shape: number[] = [];
  for (let level = data; Array.isArray(level); level = level[0] as NestedNumbers) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  return shape;
}

function flatten(data: NestedNumbers, shape: readonly number[], into: number[]): void {
  if (typeof data === 'number') {
    if (shape.length > 0) throw new ArgumentError('nested arrays must have the same depth everywhere');
    into.push(data);
    return;
  }
  if (!Array.isArray(data) || data.length !== shape[0]) {
    throw new ArgumentError({
      what: 'nested arrays must have the same length on each level and hold only numbers',
      fix: `expected ${shape.length === 0 ? 'a number' : `an array of ${shape[0]}`} here`,
    });
  }
  for (const item of data as readonly NestedNumbers[]) flatten(item, shape.slice(1), into);
}

function checkShape(shape: readonly number[]): void {
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new ArgumentError(`a shape consists of non-negative integers, not [${shape.join(', ')}]`);
  }
}

/**
 * A tensor owned by the native core. `dispose()` frees it at once; a forgotten one is freed with its handle.
 * With `using` it is disposed at the end of the block. Any use after that throws DisposedError.
 */
export class Tensor {
  /** The handle of the native core. */
  readonly native: NativeTensor;

  /** Wraps a native handle; use `Tensor.from` to make one from data. */
  constructor(native: NativeTensor) {
    this.native = native;
  }

  /**
   * From a typed array, a number or nested arrays of numbers.
   *
   * @param data is copied: later changes of it do not show in the tensor.
   * @param shape default: one dimension for a typed array, the nesting for arrays.
   * @param options.dtype default: the typed array's own; float32 for numbers.
   * @throws ArgumentError if the number of elements does not fit the shape.
   */
  static from(
    data: TypedArray | NestedNumbers,
    shape?: readonly number[],
    options: { dtype?: DType } = {},
  ): Tensor {
    const { Tensor: NativeTensorClass } = loadAddon();
    if (shape) checkShape(shape);
    if (!isTypedArray(data)) {
      const nested = nestedShape(data);
      const flat: number[] = [];
      flatten(data, nested, flat);
      const dtype = options.dtype ?? 'float32';
      const array = toTypedArray(flat, dtype);
      checkLength(flat.length, shape ?? nested);
      return convert(NativeTensorClass.fromTypedArray(array, [...(shape ?? nested)]), dtype);
    }
    const target = shape ?? [data.length];
    checkLength(data.length, target);
    if (data instanceof Uint16Array) {
      // Raw bits of a 16-bit type: the native core takes them as they are.
      if (!options.dtype || DTYPE_BYTES[options.dtype] !== 2) {
        throw new ArgumentError({
          what: 'a Uint16Array needs a dtype',
          fix: 'give float16, bfloat16 or int16',
        });
      }
      return new Tensor(NativeTensorClass.fromTypedArray(data, [...target], options));
    }
    dtypeOfArray(data);
    const tensor = NativeTensorClass.fromTypedArray(data, [...target]);
    return convert(tensor, options.dtype ?? tensor.dtype);
  }

  /** Filled with zeros. Default dtype: float32. */
  static zeros(shape: readonly number[], options: { dtype?: DType } = {}): Tensor {
    return Tensor.full(shape, 0, options);
  }

  /** Filled with ones. Default dtype: float32. */
  static ones(shape: readonly number[], options: { dtype?: DType } = {}): Tensor {
    return Tensor.full(shape, 1, options);
  }

  /** Filled with one value. Default dtype: float32. */
  static full(shape: readonly number[], value: number, options: { dtype?: DType } = {}): Tensor {
    checkShape(shape);
    const dtype = options.dtype ?? 'float32';
    const array = new ARRAY_OF_DTYPE[dtype](elementCount(shape));
    if (value !== 0)
      (array as Float32Array).fill((array instanceof BigInt64Array ? BigInt(value) : value) as number);
    return convert(loadAddon().Tensor.fromTypedArray(array, [...shape]), dtype);
  }

  /**
   * Calls any operator of libtorch: `Tensor.call('aten::add.Tensor', a, b)`. Arguments in the order of the
   * operator's schema; trailing ones may be left out where the schema has defaults.
   *
   * @returns the results in schema order.
   * @throws ExecutionError, ArgumentError, GraphError (no such operator)
   */
  static call(op: string, ...args: CallArg[]): Tensor[] {
    const native = args.map((arg) =>
      arg instanceof Tensor
        ? arg.native
        : Array.isArray(arg)
          ? arg.map((item: unknown) => (item instanceof Tensor ? item.native : item))
          : arg,
    );
    return loadAddon()
      .Tensor.call(op, native as Parameters<ReturnType<typeof loadAddon>['Tensor']['call']>[1])
      .map((result) => new Tensor(result));
  }

  /** Calls an operator whose first argument is this tensor, and returns its first result. */
  call(op: string, ...args: CallArg[]): Tensor {
    const [first, ...rest] = Tensor.call(op, this, ...args);
    for (const tensor of rest) tensor.dispose();
    if (!first) throw new ArgumentError(`the operator '${op}' returns no tensor`);
    return first;
  }

  get shape(): number[] {
    return this.native.shape;
  }

  get dtype(): DType {
    return this.native.dtype;
  }

  /** `cpu`, `cuda:0`. */
  get device(): string {
    return this.native.device;
  }

  /** Number of elements. */
  get size(): number {
    return elementCount(this.native.shape);
  }

  get disposed(): boolean {
    return this.native.disposed;
  }

  /** Elements in row-major order, copied to the CPU. float16 and bfloat16 come as Float32Array, bool as Uint8Array. */
  toTypedArray(): TypedArray {
    return this.native.toTypedArray();
  }

  /** Elements as nested arrays of numbers; a scalar gives a number. int64 values beyond 2⁵³ lose precision. */
  toArray(): NestedNumbers {
    const flat = this.native.toTypedArray();
    const shape = this.native.shape;
    let position = 0;
    const build = (dim: number): NestedNumbers =>
      dim === shape.length
        ? Number(flat[position++])
        : Array.from({ length: shape[dim]! }, () => build(dim + 1));
    return build(0);
  }

  /** The value of a one-element tensor. */
  item(): number {
    return this.native.item();
  }

  /** The tensor on another device or with another dtype; shares memory if nothing changes. */
  to(options: { device?: string; dtype?: DType }): Tensor {
    return new Tensor(this.native.to(options));
  }

  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.native.dispose();
  }
}

function toTypedArray(flat: readonly number[], dtype: DType): TypedArray {
  if (dtype === 'int64') {
    return BigInt64Array.from(flat, (value) => {
      if (!Number.isInteger(value)) throw new ArgumentError(`${value} is no integer, as int64 needs`);
      return BigInt(value);
    });
  }
  return ARRAY_OF_DTYPE[dtype].from(flat as number[]);
}

function checkLength(count: number, shape: readonly number[]): void {
  const expected = elementCount(shape);
  if (count !== expected) {
    throw new ArgumentError({
      what: `${count} elements do not fill the shape [${shape.join(', ')}], which has ${expected}`,
      fix: 'check the order and the sizes of the dimensions',
    });
  }
}

/** The tensor in `dtype`; the original handle is disposed if another takes its place. */
function convert(tensor: NativeTensor, dtype: DType): Tensor {
  if (tensor.dtype === dtype) return new Tensor(tensor);
  const converted = tensor.to({ dtype });
  tensor.dispose();
  return new Tensor(converted);
}
