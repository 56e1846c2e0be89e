/**
 * What a pickle describes, as plain data. Nothing here does anything: a class or function that the reader does
 * not know stays a name.
 */

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleTuple
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Set<PickleValue>
  | PickleGlobal
  | InertObject
  | PickledDType
  | StorageType
  | PickledStorage
  | PickledTensor;

/** An immutable sequence; a Python list is a JavaScript array. */
export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A class or function by name. `call` is there only for those on the allow-list (globals.ts). */
export class PickleGlobal {
  constructor(
    readonly module: string,
    readonly name: string,
    readonly call: ((args: readonly PickleValue[]) => PickleValue) | null = null,
  ) {}

  get path(): string {
    return `${this.module}.${this.name}`;
  }
}

/** An instance of a class that is not known: its contents are kept, its class is a name. */
export class InertObject {
  /** What BUILD gave it: usually the attributes. */
  state: PickleValue = null;
  /** Set if it behaves like a dict or a list (a subclass of one). */
  readonly entries = new Map<PickleValue, PickleValue>();
  readonly list: PickleValue[] = [];

  constructor(
    readonly type: string,
    readonly args: readonly PickleValue[],
  ) {}
}

/** `torch.float32`; `name` may be one that Fornax has no tensors of (`complex64`). */
export class PickledDType {
  constructor(readonly name: string) {}
}

/** `torch.FloatStorage`; null for UntypedStorage, which counts bytes. */
export class StorageType {
  constructor(readonly dtype: string | null) {}
}

/** The bytes behind one or more tensors. Where they lie is for the reader of the container to know. */
export class PickledStorage {
  constructor(
    readonly key: string,
    /** Null for bytes without a type. */
    readonly dtype: string | null,
    /** Elements of `dtype`; bytes if that is null. */
    readonly elements: number,
    /** Of a view into another storage: elements from its beginning (files of PyTorch before 0.4). */
    readonly viewOffset = 0,
  ) {}
}

export class PickledTensor {
  constructor(
    /** Null for a sort that cannot be read; `reason` says why. */
    readonly storage: PickledStorage | null,
    readonly dtype: string,
    readonly shape: readonly number[],
    /** In elements, like `offset`. */
    readonly strides: readonly number[],
    readonly offset: number,
    readonly reason: string | null = null,
  ) {}
}
