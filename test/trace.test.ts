/** Tracing: the graph that a module becomes, losses included, and what cannot be traced. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError, GraphError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { crossEntropy, mse, traceLoss } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import {
  call,
  Dropout,
  functional as F,
  Identity,
  Linear,
  Module,
  Sequential,
  type Tensor,
} from '#fornax/nn/index.js';
import { fn, guardsOf } from './support/traced.js';

describe('trace', () => {
  it('numbers slots: inputs, the state dict, then results', () => {
    const graph = trace(new Sequential(new Linear(4, 2)), { inputs: [[1, 4]] });
    assert.deepEqual(graph, {
      format_version: 1,
      inputs: [{ name: 'image', slot: 0, rank: 2 }],
      outputs: [{ name: 'output', slot: 3 }],
      parameters: graph.parameters,
      nodes: [
        {
          op: 'aten::linear',
          path: '0',
          args: [{ slot: 0 }, { slot: 1 }, { slot: 2 }],
          outs: [3],
        },
      ],
      guards: [],
      slots: 4,
    });
    assert.deepEqual(
      graph.parameters.map((p) => [p.name, p.slot]),
      [
        ['0.weight', 1],
        ['0.bias', 2],
      ],
    );
  });

  it('makes graphs that survive JSON and validation unchanged', () => {
    for (const name of ['resnet18', 'resnet20', 'tiny_cnn']) {
      const graph = trace(createModule(name), { inputs: [[1, 3, 32, 32]] });
      assert.deepEqual(validateGraph(JSON.parse(JSON.stringify(graph))), graph, name);
    }
  });

  it('does not depend on the example: another batch size and resolution give the same graph', () => {
    const small = trace(createModule('resnet18'), { inputs: [[1, 3, 64, 64]] });
    const large = trace(createModule('resnet18'), { inputs: [[32, 3, 224, 224]] });
    assert.deepEqual(small, large);
  });

  it('takes several inputs and returns arrays and objects of tensors', () => {
    const inputs = [
      { name: 'left', shape: [1, 4] },
      { name: 'right', shape: [1, 4], dtype: 'int64' as const },
    ];
    const pair = trace(
      fn((a, b) => [a.add(b), a]),
      { inputs },
    );
    assert.deepEqual(pair.inputs, [
      { name: 'left', slot: 0, rank: 2 },
      { name: 'right', slot: 1, rank: 2 },
    ]);
    assert.deepEqual(pair.outputs, [
      { name: 'output_0', slot: 2 },
      { name: 'output_1', slot: 0 },
    ]);
    const named = trace(
      fn((a, b) => ({ sum: a.add(b), difference: a.sub(b) })),
      { inputs },
    );
    assert.deepEqual(named.outputs, [
      { name: 'sum', slot: 2 },
      { name: 'difference', slot: 3 },
    ]);
    assert.deepEqual(
      trace(
        fn((a, b) => a.add(b)),
        { inputs: [[1], [1]] },
      ).inputs.map((p) => p.name),
      ['input_0', 'input_1'],
    );
  });

  it('keeps one set of parameters for a module that is used twice, under its first path', () => {
    class Twice extends Module {
      a = new Linear(4, 4);
      b = this.a;
      forward(x: Tensor): Tensor {
        return this.b.forward(this.a.forward(x));
      }
    }
    const graph = trace(new Twice(), { inputs: [[1, 4]] });
    assert.deepEqual(
      graph.parameters.map((p) => p.name),
      ['a.weight', 'a.bias'],
    );
    assert.deepEqual(
      graph.nodes.map((n) => n.path),
      ['a', 'a'],
    );
    assert.deepEqual(graph.nodes[0]!.args.slice(1), graph.nodes[1]!.args.slice(1));
  });

  it('keeps parameters that forward does not use', () => {
    class Unused extends Module {
      used = new Linear(2, 2, { bias: false });
      spare = new Linear(2, 2, { bias: false });
      forward(x: Tensor): Tensor {
        return this.used.forward(x);
      }
    }
    const graph = trace(new Unused(), { inputs: [[1, 2]] });
    assert.deepEqual(
      graph.parameters.map((p) => p.name),
      ['used.weight', 'spare.weight'],
    );
    validateGraph(graph);
  });

  it('gives mode flags and generators as arguments', () => {
    const graph = trace(new Sequential(new Dropout(0.25)), { inputs: [[1, 4]] });
    assert.deepEqual(graph.nodes, [
      {
        op: 'fornax::dropout',
        path: '0',
        args: [{ slot: 0 }, 0.25, { mode: 'dropout' }, { generator: true }],
        outs: [1],
      },
    ]);
  });

  it('reaches any operator by name', () => {
    const graph = trace(
      fn((x) => {
        const [values] = call('aten::max.dim', [x, 1, true], { outputs: 2 });
        return call('aten::add.Tensor', [x, values, 2]).to('float16');
      }),
      { inputs: [[2, 4]] },
    );
    assert.deepEqual(graph.nodes[0], {
      op: 'aten::max.dim',
      path: '',
      args: [{ slot: 0 }, 1, true],
      outs: [1, 2],
    });
    assert.deepEqual(graph.nodes[2]!.args, [{ slot: 3 }, { dtype: 'float16' }]);
  });

  it('returns inputs and parameters as outputs where forward does', () => {
    const graph = trace(new Identity(), { inputs: [[1, 2]] });
    assert.deepEqual(graph.outputs, [{ name: 'output', slot: 0 }]);
    assert.deepEqual(graph.nodes, []);
  });
});

describe('tracing refuses', () => {
  const one = { inputs: [[1, 4]] };
  const rejects = (forward: (x: Tensor) => unknown, message: RegExp): void =>
    assert.throws(
      () => trace(fn(forward), one),
      (e) => e instanceof GraphError && message.test(e.message),
    );

  it('parameters that are not in the state', () => {
    const hidden = [new Linear(4, 4)];
    rejects((x) => hidden[0]!.forward(x), /not in the module's state/);
  });

  it('tensors of another trace', () => {
    let leaked: Tensor | undefined;
    trace(
      fn((x) => (leaked = x.neg())),
      one,
    );
    rejects((x) => x.add(leaked!), /another trace/);
  });

  it('operators outside of a trace', () => {
    assert.throws(() => new Linear(4, 4).forward(undefined as unknown as Tensor), /no trace under way/);
    assert.throws(() => call('aten::arange', [4]), GraphError);
  });

  it('outputs that are not tensors', () => {
    rejects(() => 3, /not a tensor/);
    rejects(() => undefined, /not a tensor/);
    rejects(() => [], /no tensor/);
    rejects((x) => ({ a: x, b: 1 }), /'b' is not a tensor/);
  });

  it('arguments that a graph cannot hold', () => {
    rejects((x) => x.add(Infinity), /stored as JSON/);
    rejects(
      (x) => call('aten::add', [x, new Date() as unknown as number]),
      /neither a tensor nor a constant/,
    );
    rejects((x) => call('add', [x, 1]), /not the name of an operator/);
  });

  it('inputs that make no sense', () => {
    const net = new Identity();
    assert.throws(() => trace(net, { inputs: [[1, -4]] }), ArgumentError);
    assert.throws(
      () =>
        trace(net, {
          inputs: [
            { name: 'a', shape: [1] },
            { name: 'a', shape: [1] },
          ],
        }),
      /two inputs/,
    );
    assert.throws(() => trace({} as Module, one), ArgumentError);
  });

  it('sizes outside of the shape', () => {
    assert.throws(
      () =>
        trace(
          fn((x) => (x.size(7).eq(1) ? x : x.neg())),
          one,
        ),
      ArgumentError,
    );
  });

  it('a trace inside a trace leaves the outer one as it was', () => {
    const graph = trace(
      fn((x) => {
        trace(
          fn((y) => y.neg()),
          one,
        );
        return x.exp();
      }),
      one,
    );
    assert.deepEqual(
      graph.nodes.map((n) => n.op),
      ['aten::exp'],
    );
  });
});

describe('losses', () => {
  it('are graphs over the outputs of the model and the fields of the batch', () => {
    const graph = crossEntropy({ labelSmoothing: 0.1, ignoreIndex: 255 });
    assert.deepEqual(
      graph.inputs.map((p) => p.name),
      ['output', 'label'],
    );
    assert.deepEqual(
      graph.outputs.map((p) => p.name),
      ['loss'],
    );
    assert.deepEqual(graph.nodes[0]!.args, [{ slot: 0 }, { slot: 1 }, null, 1, 255, 0.1]);
    assert.deepEqual(
      mse().inputs.map((p) => p.name),
      ['output', 'target'],
    );
    assert.throws(() => crossEntropy({ labelSmoothing: 1.5 }), ArgumentError);
    assert.throws(() => crossEntropy({ classWeights: [1, -1] }), ArgumentError);
  });

  it('may be any module', () => {
    const graph = traceLoss(
      fn((output, teacher) => F.mseLoss(output.softmax(1), teacher.softmax(1)).mul(4)),
      ['output', 'teacher'],
    );
    assert.deepEqual(
      graph.inputs.map((p) => p.name),
      ['output', 'teacher'],
    );
    assert.equal(graph.outputs[0]!.name, 'loss');
    validateGraph(graph);
  });

  it('that branch on a size need its shape', () => {
    const branch = fn((output) => (output.size(1).eq(2) ? output.mean() : output.sum()));
    assert.throws(() => traceLoss(branch, ['output']), /shape of an input is not known/);
    const graph = traceLoss(branch, [{ name: 'output', shape: [8, 2] }]);
    assert.deepEqual(guardsOf(graph), ['%0.size(1) == 2']);
  });

  it('return one tensor', () => {
    assert.throws(
      () =>
        traceLoss(
          fn((output) => [output.sum(), output.mean()]),
          ['output'],
        ),
      /a loss returns one tensor/,
    );
  });
});
