/** Files of torch.save and torch.jit.save in their forms: every tensor is found where it lies, or refused. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { WeightsError } from '#fornax/errors.js';
import type { FileTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Opcode } from '#fornax/weights/pickle/opcodes.js';
import { bytesOf } from '#fornax/weights/byte_source.js';
import { readPickledWeights, readWeights } from '#fornax/weights/read_weights.js';

import { testData, whyNoData } from './support/data.js';
import { temporaryFolder } from './support/image_folder.js';
import {
  Py,
  call,
  encode,
  floats,
  global,
  instance,
  legacy,
  persistent,
  pickle,
  pth,
  tensor,
  tuple,
  zip,
} from './support/weights_files.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

const six = floats(0, 1, 2, 3, 4, 5);
const matrix = { key: '0', elements: 6, shape: [2, 3], strides: [3, 1] };

async function write(name: string, data: Buffer): Promise<string> {
  const file = path.join(root.path, name);
  await fs.writeFile(file, data);
  return file;
}

/** Name → nested list of values, read natively. */
async function valuesOf(file: string, key?: string): Promise<Record<string, unknown>> {
  const { tensors } = await readWeights(file, key === undefined ? {} : { key });
  return readValues(file, tensors);
}

async function readValues(file: string, tensors: FileTensor[]): Promise<Record<string, unknown>> {
  const handles = await loadAddon().readTensors(file, tensors);
  return Object.fromEntries(
    tensors.map(({ name }, i) => [name, Array.from(handles[i]!.toTypedArray() as Float32Array, Number)]),
  );
}

async function refused(data: Buffer, reason: RegExp): Promise<void> {
  await assert.rejects(readPickledWeights(bytesOf(data)), (error) => {
    assert.ok(error instanceof WeightsError, String(error));
    assert.match(error.message, reason);
    return true;
  });
}

const row = { key: '0', elements: 6, shape: [3], strides: [1], offset: 3 };
const column = { key: '0', elements: 6, shape: [2], strides: [3], offset: 1 };
const expanded = { key: '0', elements: 6, shape: [2, 2], strides: [0, 1], offset: 4 };
const transposed = { key: '0', elements: 6, shape: [3, 2], strides: [1, 3] };
const empty = { key: '0', elements: 6, shape: [0, 4], strides: [4, 1] };
const views = {
  matrix: [0, 1, 2, 3, 4, 5],
  row: [3, 4, 5],
  column: [1, 4],
  expanded: [4, 5, 4, 5],
  transposed: [0, 3, 1, 4, 2, 5],
  empty: [],
};

function viewsOf(old: boolean): Record<string, unknown> {
  const specs = { matrix, row, column, expanded, transposed, empty };
  return Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, tensor(spec, old)]));
}

test('tensors that share a storage, with any strides, in zip and in legacy form', async () => {
  assert.deepEqual(await valuesOf(await write('views.pth', pth(viewsOf(false), { 0: six }))), views);
  const old = legacy(viewsOf(true), [{ key: '0', elements: 6, data: six }]);
  assert.deepEqual(await valuesOf(await write('views.th', old)), views);
  assert.deepEqual(
    await valuesOf(await write('64.pth', pth(viewsOf(false), { 0: six }, { zip64: true }))),
    views,
  );
  assert.deepEqual(
    await valuesOf(await write('deflated.pth', pth(viewsOf(false), { 0: six }, { deflate: true }))),
    views,
  );
});

test('legacy storages may be views of others', async () => {
  const view = tuple('view', 2, 3);
  const value = { part: tensor({ ...matrix, shape: [2], strides: [1], offset: 1, view }, true) };
  const file = await write('view.th', legacy(value, [{ key: '0', elements: 6, data: six }]));
  assert.deepEqual(await valuesOf(file), { part: [3, 4] });
});

test('big-endian archives are turned round', async () => {
  const swapped = Buffer.from(six).swap32();
  const file = await write('big.pth', pth(viewsOf(false), { 0: swapped }, { byteorder: 'big' }));
  assert.deepEqual(await valuesOf(file), views);
});

test('tensors larger than the buffer through which they are turned', async () => {
  const [rows, columns] = [1300, 1700];
  const values = Float32Array.from({ length: rows * columns }, (_, i) => i);
  const data = Buffer.from(values.buffer);
  const spec = { key: '0', elements: values.length };
  const turned = tensor({ ...spec, shape: [columns, rows], strides: [1, columns] });
  const halves = tensor({ ...spec, shape: [2, rows, columns / 2], strides: [columns / 2, columns, 1] });
  for (const byteorder of ['little', 'big']) {
    const stored = byteorder === 'big' ? Buffer.from(data).swap32() : data;
    const file = await write(`large-${byteorder}.pth`, pth({ turned, halves }, { 0: stored }, { byteorder }));
    const read = (await valuesOf(file)) as { turned: number[]; halves: number[] };
    for (let i = 0; i < rows * columns; i += 997) {
      const [column, row] = [Math.floor(i / rows), i % rows];
      assert.equal(read.turned[i], row * columns + column);
      const [half, rest] = [Math.floor(i / ((rows * columns) / 2)), i % ((rows * columns) / 2)];
      const [line, place] = [Math.floor(rest / (columns / 2)), rest % (columns / 2)];
      assert.equal(read.halves[i], line * columns + half * (columns / 2) + place);
    }
  }
});

test('the native reader believes no range', async () => {
  const file = await write('raw', six);
  const range = { name: 'w', dtype: 'float32', shape: [2, 2], offset: 0, length: 16 } as const;
  const wrong: [Partial<FileTensor>, RegExp][] = [
    [{ offset: 12 }, /outside the file/],
    [{ offset: -4 }, /outside the file/],
    [{ length: 12 }, /do not agree/],
    [{ strides: [2] }, /do not agree/],
    [{ strides: [-2, 1] }, /negative/],
    [{ strides: [2 ** 52, 2 ** 52], length: 16 }, /do not agree|too large/],
    [{ shape: [-1, 2] }, /negative/],
    [{ shape: [2 ** 40, 2 ** 40] }, /too large/],
  ];
  for (const [change, reason] of wrong) {
    const ranges = [{ ...range, shape: [2, 2], ...change }];
    await assert.rejects(loadAddon().readTensors(file, ranges), (error) => {
      assert.ok(error instanceof WeightsError, String(error));
      assert.match(error.message, reason);
      return true;
    });
  }
});

test('the state dict is found in what surrounds it', async () => {
  const weights = { w: tensor(matrix) };
  const optimizer = { state: { 0: { momentum: tensor(matrix) } }, param_groups: [{ lr: 1 }] };
  const read = async (value: unknown, key?: string): Promise<unknown> => {
    const directory = await readPickledWeights(bytesOf(pth(value, { 0: six })), key);
    return [directory!.tensors.map(({ name }) => name), directory!.notes];
  };
  assert.deepEqual(await read(weights), [['w'], []]);
  for (const name of ['state_dict', 'model', 'model_state_dict', 'net'])
    assert.deepEqual(await read({ [name]: weights, optimizer, epoch: 1 }), [
      ['w'],
      [`took the weights under '${name}'`],
    ]);
  assert.deepEqual(await read({ model: { state_dict: weights }, best_acc: tensor(matrix) }), [
    ['w'],
    ["took the weights under 'model.state_dict'"],
  ]);
  assert.deepEqual(await read({ state_dict: weights, model_ema: { v: tensor(matrix) } }), [
    ['w'],
    ["took the weights under 'state_dict'", "also there: 'model_ema' (choose with the option 'key')"],
  ]);
  assert.deepEqual(await read({ state_dict: weights, model_ema: { v: tensor(matrix) } }, 'model_ema'), [
    ['v'],
    ["took the weights under 'model_ema'"],
  ]);
  assert.deepEqual(await read({ generator: weights, optimizer }), [
    ['w'],
    ["took the weights under 'generator'"],
  ]);
  await assert.rejects(read({ one: weights, two: weights }), /several state dicts: 'one', 'two'/);
  await assert.rejects(read({ epoch: 3 }), /no state dict[^]*'epoch'/);
  await assert.rejects(read(weights, 'ema'), /no entry 'ema'[^]*'w'/);
});

test('whole modules are walked, without their code', async () => {
  const ordered = (entries: unknown): unknown => entries;
  const child = instance(global('torch.nn.modules.linear', 'Linear'), {
    _parameters: ordered({ weight: tensor(matrix), bias: null }),
    _buffers: {},
    _modules: {},
  });
  const model = instance(global('my.models', 'Net'), {
    training: true,
    _parameters: {},
    _buffers: { kept: tensor(row), passing: tensor(row) },
    _non_persistent_buffers_set: call(global('builtins', 'set'), ['passing']),
    _modules: { fc: child },
  });
  const directory = (await readPickledWeights(bytesOf(pth(model, { 0: six }))))!;
  assert.deepEqual(
    directory.tensors.map(({ name }) => name),
    ['kept', 'fc.weight'],
  );
});

test('TorchScript archives give the attributes of their modules', async () => {
  const child = instance(global('__torch__.torch.nn.Linear', 'Linear'), {
    training: false,
    weight: tensor(matrix),
  });
  const root = instance(global('__torch__', 'Net'), { fc: child, scale: tensor(row), size: 3 });
  const directory = (await readPickledWeights(bytesOf(pth(root, { 0: six }, { script: true }))))!;
  assert.equal(directory.format, 'torchscript');
  assert.deepEqual(
    directory.tensors.map(({ name }) => name),
    ['scale', 'fc.weight'],
  );
  const frozen = instance(global('__torch__', 'Net'), { training: false });
  await refused(pth(frozen, {}, { script: true }), /frozen/);
});

test('tensors of other sorts are listed, not loaded', async () => {
  const directory = await readPickledWeights(
    bytesOf(
      pth(
        {
          w: tensor(matrix),
          z: tensor({ ...matrix, key: '1', type: 'ComplexFloatStorage' }),
          s: call(global('torch._utils', '_rebuild_sparse_tensor'), 1, tuple()),
          n: 3,
        },
        { 0: six, 1: Buffer.alloc(48) },
      ),
    ),
  );
  assert.deepEqual(directory!.skipped, [
    { name: 'n', reason: 'it is no tensor' },
    { name: 'z', reason: 'tensors of complex64 are not supported' },
    { name: 's', reason: 'it is a sparse tensor' },
  ]);
});

test('tensors that reach outside their storage, or make no sense, are refused', async () => {
  const one = (spec: object): Buffer => pth({ w: tensor({ ...matrix, ...spec }) }, { 0: six });
  await refused(one({ shape: [3, 3] }), /'w' is not sound: it needs 36 bytes of its storage, which has 24/);
  await refused(one({ offset: 1 }), /needs 28 bytes/);
  await refused(one({ strides: [-3, 1] }), /negative stride/);
  await refused(one({ offset: -1 }), /negative size or offset/);
  await refused(one({ shape: [-1, 3] }), /negative size/);
  await refused(one({ strides: [1] }), /do not agree/);
  await refused(one({ shape: [2 ** 40, 2 ** 40], strides: [0, 0] }), /too large/);
  await refused(one({ elements: 60 }), /24 bytes in the archive and 240 in its pickle/);
  await refused(pth({ a: tensor(matrix), b: tensor({ ...matrix, elements: 5 }) }, { 0: six }), /two sizes/);
  await refused(one({ key: '7' }), /lacks the storage '7'/);
  const short = legacy({ w: tensor(matrix, true) }, [{ key: '0', elements: 6, data: six }]).subarray(0, -1);
  await refused(short, /ends too early/);
  await refused(
    legacy({ w: tensor(matrix, true) }, [{ key: '0', elements: 7, data: six }]),
    /7 elements in the file and 6/,
  );
  await refused(legacy({ w: tensor(matrix, true) }, []), /lacks the storage/);
  await refused(
    legacy({ w: tensor(matrix, true) }, [{ key: 'x', elements: 6, data: six }]),
    /no tensor uses/,
  );
  const outside = { ...matrix, view: tuple('v', 5, 3) };
  await refused(
    legacy({ w: tensor(outside, true) }, [{ key: '0', elements: 6, data: six }]),
    /reaches outside/,
  );
});

test('modules that contain themselves end', async () => {
  // Every module refers twice to the next: 2³⁰ paths, all through the memo.
  let shared = instance(global('__torch__', 'Net'), { w: tensor(matrix) });
  for (let i = 0; i < 30; i++) {
    const stored = new Py(Buffer.concat([shared.code, Buffer.from([Opcode.BINPUT, i])]));
    const again = new Py(Buffer.from([Opcode.BINGET, i]));
    shared = instance(global('__torch__', 'Net'), { a: stored, b: again });
  }
  await refused(pth(shared, { 0: six }, { script: true }), /nested without end/);
  const deep = Array.from({ length: 80 }).reduce(
    (inner) => instance(global('__torch__', 'Net'), { a: inner }),
    instance(global('__torch__', 'Net'), { w: tensor(matrix) }),
  );
  await refused(pth(deep, { 0: six }, { script: true }), /nested without end/);
});

test('dicts and lists that contain themselves end, with a typed error', async () => {
  const put = (value: Py, index: number): Py =>
    new Py(Buffer.concat([value.code, Buffer.from([Opcode.BINPUT, index])]));
  const get = (index: number): Py => new Py(Buffer.from([Opcode.BINGET, index]));
  const dict = new Py(Buffer.from([Opcode.EMPTY_DICT, Opcode.BINPUT, 0]));
  const itself = new Py(
    Buffer.concat([dict.code, encode('model'), get(0).code, Buffer.from([Opcode.SETITEM])]),
  );
  await refused(pth(itself, {}), /no state dict/);
  // Sixteen wrappers, each of them the same dict of sixteen wrappers, and so on: 16⁹ paths.
  const names = ['state_dict', 'model', 'net', 'network', 'module', 'weights', 'params', 'ema', 'teacher'];
  let shared = put(new Py(encode({})), 0);
  for (let i = 1; i < 10; i++) {
    const entries = names.map((name, k) => [name, k === 0 ? shared : get(i - 1)] as const);
    shared = put(new Py(encode(new Map(entries))), i);
  }
  await refused(pth(shared, {}), /no state dict|nested without end/);
  // A function of the list that calls itself, with the list that it stands in as its arguments.
  const rebuild = global('torch._tensor', '_rebuild_from_type_v2');
  const list = new Py(
    Buffer.concat([
      Buffer.from([Opcode.EMPTY_LIST, Opcode.BINPUT, 0, Opcode.MARK]),
      rebuild.code,
      encode(null),
      get(0).code,
      Buffer.from([Opcode.APPENDS]),
    ]),
  );
  await refused(pth(call(rebuild, rebuild, null, list, null), {}), /not known/);
  // Many pairs that are all one long list.
  const long = put(new Py(encode(Array.from({ length: 20_000 }, () => 0))), 0);
  const pairs = [long, ...Array.from({ length: 20_000 }, () => get(0))];
  await refused(pth(call(global('collections', 'OrderedDict'), pairs), {}), /else than pairs/);
});

test('archives that lie about themselves are refused', async () => {
  const data = pickle({ w: tensor(matrix) });
  const part = (name: string, content: Buffer, claims = {}): Parameters<typeof zip>[0][number] => ({
    name,
    data: content,
    claims,
  });
  const good = part('a/data.pkl', data);
  await refused(zip([good, part('a/data/0', six, { offset: 0 })]), /overlap/);
  await refused(zip([good, part('a/data/0', six), part('a/data/0', six)]), /occurs twice/);
  await refused(
    zip([good, part('a/data/0', six, { bytes: 1000, compressed: 1000 })]),
    /outside the file|overlap/,
  );
  await refused(zip([good, part('a/data/0', six, { flags: 1 })]), /encrypted/);
  await refused(zip([part('b/other.pkl', data)]), /no data\.pkl/);
  await refused(zip([good, part('b/data.pkl', data)]), /no data\.pkl|more than one/);
  await refused(Buffer.concat([zip([good]), Buffer.from('tail')]), /no directory/);
  // A bomb: 60 MB of zeros in 60 kB; and one that says it is small.
  const zeros = { name: 'a/data.pkl', data: Buffer.alloc(70 * 2 ** 20), deflate: true };
  await refused(zip([zeros]), /up to 67108864 are read/);
  await refused(zip([{ ...zeros, claims: { bytes: 100 } }]), /cannot be inflated to the 100 bytes/);
  const compressed = { name: 'a/data/0', data: six, deflate: true };
  await refused(zip([good, compressed]), /tensors in the archive are compressed/);
});

test('files of other kinds are named', async () => {
  const guess = async (data: string, reason: RegExp): Promise<void> =>
    refused(Buffer.from(data, 'latin1'), reason);
  await guess('<!DOCTYPE html><html>', /web page/);
  await guess('version https://git-lfs.github.com/spec/v1\n', /Git LFS/);
  await guess('\x89HDF\r\n', /HDF5/);
  await guess('\x80\x02}q\x00.', /pickle that torch\.save did not write/);
  await guess('', /no file of weights/);
  await assert.rejects(readWeights(path.join(root.path, 'nothing')), /does not exist/);
  await assert.rejects(readWeights(root.path), /not a file/);
});

test('published files of real life', { skip: whyNoData('weights') }, async () => {
  const folder = testData('weights')!;
  const expected: Record<string, [string, number, string]> = {
    'RetinaFace_mobilenet025.pth': ['legacy pth', 300, 'body.stage1.0.0.weight'],
    'featherface__mobilenet0.25_Final.pth': ['pth', 437, 'body.stage1.0.0.weight'],
    'featherface_eca_cbam_final.pth': ['pth', 485, 'body.stage1.0.0.weight'],
    'mobilenetV1X0.25_pretrain.tar': ['legacy pth', 164, 'module.stage1.0.0.weight'],
    'mobilenetv1_025.pretrained': ['pth', 164, 'stage1.0.0.weight'],
    'resnet20-12fca82f.th': ['legacy pth', 97, 'module.conv1.weight'],
    'version-RFB-320.pth': ['legacy pth', 244, 'base_net.0.0.weight'],
  };
  for (const [name, [format, count, first]] of Object.entries(expected)) {
    const directory = await readWeights(path.join(folder, name));
    assert.deepEqual(
      [directory.format, directory.tensors.length, directory.tensors[0]!.name],
      [format, count, first],
    );
  }
});

test('a storage without a type is read by the dtype of its tensor', async () => {
  const storage = persistent(tuple('storage', global('torch.storage', 'UntypedStorage'), '0', 'cpu', 24));
  const value = call(
    global('torch._utils', '_rebuild_tensor_v3'),
    ...[storage, 1, tuple(5), tuple(1), false, null, global('torch', 'float32'), null],
  );
  assert.deepEqual(await valuesOf(await write('untyped.pth', pth({ w: value }, { 0: six }))), {
    w: [1, 2, 3, 4, 5],
  });
});
