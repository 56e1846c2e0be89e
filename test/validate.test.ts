import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GraphError } from '#fornax/errors.js';
import { GRAPH_FORMAT_VERSION } from '#fornax/graph/format.js';
import { upgraded, type Migration } from '#fornax/graph/migrations.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { createModule } from '#fornax/models/registry.js';
import { random } from './support/random.js';

/** Anything that JSON can hold, open to being broken. */
type Json = any; // eslint-disable-line @typescript-eslint/no-explicit-any -- tests break graphs at every place

/** x → conv → relu → add(relu, x), with a guard. */
function valid(): Json {
  return {
    format_version: 1,
    slots: 5,
    inputs: [{ name: 'image', slot: 0 }],
    outputs: [{ name: 'output', slot: 4 }],
    parameters: [
      {
        name: 'conv.weight',
        shape: [3, 3, 1, 1],
        dtype: 'float32',
        kind: 'parameter',
        slot: 1,
        init: { kind: 'kaiming_uniform', mode: 'fan_in', gain: 1 },
      },
    ],
    nodes: [
      { op: 'aten::conv2d', path: 'conv', args: [{ slot: 0 }, { slot: 1 }, null, [1, 1]], outs: [2] },
      { op: 'aten::relu', path: '', args: [{ slot: 2 }], outs: [3] },
      { op: 'aten::add.Tensor', path: '', args: [{ slot: 3 }, { slot: 0 }, 1], outs: [4] },
    ],
    guards: [{ left: ['%', ['size', 0, 2], 2], compare: '==', right: 0, path: '' }],
  };
}

function broken(change: (graph: Json) => void): Json {
  const graph = valid();
  change(graph);
  return graph;
}

function refuses(change: (graph: Json) => void, message: RegExp): void {
  assert.throws(
    () => validateGraph(broken(change), { source: 'model.safetensors' }),
    (error) => {
      assert.ok(error instanceof GraphError, String(error));
      assert.match(error.message, message);
      assert.match(error.where ?? '', /model\.safetensors/);
      return true;
    },
  );
}

describe('validateGraph', () => {
  it('accepts a graph and builds it afresh', () => {
    const graph = valid();
    const result = validateGraph(graph);
    assert.deepEqual(result, graph);
    assert.notEqual(result.nodes[0], graph.nodes[0]);
  });

  it('names the node in which a slot is used before it is written, as in a cycle', () => {
    refuses(
      (g) => (g.nodes[1].args[0].slot = 4),
      /slot 4 is used before it is written \(by aten::add.Tensor at the root \(node 2\)\)[^]*aten::relu at the root \(node 1\)/,
    );
    refuses(
      (g) => (g.nodes[1].args[0].slot = 3),
      /slot 3 is used before it is written \(by aten::relu at the root \(node 1\)/,
    );
  });

  it('names the node of a dangling slot', () => {
    refuses((g) => (g.nodes[0].args[1].slot = 99), /slot 99 is dangling[^]*aten::conv2d at conv \(node 0\)/);
    refuses((g) => (g.nodes[0].args[3] = [{ expr: ['size', 17, 0] }]), /slot 17 is dangling/);
    refuses((g) => (g.outputs[0].slot = 77), /slot 77 is dangling[^]*output output/);
    refuses((g) => (g.guards[0].left = ['size', 5, 0]), /slot 5 is dangling[^]*guard 0/);
    refuses((g) => (g.slots = 6), /slot 5 is never written/);
  });

  it('names a parameter that is missing', () => {
    refuses((g) => g.parameters.pop(), /slot 1 is dangling[^]*aten::conv2d at conv \(node 0\)/);
  });

  it('refuses slots that are written twice or do not exist', () => {
    refuses((g) => (g.nodes[1].outs = [2]), /slot 2 is written twice[^]*node 1/);
    refuses((g) => (g.parameters[0].slot = 0), /slot 0 is written twice[^]*parameter conv\.weight/);
    refuses((g) => (g.nodes[2].outs = [400]), /slot 400 does not exist: the graph has 5/);
    refuses((g) => (g.nodes[2].outs = [-1]), /integer from 0/);
    refuses((g) => (g.nodes[2].outs = []), /no output slot/);
  });

  it('refuses versions it does not know', () => {
    refuses(
      (g) => (g.format_version = GRAPH_FORMAT_VERSION + 1),
      /newer than this Fornax reads[^]*update fornax/,
    );
    for (const version of [0, -1, 1.5, '1', null, undefined, NaN]) {
      refuses((g) => (g.format_version = version), /no valid format_version/);
    }
  });

  it('refuses anything that is not a graph', () => {
    for (const value of [null, undefined, 3, 'graph', [], [valid()], () => valid()]) {
      assert.throws(() => validateGraph(value), GraphError);
    }
    assert.throws(() => validateGraph({}), GraphError);
  });

  it('accepts the rank of an input and refuses nonsense for it', () => {
    const graph = broken((g) => (g.inputs[0].rank = 4));
    assert.deepEqual(validateGraph(graph), graph);
    refuses((g) => (g.inputs[0].rank = -1), /input 0, rank/);
    refuses((g) => (g.inputs[0].rank = null), /input 0, rank/);
  });

  it('refuses keys that do not belong, and misses those that do', () => {
    refuses((g) => (g.extra = 1), /'extra' does not belong here/);
    refuses((g) => (g.nodes[0].attributes = {}), /'attributes' does not belong here[^]*node 0/);
    refuses((g) => delete g.nodes[1].args, /'args' is missing[^]*node 1/);
    refuses((g) => delete g.guards, /'guards' is missing/);
    const polluted = JSON.parse(
      JSON.stringify(valid()).replace('"slots"', '"__proto__":{"slots":5},"slots"'),
    );
    assert.throws(() => validateGraph(polluted), /'__proto__' does not belong here/);
  });

  it('refuses arguments of unknown form', () => {
    const arg = (value: unknown) => (g: Json) => (g.nodes[1].args[0] = value);
    refuses(arg({ slot: 2, extra: 1 }), /an argument is one of[^]*argument 0/);
    refuses(arg({ tensor: 2 }), /an argument is one of/);
    refuses(arg({ mode: 'training' }), /dropout, batch_norm, stochastic_depth/);
    refuses(arg({ dtype: 'complex64' }), /float32/);
    refuses(arg({ generator: false }), /an argument is one of/);
    refuses(arg([{ slot: 2 }, 3]), /both slots and constants/);
    refuses(arg([[1]]), /a list holds/);
    refuses(arg(['a']), /a list holds/);
    refuses(arg(Array(70_000).fill(1)), /more than the 65536 allowed/);
    refuses(arg(JSON.parse('1e999')), /finite number/);
    refuses(arg('x'.repeat(2000)), /more than 1024/);
    refuses((g) => (g.nodes[1].args = Array(65).fill(1)), /more than the 64 allowed/);
  });

  it('refuses size expressions that are malformed or too deep', () => {
    const expr = (value: unknown) => (g: Json) => (g.nodes[1].args[0] = { expr: value });
    refuses(expr(['^', 1, 2]), /one of \+, -/);
    refuses(expr(['+', 1]), /three entries/);
    refuses(expr(['size', 0.5, 1]), /integer/);
    refuses(expr(['size', 0, 1000]), /integer from -64 to 63/);
    refuses(expr(1.5), /integer/);
    refuses(expr('size'), /three entries/);
    let deep: unknown = 1;
    for (let i = 0; i < 10_000; i++) deep = ['+', deep, 1];
    refuses(expr(deep), /nested too deeply/);
  });

  it('refuses names that are empty, used twice, or could rewrite a terminal', () => {
    refuses((g) => (g.inputs[0].name = ''), /a name is empty/);
    refuses((g) => g.outputs.push(g.outputs[0]), /two outputs are called 'output'/);
    refuses((g) => {
      g.parameters.push({ ...g.parameters[0], slot: 5 });
      g.slots = 6;
    }, /two parameters are called 'conv\.weight'/);
    refuses((g) => (g.nodes[0].path = 'conv\u001b[2J'), /control characters/);
    refuses((g) => (g.nodes[0].op = 'aten::conv2d; rm'), /not the name of an operator/);
    refuses((g) => (g.outputs = []), /no output/);
  });

  it('refuses parameters of impossible shape, type or start', () => {
    const parameter = (change: object) => (g: Json) => Object.assign(g.parameters[0], change);
    refuses(parameter({ shape: [-1] }), /integer from 0/);
    refuses(parameter({ shape: [2 ** 30, 2 ** 30, 1, 1] }), /too large/);
    refuses(parameter({ shape: Array(17).fill(1) }), /more than the 16 allowed/);
    refuses(parameter({ dtype: 'int64' }), /must be of a floating type/);
    refuses(parameter({ dtype: 'float12' }), /one of float32/);
    refuses(parameter({ kind: 'weight' }), /one of parameter, buffer/);
    refuses(parameter({ init: null }), /one of constant/);
    refuses(parameter({ init: { kind: 'constant' } }), /'value' is missing[^]*parameter conv\.weight/);
    refuses(parameter({ init: { kind: 'constant', value: '0' } }), /finite number/);
    refuses(parameter({ init: { kind: 'uniform', low: 1, high: 0 } }), /range from 1 to 0 is empty/);
    refuses(parameter({ init: { kind: 'normal', mean: 0, std: -1 } }), /must not be negative/);
    refuses(parameter({ shape: [3] }), /at least two dimensions/);
    refuses(
      parameter({ init: { kind: 'xavier_normal', gain: 1, mode: 'fan_in' } }),
      /'mode' does not belong/,
    );
  });

  it('accepts every initialiser', () => {
    for (const init of [
      { kind: 'constant', value: 1 },
      { kind: 'uniform', low: -1, high: 1 },
      { kind: 'normal', mean: 0, std: 1 },
      { kind: 'trunc_normal', mean: 0, std: 1, a: -2, b: 2 },
      { kind: 'kaiming_normal', mode: 'fan_out', gain: 1.5 },
      { kind: 'xavier_uniform', gain: 1 },
    ]) {
      const graph = broken((g) => (g.parameters[0].init = init));
      assert.deepEqual(validateGraph(graph).parameters[0]!.init, init);
    }
  });
});

describe('migrations', () => {
  const steps = new Map<number, Migration>([
    [1, ({ slots, ...graph }) => ({ ...graph, slot_count: slots })],
    [2, ({ slot_count, ...graph }) => ({ ...graph, slot_total: slot_count })],
  ]);

  it('upgrade step by step to the newest version, without changing the original', () => {
    const old = { format_version: 1, slots: 5 };
    assert.deepEqual(upgraded(old, steps, 3), { format_version: 3, slot_total: 5 });
    assert.deepEqual(old, { format_version: 1, slots: 5 });
    assert.deepEqual(upgraded({ format_version: 2, slot_count: 5 }, steps, 3), {
      format_version: 3,
      slot_total: 5,
    });
  });

  it('refuse what is newer than the reader and what has no step', () => {
    assert.throws(() => upgraded({ format_version: 4 }, steps, 3), /newer than this Fornax reads \(3\)/);
    assert.throws(
      () => upgraded({ format_version: 1 }, new Map([[2, steps.get(2)!]]), 3),
      /can no longer be read/,
    );
  });
});

describe('a mutated graph', () => {
  /** Every place in a JSON value that can be replaced. */
  function places(value: Json, found: [Json, string | number][] = []): [Json, string | number][] {
    if (typeof value !== 'object' || value === null) return found;
    for (const key of Object.keys(value)) {
      found.push([value, key]);
      places(value[key], found);
    }
    return found;
  }

  it('gives a GraphError or a valid graph, whatever is changed (10,000 mutations)', () => {
    const text = JSON.stringify(trace(createModule('tiny_cnn'), { inputs: [[1, 3, 8, 8]] }));
    const next = random(20260101);
    const values: unknown[] = [
      null,
      true,
      -1,
      0,
      1.5,
      2 ** 31,
      1e308,
      JSON.parse('1e999'),
      '',
      'aten::add',
      '\u0000',
      [],
      [null],
      {},
      { slot: 3 },
      { expr: ['size', 0, 0] },
      { expr: ['//', 1, 0] },
      ['size', 1, 2],
    ];
    let refused = 0;
    for (let i = 0; i < 10_000; i++) {
      const graph: Json = JSON.parse(text);
      const everywhere = places(graph);
      for (let changes = 1 + next(3); changes > 0; changes--) {
        const [owner, key] = everywhere[next(everywhere.length)]!;
        const action = next(4);
        if (action === 0) Reflect.deleteProperty(owner, key);
        else if (action === 1 && Array.isArray(owner)) owner.push(structuredClone(owner[next(owner.length)]));
        else if (action === 2) owner[key] = everywhere[next(everywhere.length)]![0];
        else owner[key] = values[next(values.length)];
      }
      let input: unknown;
      try {
        input = JSON.parse(JSON.stringify(graph));
      } catch {
        continue; // the mutation made the value contain itself, which no file can hold
      }
      try {
        const result = validateGraph(input);
        assert.deepEqual(validateGraph(JSON.parse(JSON.stringify(result))), result);
      } catch (error) {
        if (!(error instanceof GraphError)) throw error;
        refused++;
      }
    }
    assert.ok(refused > 5000, `only ${refused} of 10,000 mutations were refused`);
  });
});
