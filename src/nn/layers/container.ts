/** Modules that hold modules, and those that do nothing but reshape. */
import { GraphError } from '../../errors.js';
import { Module } from '../module.js';
import type { SymbolicTensor } from '../tensor.js';

/** Feeds each module's result to the next. Names are 0, 1, 2… or the keys of an object. */
export class Sequential extends Module {
  constructor(...modules: [Record<string, Module>] | Module[]) {
    super();
    const [first] = modules;
    const named =
      modules.length === 1 && first !== undefined && !(first instanceof Module)
        ? Object.entries(first)
        : (modules as Module[]).map((module, i): [string, Module] => [String(i), module]);
    for (const [name, module] of named) this.register(name, module);
  }

  get length(): number {
    return [...this.namedChildren()].length;
  }

  /** The i-th module; negative counts from the end. */
  at(index: number): Module | undefined {
    return [...this].at(index);
  }

  append(module: Module): this {
    return this.register(String(this.length), module);
  }

  *[Symbol.iterator](): Generator<Module> {
    for (const [, module] of this.namedChildren()) yield module;
  }

  forward(input: SymbolicTensor): SymbolicTensor {
    let x = input;
    for (const module of this) x = module.forward(x) as SymbolicTensor;
    return x;
  }
}

/** A list of modules, called one by one by the module that owns it. Names are 0, 1, 2… */
export class ModuleList extends Module {
  constructor(modules: Iterable<Module> = []) {
    super();
    for (const module of modules) this.append(module);
  }

  get length(): number {
    return [...this.namedChildren()].length;
  }

  /** The i-th module; negative counts from the end. */
  at(index: number): Module | undefined {
    return [...this].at(index);
  }

  append(module: Module): this {
    return this.register(String(this.length), module);
  }

  *[Symbol.iterator](): Generator<Module> {
    for (const [, module] of this.namedChildren()) yield module;
  }

  forward(): never {
    throw new GraphError({
      what: 'ModuleList has no forward()',
      fix: 'iterate over it in the forward() of the module that owns it',
    });
  }
}

/** Modules by name, called by the module that owns it. */
export class ModuleDict extends Module {
  constructor(modules: Record<string, Module> = {}) {
    super();
    for (const [name, module] of Object.entries(modules)) this.register(name, module);
  }

  get(name: string): Module | undefined {
    for (const [key, module] of this.namedChildren()) if (key === name) return module;
    return undefined;
  }

  *[Symbol.iterator](): Generator<[string, Module]> {
    yield* this.namedChildren();
  }

  forward(): never {
    throw new GraphError({
      what: 'ModuleDict has no forward()',
      fix: 'take modules out of it in the forward() of the module that owns it',
    });
  }
}

/** Joins the dimensions from `startDim` to `endDim`. */
export class Flatten extends Module {
  readonly startDim: number;
  readonly endDim: number;

  constructor(startDim = 1, endDim = -1) {
    super();
    this.startDim = startDim;
    this.endDim = endDim;
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return x.flatten(this.startDim, this.endDim);
  }
}

/** Reorders the dimensions. */
export class Permute extends Module {
  readonly dims: readonly number[];

  constructor(dims: readonly number[]) {
    super();
    this.dims = [...dims];
  }

  forward(x: SymbolicTensor): SymbolicTensor {
    return x.permute(...this.dims);
  }
}

export class Identity extends Module {
  forward(x: SymbolicTensor): SymbolicTensor {
    return x;
  }
}
