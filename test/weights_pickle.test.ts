/** The reader of pickles: it reads what torch.save writes, executes nothing, and nothing in a file makes it large. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { WeightsError } from '#fornax/errors.js';
import { Opcode } from '#fornax/weights/pickle/opcodes.js';
import { unpickle } from '#fornax/weights/pickle/unpickler.js';
import { InertObject, PickleGlobal, PickleTuple } from '#fornax/weights/pickle/values.js';

import {
  call,
  encode,
  float,
  global,
  instance,
  persistent,
  pickle,
  Py,
  tuple,
} from './support/weights_files.js';

const bytes = (...values: (number | string)[]): Buffer =>
  Buffer.concat(
    values.map((value) => (typeof value === 'string' ? Buffer.from(value, 'latin1') : Buffer.from([value]))),
  );

function refused(data: Buffer, reason: RegExp): void {
  assert.throws(
    () => unpickle(data),
    (error) => {
      assert.ok(error instanceof WeightsError, String(error));
      assert.match(error.message, reason);
      return true;
    },
  );
}

test('values of every sort come back', () => {
  const value = new Map<unknown, unknown>([
    ['none', null],
    ['yes', true],
    ['no', false],
    ['int', -5],
    ['big', 2 ** 40],
    ['float', float(1.5)],
    ['list', [1, 'zwei', []]],
    ['tuple', tuple(1, tuple())],
    ['set', call(global('__builtin__', 'set'), [1, 2])],
    ['ordered', call(global('collections', 'OrderedDict'), [tuple('a', 1)])],
    ['size', call(global('torch', 'Size'), [2, 3])],
  ]);
  const read = unpickle(pickle(value)).value as Map<string, unknown>;
  assert.equal(read.get('none'), null);
  assert.equal(read.get('yes'), true);
  assert.equal(read.get('no'), false);
  assert.equal(read.get('int'), -5);
  assert.equal(read.get('big'), 2 ** 40);
  assert.equal(read.get('float'), 1.5);
  assert.deepEqual(read.get('list'), [1, 'zwei', []]);
  assert.deepEqual(read.get('tuple'), new PickleTuple([1, new PickleTuple([])]));
  assert.deepEqual(read.get('set'), new Set([1, 2]));
  assert.deepEqual(read.get('ordered'), new Map([['a', 1]]));
  assert.deepEqual(read.get('size'), new PickleTuple([2, 3]));
});

test('the forms of all protocols are understood', () => {
  // python -c "import pickle; print(pickle.dumps({'a': [1, 2.5, None, True, 'x'], 'b': (10**20,)}, PROTOCOL))"
  const samples: Record<number, Buffer> = {
    0: bytes('(dp0\nVa\np1\n(lp2\nI1\naF2.5\naNaI01\naVx\np3\nasVb\np4\n(L100000000000000000000L\ntp5\ns.'),
    1: bytes(
      '}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00NI01\nX\x01\x00\x00\x00xq\x03eX\x01\x00\x00\x00bq\x04(L100000000000000000000L\ntq\x05u.',
    ),
    2: bytes(
      '\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00N\x88X\x01\x00\x00\x00xq\x03eX\x01\x00\x00\x00bq\x04\x8a\t\x00\x00\x10c-^\xc7k\x05\x85q\x05u.',
    ),
    4: bytes(
      '\x80\x04\x950\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01G@\x04\x00\x00\x00\x00\x00\x00N\x88\x8c\x01x\x94e\x8c\x01b\x94\x8a\t\x00\x00\x10c-^\xc7k\x05\x85\x94u.',
    ),
    5: bytes(
      '\x80\x05\x950\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01G@\x04\x00\x00\x00\x00\x00\x00N\x88\x8c\x01x\x94e\x8c\x01b\x94\x8a\t\x00\x00\x10c-^\xc7k\x05\x85\x94u.',
    ),
  };
  const expected = new Map<string, unknown>([
    ['a', [1, 2.5, null, true, 'x']],
    ['b', new PickleTuple([10n ** 20n])],
  ]);
  for (const [protocol, sample] of Object.entries(samples))
    assert.deepEqual(unpickle(sample).value, expected, `protocol ${protocol}`);
});

test('a value may contain itself', () => {
  const list = unpickle(
    bytes(Opcode.EMPTY_LIST, Opcode.BINPUT, 0, Opcode.BINGET, 0, Opcode.APPEND, Opcode.STOP),
  ).value as unknown[];
  assert.equal(list[0], list);
});

test('classes that are not known become inert objects, which keep their contents', () => {
  const args = unpickle(pickle(instance(global('argparse', 'Namespace'), { lr: 1 }))).value;
  assert.ok(args instanceof InertObject);
  assert.equal(args.type, 'argparse.Namespace');
  assert.deepEqual(args.state, new Map([['lr', 1]]));
  const type = unpickle(pickle(global('my.models', 'Net'))).value;
  assert.ok(type instanceof PickleGlobal && type.call === null);
});

test('no function is called but those on the list', () => {
  refused(pickle(call(global('my.models', 'make'), 1)), /calls 'my\.models\.make'.*not executed/);
  refused(pickle([call(global('torch', 'zeros'), 1)]), /calls 'torch\.zeros'/);
});

test('attacks are refused by name, whichever way they call', () => {
  const attacks: [RegExp, Buffer][] = [
    [/'os\.system'/, pickle(call(global('os', 'system'), 'id'))],
    [/'posix\.system'/, pickle(call(global('posix', 'system'), 'id'))],
    [/'builtins\.eval'/, pickle(call(global('builtins', 'eval'), '1'))],
    [/'builtins\.exec'/, pickle(call(global('__builtin__', 'exec'), '1'))],
    [/'builtins\.getattr'/, pickle(call(global('builtins', 'getattr'), 'x', 'y'))],
    [/'builtins\.__import__'/, pickle(call(global('builtins', '__import__'), 'os'))],
    [/'subprocess\.Popen'/, pickle(instance(global('subprocess', 'Popen'), {}))],
    [/'torch\.hub\.load'/, pickle(call(global('torch.hub', 'load'), 'x'))],
    [/'torch\.storage\._load_from_bytes'/, pickle(call(global('torch.storage', '_load_from_bytes'), 'x'))],
    [/'torch\.serialization\.load'/, pickle(call(global('torch.serialization', 'load'), 'x'))],
    // INST: (S'id'\nios\nsystem\n
    [/'os\.system'/, bytes("(S'id'\nios\nsystem\n.")],
    // OBJ: (cos\nsystem\nS'id'\no
    [/'os\.system'/, bytes("(cos\nsystem\nS'id'\no.")],
    // STACK_GLOBAL of protocol 4.
    [/'os\.system'/, bytes('\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.')],
    // Never called, only there.
    [/'os\.system'/, pickle({ weight: 1, hook: global('os', 'system') })],
    // A class whose instance is given a __setstate__, which BUILD would then call.
    [
      /'__setstate__'/,
      bytes(encode(instance(global('my', 'Thing'), { __setstate__: 1 })).toString('latin1'), Opcode.STOP),
    ],
    // The same in the slots' half of the state.
    [/'__setstate__'/, pickle(instance(global('my', 'Thing'), tuple(null, { __setstate__: 1 })))],
    // A subclass of Tensor that is to be rebuilt by another function.
    [
      /not known/,
      pickle(call(global('torch._tensor', '_rebuild_from_type_v2'), global('my', 'f'), null, tuple(), null)),
    ],
    [/EXT1/, bytes(Opcode.EXT1, 1, Opcode.STOP)],
    [/NEXT_BUFFER/, bytes(Opcode.PROTO, 5, Opcode.NEXT_BUFFER, Opcode.STOP)],
    [/data outside/, pickle(persistent(tuple('storage')))],
  ];
  for (const [reason, data] of attacks) refused(data, reason);
});

test('nothing a pickle says makes the reader large or slow', () => {
  const began = process.memoryUsage().rss;
  const started = process.cpuUsage();
  const repeat = (count: number, ...codes: number[]): Buffer =>
    Buffer.alloc(count * codes.length, Buffer.from(codes));
  refused(Buffer.concat([repeat(1_100_000, Opcode.EMPTY_DICT), bytes(Opcode.STOP)]), /objects|stack/);
  refused(Buffer.concat([repeat(2_000_000, Opcode.MARK), bytes(Opcode.STOP)]), /stack/);
  refused(Buffer.concat([repeat(3_000_000, Opcode.NONE), bytes(Opcode.STOP)]), /stack/);
  refused(repeat(12_000_000, Opcode.NONE, Opcode.POP), /operations/);
  refused(
    Buffer.concat([bytes(Opcode.NONE), repeat(1_100_000, Opcode.MEMOIZE), bytes(Opcode.STOP)]),
    /objects|remembers|ends/,
  );
  // Each value is twice the one before: 2⁶⁰ by reference, a few bytes here.
  const doubling = Buffer.concat([
    encode([1]),
    ...Array.from({ length: 60 }, () => bytes(Opcode.BINPUT, 0, Opcode.BINGET, 0, Opcode.TUPLE2)),
    bytes(Opcode.STOP),
  ]);
  assert.ok(unpickle(doubling).value instanceof PickleTuple);
  // One dict, copied for ever by a function that is allowed.
  const big = encode(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`k${i}`, 0])));
  const copy = Buffer.concat([
    global('collections', 'OrderedDict').code,
    bytes(Opcode.BINGET, 1, Opcode.TUPLE1, Opcode.REDUCE, Opcode.POP),
  ]);
  refused(
    Buffer.concat([
      big,
      bytes(Opcode.BINPUT, 1),
      ...Array.from({ length: 5000 }, () => copy),
      bytes(Opcode.STOP),
    ]),
    /copies/,
  );
  // Lengths that no file has; bytes from a number.
  refused(bytes(Opcode.BINUNICODE8, '\xff\xff\xff\xff\xff\xff\x0f\x00', 'x'), /ends too early/);
  refused(bytes(Opcode.BINBYTES8, '\xff\xff\xff\xff\xff\xff\xff\xff', 'x'), /length/);
  refused(bytes(Opcode.LONG4, '\xff\xff\xff\x7f', 'x'), /integer of 2147483647 bytes/);
  refused(pickle(call(global('builtins', 'bytearray'), 2 ** 40)), /bytes are made/);
  const grown = process.memoryUsage().rss - began;
  assert.ok(grown < 900e6, `grew by ${Math.round(grown / 1e6)} MB`);
  const { user, system } = process.cpuUsage(started);
  assert.ok(user + system < 60e6, `took ${(user + system) / 1e6} s of the processor`);
});

test('what is no pickle is refused with its reason', () => {
  refused(bytes(Opcode.STOP), /empty stack/);
  refused(bytes(Opcode.PROTO, 9, Opcode.STOP), /protocol 9/);
  refused(bytes(Opcode.TUPLE, Opcode.STOP), /mark is missing/);
  refused(bytes(Opcode.BINGET, 3, Opcode.STOP), /never stored/);
  refused(bytes(Opcode.NONE, Opcode.NONE, Opcode.APPEND, Opcode.STOP), /no list/);
  refused(bytes(Opcode.NONE, Opcode.NONE, Opcode.NONE, Opcode.SETITEM, Opcode.STOP), /no dict/);
  refused(bytes(Opcode.NONE, Opcode.EMPTY_TUPLE, Opcode.REDUCE, Opcode.STOP), /no function/);
  refused(bytes(0xff, Opcode.STOP), /0xff/);
  refused(pickle(new Py(bytes(Opcode.MARK, Opcode.NONE, Opcode.DICT))), /without a value/);
  refused(Buffer.alloc(0), /ends too early/);
});
