/**
 * Reads a pickle (protocols 0 to 5) as data. It is a machine with a stack and a memo, as Lib/pickle.py describes
 * it, but one that executes nothing: names become values (globals.ts), and only functions on the allow-list,
 * which build plain data, are called. Everything a file could make large is bounded.
 */
import { WeightsError } from '../../errors.js';
import { findGlobal } from './globals.js';
import { Opcode, opcodeName } from './opcodes.js';
import { fail, PICKLE_LIMITS, PickleReader } from './reader.js';
import { InertObject, PickledTensor, PickleGlobal, PickleTuple, type PickleValue } from './values.js';

export interface UnpickleOptions {
  /** Makes a value of a persistent id: a storage. Default: an error. */
  persistentLoad?: (id: PickleValue) => PickleValue;
}

/**
 * Reads one pickle.
 *
 * @param bytes holds it from `start` on, maybe with other data behind it.
 * @returns its value, and where it ends.
 * @throws PickleEnds if the bytes end too early; WeightsError for anything unsound, beyond the limits or hostile.
 */
export function unpickle(
  bytes: Uint8Array,
  start = 0,
  options: UnpickleOptions = {},
): { value: PickleValue; end: number } {
  const reader = new PickleReader(bytes, start);
  return { value: new Unpickler(reader, options).run(), end: reader.position };
}

class Unpickler {
  private readonly stack: PickleValue[] = [];
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  private objects = 0;
  private copies = 0;

  constructor(
    private readonly reader: PickleReader,
    private readonly options: UnpickleOptions,
  ) {}

  run(): PickleValue {
    for (let count = 0; count < PICKLE_LIMITS.operations; count++) {
      const code = this.reader.byte();
      if (code === Opcode.STOP) return this.pop();
      this.step(code);
      if (this.stack.length > PICKLE_LIMITS.stack || this.marks.length > PICKLE_LIMITS.stack)
        fail(`its stack grows beyond ${PICKLE_LIMITS.stack} values`);
    }
    return fail(`it has more than ${PICKLE_LIMITS.operations} operations`);
  }

  // --- stack and memo ----------------------------------------------------------------------------------------

  private push(value: PickleValue): void {
    this.stack.push(value);
  }

  private pop(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) return fail('it takes a value from an empty stack');
    return this.stack.pop()!;
  }

  private top(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) return fail('it uses a value of an empty stack');
    return this.stack[this.stack.length - 1]!;
  }

  private popMark(): PickleValue[] {
    const mark = this.marks.pop();
    return mark === undefined ? fail('a mark is missing') : this.stack.splice(mark);
  }

  private made<T>(value: T): T {
    if (++this.objects > PICKLE_LIMITS.objects) fail(`it makes more than ${PICKLE_LIMITS.objects} objects`);
    return value;
  }

  private tuple(items: readonly PickleValue[]): void {
    this.push(this.made(new PickleTuple(items)));
  }

  private put(index: number): void {
    this.memo.set(index, this.top());
    if (this.memo.size > PICKLE_LIMITS.memo) fail(`it remembers more than ${PICKLE_LIMITS.memo} values`);
  }

  private get(index: number): void {
    const value = this.memo.get(index);
    this.push(value === undefined ? fail(`it recalls the value ${index}, which it never stored`) : value);
  }

  // --- operations --------------------------------------------------------------------------------------------

  private step(code: number): void {
    switch (code) {
      case Opcode.PROTO: {
        const version = this.reader.byte();
        if (version > 5) fail(`it is of protocol ${version}; protocols up to 5 are known`);
        return;
      }
      case Opcode.FRAME:
        this.reader.uint64();
        return;
      case Opcode.MARK:
        this.marks.push(this.stack.length);
        return;
      case Opcode.POP:
        if (this.stack.length > (this.marks.at(-1) ?? 0)) this.stack.pop();
        else this.popMark();
        return;
      case Opcode.POP_MARK:
        this.popMark();
        return;
      case Opcode.DUP:
        return this.push(this.top());
      case Opcode.PUT:
        return this.put(this.reader.decimal(this.reader.line()));
      case Opcode.BINPUT:
        return this.put(this.reader.byte());
      case Opcode.LONG_BINPUT:
        return this.put(this.reader.uint32());
      case Opcode.MEMOIZE:
        return this.put(this.memo.size);
      case Opcode.GET:
        return this.get(this.reader.decimal(this.reader.line()));
      case Opcode.BINGET:
        return this.get(this.reader.byte());
      case Opcode.LONG_BINGET:
        return this.get(this.reader.uint32());
      default:
        this.value(code);
    }
  }

  private value(code: number): void {
    const scalar = this.reader.scalar(code);
    if (scalar !== undefined) this.push(scalar);
    else if (!this.container(code)) this.object(code);
  }

  private container(code: number): boolean {
    switch (code) {
      case Opcode.EMPTY_TUPLE:
        this.tuple([]);
        return true;
      case Opcode.TUPLE:
        this.tuple(this.popMark());
        return true;
      case Opcode.TUPLE1:
        this.tuple([this.pop()]);
        return true;
      case Opcode.TUPLE2:
      case Opcode.TUPLE3: {
        const items = [this.pop(), this.pop()];
        if (code === Opcode.TUPLE3) items.push(this.pop());
        this.tuple(items.reverse());
        return true;
      }
      case Opcode.EMPTY_LIST:
        this.push(this.made([]));
        return true;
      case Opcode.LIST:
        this.push(this.made(this.popMark()));
        return true;
      case Opcode.APPEND:
      case Opcode.APPENDS: {
        const items = code === Opcode.APPEND ? [this.pop()] : this.popMark();
        const target = this.top();
        const list = target instanceof InertObject ? target.list : target;
        if (!Array.isArray(list)) return fail('it appends to something that is no list');
        for (const item of items) list.push(item);
        return true;
      }
      case Opcode.EMPTY_DICT:
        this.push(this.made(new Map<PickleValue, PickleValue>()));
        return true;
      case Opcode.DICT: {
        const items = this.popMark();
        const map = this.made(new Map<PickleValue, PickleValue>());
        this.setItems(map, items);
        this.push(map);
        return true;
      }
      case Opcode.SETITEM: {
        const value = this.pop();
        const key = this.pop();
        this.setItems(this.top(), [key, value]);
        return true;
      }
      case Opcode.SETITEMS: {
        const items = this.popMark();
        this.setItems(this.top(), items);
        return true;
      }
      case Opcode.EMPTY_SET:
        this.push(this.made(new Set<PickleValue>()));
        return true;
      case Opcode.FROZENSET:
        this.push(this.made(new Set(this.popMark())));
        return true;
      case Opcode.ADDITEMS: {
        const items = this.popMark();
        const target = this.top();
        if (!(target instanceof Set)) return fail('it adds to something that is no set');
        for (const item of items) target.add(item);
        return true;
      }
      default:
        return false;
    }
  }

  private setItems(target: PickleValue, items: readonly PickleValue[]): void {
    const map = target instanceof InertObject ? target.entries : target;
    if (!(map instanceof Map)) fail('it sets an item of something that is no dict');
    else if (items.length % 2 !== 0) fail('a dict has a key without a value');
    else for (let i = 0; i < items.length; i += 2) map.set(items[i]!, items[i + 1]!);
  }

  private object(code: number): void {
    switch (code) {
      case Opcode.GLOBAL: {
        const module = this.reader.line();
        return this.push(findGlobal(module, this.reader.line()));
      }
      case Opcode.STACK_GLOBAL: {
        const name = this.pop();
        const module = this.pop();
        if (typeof name !== 'string' || typeof module !== 'string') return fail('a name is no text');
        return this.push(findGlobal(module, name));
      }
      case Opcode.INST: {
        const module = this.reader.line();
        const callable = findGlobal(module, this.reader.line());
        return this.push(this.call(callable, this.popMark()));
      }
      case Opcode.OBJ: {
        const [callable = null, ...args] = this.popMark();
        return this.push(this.call(callable, args));
      }
      case Opcode.REDUCE: {
        const args = this.arguments(this.pop());
        return this.push(this.call(this.pop(), args));
      }
      case Opcode.NEWOBJ:
      case Opcode.NEWOBJ_EX: {
        if (code === Opcode.NEWOBJ_EX && !(this.pop() instanceof Map)) fail('keyword arguments are no dict');
        const args = this.arguments(this.pop());
        const type = this.pop();
        if (!(type instanceof PickleGlobal))
          return fail('it makes an instance of something that is no class');
        // cls.__new__: no code of a class that is not known runs; it becomes an inert object.
        return this.push(type.call ? this.call(type, args) : this.made(new InertObject(type.path, args)));
      }
      case Opcode.BUILD:
        return this.build(this.pop(), this.top());
      case Opcode.BINPERSID:
      case Opcode.PERSID: {
        const id = code === Opcode.PERSID ? this.reader.line() : this.pop();
        const load = this.options.persistentLoad;
        return this.push(load ? this.made(load(id)) : fail('it refers to data outside of it'));
      }
      default:
        fail(`the operation ${opcodeName(code)} is not one that files of weights use`);
    }
  }

  private arguments(value: PickleValue): readonly PickleValue[] {
    return value instanceof PickleTuple ? value.items : fail('the arguments of a call are no tuple');
  }

  private call(callable: PickleValue, args: readonly PickleValue[]): PickleValue {
    if (!(callable instanceof PickleGlobal)) return fail('it calls something that is no function');
    if (callable.call) {
      for (const arg of args) this.copies += size(arg);
      if (this.copies > PICKLE_LIMITS.copies) return fail('it copies its values again and again');
      return this.made(callable.call(args));
    }
    throw new WeightsError({
      what: `the pickle calls '${callable.path}', which is not on the list of what files of weights need; it was not executed`,
      fix: "if you trust the file, write its tensors alone in Python: torch.save(checkpoint['state_dict'], …)",
    });
  }

  /** Attributes of an object. Those of dicts and tensors (`_metadata`) are not needed. */
  private build(state: PickleValue, target: PickleValue): void {
    const hooks = ['__setstate__', '__reduce__', '__reduce_ex__', '__class__', '__getattr__'];
    // A tuple holds the attributes and those of __slots__; what has more entries is the state of another class.
    const attributes = [state, ...(state instanceof PickleTuple ? state.items.slice(0, 2) : [])];
    for (const hook of hooks) {
      if (attributes.some((item) => item instanceof Map && item.has(hook))) {
        throw new WeightsError({
          what: `the pickle replaces '${hook}' of an object, which no file of weights needs: it was made to do harm`,
          fix: 'do not load it in Python either; nothing of it was executed here',
        });
      }
    }
    if (target instanceof InertObject) target.state = state;
    else if (!(target instanceof Map || Array.isArray(target) || target instanceof PickledTensor))
      fail('it sets attributes of something that has none');
  }
}

function size(value: PickleValue): number {
  if (value instanceof PickleTuple) return value.items.length;
  if (value instanceof Map || value instanceof Set) return value.size;
  if (typeof value === 'string' || value instanceof Uint8Array) return value.length / 8;
  return Array.isArray(value) ? value.length : 0;
}
