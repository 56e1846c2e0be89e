/**
 * The base class of everything with a state. Attributes that are modules, parameters or buffers are registered in
 * the order of their first assignment, as in PyTorch, and give the names of the state dict.
 */
import { GraphError } from '../errors.js';
import { Buffer, Parameter } from './parameter.js';
import { activeRecorder } from './recorder.js';

type Registered = Module | Parameter | Buffer;
type Kind = 'parameters' | 'buffers' | 'modules';

/** Null keeps the place of an attribute that was set to null, as PyTorch does. */
interface Registry {
  /** The proxy that user code knows as the module. */
  self: Module;
  parameters: Map<string, Parameter | null>;
  buffers: Map<string, Buffer | null>;
  modules: Map<string, Module | null>;
}

const kinds: readonly Kind[] = ['parameters', 'buffers', 'modules'];
/** By the module and by the proxy that stands for it. */
const registries = new WeakMap<object, Registry>();

function registryOf(module: object): Registry {
  const registry = registries.get(module);
  if (registry === undefined) {
    throw new GraphError({
      what: 'a module was used before its constructor called super()',
      fix: 'call super() first in the constructor of a class that extends Module',
    });
  }
  return registry;
}

function kindOf(value: unknown): Kind | null {
  if (value instanceof Module) return 'modules';
  if (value instanceof Parameter) return 'parameters';
  if (value instanceof Buffer) return 'buffers';
  return null;
}

function register(module: object, name: string, value: unknown): void {
  const registry = registryOf(module);
  const kind = kindOf(value);
  if (kind !== null && (name === '' || name.includes('.'))) {
    throw new GraphError({
      what: `'${name}' cannot name a ${kind.slice(0, -1)}: the dots of a state dict's names separate modules`,
    });
  }
  for (const other of kinds) {
    if (other === kind) continue;
    if (kind === null && value == null && registry[other].has(name)) registry[other].set(name, null);
    else registry[other].delete(name);
  }
  if (kind !== null) (registry[kind] as Map<string, Registered>).set(name, value as Registered);
}

type Forward = (...inputs: unknown[]) => unknown;

/** A forward that puts the module's path onto the nodes made inside it. */
function withPath(module: object, forward: () => Forward): Forward {
  const { self } = registryOf(module);
  return (...inputs) =>
    activeRecorder(`${self.constructor.name}.forward()`).within(self, () => forward().apply(self, inputs));
}

/**
 * Every assignment, including those of class fields, ends in [[DefineOwnProperty]]. A setter would not do:
 * fields that TypeScript only declares exist as `undefined` before the constructor assigns them, so that the
 * order of the properties is that of the declarations, not of the assignments.
 */
const registering: ProxyHandler<Module> = {
  defineProperty(target, key, descriptor) {
    if (typeof key !== 'string' || !('value' in descriptor)) {
      return Reflect.defineProperty(target, key, descriptor);
    }
    const value: unknown = descriptor.value;
    register(target, key, value);
    const scoped = key === 'forward' && typeof value === 'function';
    return Reflect.defineProperty(
      target,
      key,
      scoped ? { ...descriptor, value: withPath(target, () => value as Forward) } : descriptor,
    );
  },
  deleteProperty(target, key) {
    if (typeof key === 'string') for (const kind of kinds) registryOf(target)[kind].delete(key);
    return Reflect.deleteProperty(target, key);
  },
};

/** One entry of a state dict. */
export interface StateEntry {
  /** `layer1.0.conv1.weight` */
  name: string;
  tensor: Parameter | Buffer;
}

export abstract class Module {
  constructor() {
    const self = new Proxy(this, registering);
    const registry: Registry = { self, parameters: new Map(), buffers: new Map(), modules: new Map() };
    registries.set(this, registry).set(self, registry);
    // Calls from outside get the module's path onto the nodes; super.forward() goes to the prototype directly.
    Object.defineProperty(this, 'forward', {
      configurable: true,
      writable: true,
      enumerable: false,
      value: withPath(this, () => (Object.getPrototypeOf(this) as Module).forward as Forward),
    });
    return self;
  }

  /**
   * What the module computes, in terms of symbolic tensors. The root module may take several tensors and return a
   * tensor, an array of tensors or an object of tensors.
   */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each module has its own signature
  abstract forward(...inputs: any[]): any;

  /** Registers a parameter, buffer or module under a name that is not a valid attribute, or is computed. */
  register(name: string, value: Registered): this {
    const known = kinds.some((kind) => registryOf(this)[kind].has(name));
    if (name in this && !known) {
      throw new GraphError({ what: `'${name}' already is an attribute of ${this.constructor.name}` });
    }
    (this as Record<string, unknown>)[name] = value;
    return this;
  }

  /** Direct children in order. */
  *namedChildren(): Generator<[string, Module]> {
    for (const [name, module] of registryOf(this).modules) if (module !== null) yield [name, module];
  }

  /** This module (''), then all below it, each once, under its first path. */
  *namedModules(prefix = '', seen = new Set<Module>()): Generator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) {
      yield* child.namedModules(prefix === '' ? name : `${prefix}.${name}`, seen);
    }
  }

  *modules(): Generator<Module> {
    for (const [, module] of this.namedModules()) yield module;
  }

  /**
   * The state dict in PyTorch's order: a module's own parameters, its own buffers, then its children. A tensor
   * that is reachable under several names is listed once, under the first.
   */
  *namedState(): Generator<StateEntry> {
    const seen = new Set<Parameter | Buffer>();
    for (const [path, module] of this.namedModules()) {
      const { parameters, buffers } = registryOf(module);
      for (const [name, tensor] of [...parameters, ...buffers]) {
        if (tensor === null || seen.has(tensor)) continue;
        seen.add(tensor);
        yield { name: path === '' ? name : `${path}.${name}`, tensor };
      }
    }
  }

  *namedParameters(): Generator<[string, Parameter]> {
    for (const { name, tensor } of this.namedState()) if (tensor instanceof Parameter) yield [name, tensor];
  }

  *namedBuffers(): Generator<[string, Buffer]> {
    for (const { name, tensor } of this.namedState()) if (tensor instanceof Buffer) yield [name, tensor];
  }

  *parameters(): Generator<Parameter> {
    for (const [, parameter] of this.namedParameters()) yield parameter;
  }

  /** The module at a path such as `layer1.0`; throws GraphError if there is none. */
  getSubmodule(path: string): Module {
    for (const [name, module] of this.namedModules()) if (name === path) return module;
    throw new GraphError({ what: `there is no module '${path}' in ${this.constructor.name}` });
  }

  /** Calls `visit` with every module below this one and then this one itself (used to initialise). */
  apply(visit: (module: Module) => void): this {
    for (const [, child] of this.namedChildren()) child.apply(visit);
    visit(this);
    return this;
  }
}
