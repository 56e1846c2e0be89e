/** TorchScript: the source that the walk writes, and the archives that libtorch makes of it. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { ExecutionError, GraphError, WeightsError } from '#fornax/errors.js';
import { lower } from '#fornax/export/lower.js';
import { returnForm, torchScriptSource } from '#fornax/export/torchscript_source.js';
import { GRAPH_FORMAT_VERSION, type Graph, type GraphNode } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { loadAddon } from '#fornax/native.js';
import { call, cat, Conv2d, functional as F, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

const sourceOf = (graph: Graph): string => torchScriptSource(graph, (op) => loadAddon().operatorSchema(op));

/** `output = image + <parameter>`. */
function sum(parameter: string, changes: Partial<Graph> = {}): Graph {
  return {
    format_version: GRAPH_FORMAT_VERSION,
    slots: 3,
    inputs: [{ name: 'image', slot: 0 }],
    outputs: [{ name: 'output', slot: 2 }],
    parameters: [
      {
        name: parameter,
        shape: [2],
        dtype: 'float32',
        kind: 'parameter',
        slot: 1,
        init: { kind: 'constant', value: 0 },
      },
    ],
    nodes: [{ op: 'aten::add.Tensor', path: '', args: [{ slot: 0 }, { slot: 1 }], outs: [2] }],
    guards: [],
    ...changes,
  };
}

async function roundTrip(
  graph: Graph,
  inputs: Tensor[],
  state: Record<string, Tensor> = {},
): Promise<{ outputs: Record<string, Tensor>; names: string[] }> {
  const file = path.join(root.path, 'model.pt');
  await loadAddon().writeTorchScript(file, {
    source: sourceOf(graph),
    tensors: graph.parameters.map(({ name, kind }) => ({ name, kind, tensor: state[name]!.native })),
    extra: {},
  });
  const run = await loadAddon().runTorchScript(
    file,
    inputs.map(({ native }) => native),
  );
  return {
    outputs: Object.fromEntries(Object.entries(run.outputs).map(([name, t]) => [name, new Tensor(t)])),
    names: run.state.map(({ name }) => name),
  };
}

const pair = (a: number, b: number): Tensor => Tensor.from(new Float32Array([a, b]), [2]);

test('a graph becomes one readable method', () => {
  class Net extends Module {
    readonly conv = new Conv2d(3, 4, 3, { padding: 1 });
    forward(x: Symbolic): Symbolic {
      return F.relu(this.conv.forward(x)).reshape(x.size(0), x.size(2).mul(x.size(3)).mul(4));
    }
  }
  const graph = lower(trace(new Net(), { inputs: [[1, 3, 8, 8]] }));
  assert.equal(
    sourceOf(graph),
    `def forward(self, image: Tensor) -> Tensor:
  assert torch.dim(image) == 4, "the input image must have 4 dimensions"
  v3 = torch.conv2d(image, weight=self.conv.weight, bias=self.conv.bias, stride=[1, 1], padding=[1, 1], dilation=[1, 1], groups=1)
  v4 = torch.relu(v3)
  v5 = torch.reshape(v4, shape=[torch.size(image, 0), ((torch.size(image, 2) * torch.size(image, 3)) * 4)])
  return v5
`,
  );
});

test('parts of names that are no identifiers are read with getattr, and keep their names', async () => {
  for (const name of ['0', '0.1', 'layer1.0.weight', 'a.0_b', 'block1-0.x', '-', '_x', 'weight', 'size']) {
    const { outputs, names } = await roundTrip(sum(name), [pair(1, 2)], { [name]: pair(10, 20) });
    assert.deepEqual(outputs['']!.toArray(), [11, 22]);
    assert.deepEqual(names, [name]);
  }
});

test('names that could reach the source of the archive are refused', () => {
  const hostile = [
    'a"]\n    import os',
    'weight = 1\ndef forward',
    "a'b",
    'a\\',
    'a b',
    'ä',
    'a..b',
    '.a',
    'a.',
    'forward',
    'training',
    'layer.class',
    'None',
    'torch.weight',
    '__class__',
    '__init__.weight',
    'x'.repeat(300),
  ];
  for (const name of hostile) {
    assert.throws(() => sourceOf(sum(name)), GraphError, name);
  }
});

test('names of inputs, outputs and modules, and texts, cannot inject source', async () => {
  const evil = '"): Tensor:\n  import os\n#';
  const guards = [
    { left: ['size', 0, 0] as ['size', number, number], compare: '==' as const, right: 2, path: 'a"\\' },
    { left: ['size', 0, 0] as ['size', number, number], compare: '>' as const, right: 0, path: evil },
  ];
  const graph = sum('w', {
    inputs: [{ name: evil, slot: 0, rank: 1 }],
    outputs: [
      { name: 'a"\\', slot: 2 },
      { name: 'b', slot: 0 },
    ],
    guards,
  });
  const { outputs } = await roundTrip(graph, [pair(1, 2)], { w: pair(1, 1) });
  assert.deepEqual(Object.keys(outputs), ['a"\\', 'b']);
  assert.doesNotMatch(sourceOf(graph), /import os/);
  const text = (value: string): GraphNode => ({
    op: 'aten::gelu',
    path: '',
    args: [{ slot: 0 }, value],
    outs: [2],
  });
  assert.throws(() => sourceOf(sum('w', { nodes: [text('none\n')] })), GraphError);
  assert.match(sourceOf(sum('w', { nodes: [text('a"b\\')] })), /approximate="a\\"b\\\\"/);
  const twoOutputs = [
    { name: 'ä', slot: 2 },
    { name: 'b', slot: 0 },
  ];
  assert.throws(() => sourceOf(sum('w', { outputs: twoOutputs })), /only ASCII/);
});

test('one output is a tensor, an array a tuple, an object a dictionary', async () => {
  assert.equal(returnForm(['out']), 'tensor');
  assert.equal(returnForm(['output_0', 'output_1']), 'tuple');
  assert.equal(returnForm(['loc', 'conf']), 'dict');
  assert.equal(returnForm(['output_0', 'output_2']), 'dict');
  const w = { w: pair(1, 1) };
  const ports = (...names: string[]): Graph['outputs'] => names.map((name, i) => ({ name, slot: 2 - 2 * i }));
  const tuple = await roundTrip(sum('w', { outputs: ports('output_0', 'output_1') }), [pair(1, 2)], w);
  assert.deepEqual(
    Object.entries(tuple.outputs).map(([name, t]) => [name, t.toArray()]),
    [
      ['0', [2, 3]],
      ['1', [1, 2]],
    ],
  );
  const dict = await roundTrip(sum('w', { outputs: ports('loc', 'conf') }), [pair(1, 2)], w);
  assert.deepEqual(dict.outputs.conf!.toArray(), [1, 2]);
});

test('lists, absent tensors, expressions, negative numbers and dtypes arrive as they are', async () => {
  class Net extends Module {
    forward(x: Symbolic): Record<string, Symbolic> {
      const half = x.size(1).sub(7).floordiv(2); // −2 for 4: rounds towards minus infinity
      const [a, b] = x.chunk(2, 1);
      const positions = call('aten::arange', [x.size(1).min(3), { dtype: 'int64' }]);
      return {
        joined: cat([b!, a!], 1),
        picked: call('aten::index.Tensor', [x, [null, positions]]),
        moved: x.roll([half], [1]),
        scaled: x.mul(-1.5).add(1e-7).div(3),
        all: call('aten::sum.dim_IntList', [x, [], true]),
        flags: x.gt(0).to('int32'),
        clamped: x.clamp({ min: -0.5 }),
        best: call('aten::max.dim', [x, 1], { outputs: 2 })[1]!,
      };
    }
  }
  const graph = lower(trace(new Net(), { inputs: [{ name: 'x', shape: [2, 4] }] }));
  const x = Tensor.from(new Float32Array([1, -2, 3, -4, 5, -6, 7, 8]), [2, 4]);
  const { outputs } = await roundTrip(graph, [x]);
  const native = new (loadAddon().Graph)(graph, { trusted: true });
  const session = new (loadAddon().InferenceSession)(native, {});
  const expected = await session.forward({ x: x.native });
  for (const [name, tensor] of Object.entries(expected)) {
    assert.deepEqual(outputs[name]!.toArray(), new Tensor(tensor).toArray(), name);
    assert.equal(outputs[name]!.dtype, tensor.dtype, name);
  }
  session.dispose();
  native.dispose();
});

test('guards are assertions: another size is an error, never a wrong result', async () => {
  class Padded extends Module {
    forward(x: Symbolic): Symbolic {
      const rest = x.size(2).mod(4);
      return rest.eq(0) ? x : F.pad(x, [0, 0, 0, rest.neg().add(4)]);
    }
  }
  const graph = lower(trace(new Padded(), { inputs: [[1, 1, 8, 8]] }));
  const good = await roundTrip(graph, [Tensor.zeros([3, 1, 12, 5])]);
  assert.deepEqual(good.outputs['']!.shape, [3, 1, 12, 5]);
  await assert.rejects(
    roundTrip(graph, [Tensor.zeros([1, 1, 10, 8])]),
    (error: unknown) => error instanceof ExecutionError && /exported for other sizes/.test(error.what),
  );
  await assert.rejects(roundTrip(graph, [Tensor.zeros([1, 8, 8])]), /must have 4 dimensions/);
});

test('what libtorch refuses is a typed error', async () => {
  const addon = loadAddon();
  const file = path.join(root.path, 'bad.pt');
  const module = { tensors: [], extra: {} };
  for (const source of ['def forward(self):\n  return torch.no_such_operator(1)\n', 'not a method', '']) {
    await assert.rejects(
      addon.writeTorchScript(file, { ...module, source }).then(() => addon.runTorchScript(file, [])),
      WeightsErrorOrExecution,
    );
  }
  await fs.writeFile(file, 'not an archive');
  await assert.rejects(addon.runTorchScript(file, []), WeightsError);
  await assert.rejects(addon.runTorchScript(path.join(root.path, 'absent.pt'), []), WeightsError);
  assert.throws(
    () => sourceOf(sum('w', { nodes: [{ op: 'fornax::x', path: '', args: [], outs: [2] }] })),
    /no operator/,
  );
});

function WeightsErrorOrExecution(error: unknown): boolean {
  return error instanceof WeightsError || error instanceof ExecutionError;
}

test(
  'a disk that is full is an error, not the end of the process',
  { skip: process.platform !== 'linux' },
  async () => {
    const graph = sum('w');
    await assert.rejects(
      loadAddon().writeTorchScript('/dev/full', {
        source: sourceOf(graph),
        tensors: [{ name: 'w', kind: 'parameter', tensor: pair(1, 2).native }],
        extra: {},
      }),
      /No space left/,
    );
  },
);
