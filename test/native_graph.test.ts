/** What the native side refuses to make a graph of, and what it keeps graphs from files from. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ExecutionError, GraphError } from '#fornax/errors.js';
import type { Graph, GraphNode } from '#fornax/graph/format.js';
import { loadAddon } from '#fornax/native.js';
import { graphOf, ramp, relu } from './support/native_graphs.js';

const addon = loadAddon();

describe('refusing graphs', () => {
  const refuse = (graph: Graph, pattern: RegExp, trusted = true): void => {
    assert.throws(
      () => new addon.Graph(graph, { trusted }),
      (error: unknown) => {
        assert.ok(error instanceof GraphError, String(error));
        assert.match(error.message, pattern);
        return true;
      },
    );
  };

  it('unknown operators, wrong arity, wrong types, missing arguments', () => {
    refuse(
      graphOf([{ op: 'aten::nothing', path: 'a.b', args: [], outs: [1] }], 2),
      /unknown operator.*\n.*a\.b \(node 0\)/,
    );
    refuse(graphOf([{ op: 'relu', path: '', args: [], outs: [1] }], 2), /not an operator name/);
    refuse(
      graphOf([{ op: 'aten::relu', path: '', args: [{ slot: 0 }, 1], outs: [1] }], 2),
      /takes 1 arguments/,
    );
    refuse(graphOf([{ op: 'aten::relu', path: '', args: [3], outs: [1] }], 2), /'self' must be a slot/);
    refuse(graphOf([{ op: 'aten::relu', path: '', args: [], outs: [1] }], 2), /'self' is missing/);
    refuse(
      graphOf([{ op: 'aten::flatten.using_ints', path: '', args: [{ slot: 0 }, 0.5], outs: [1] }], 2),
      /'start_dim' must be an integer/,
    );
    refuse(
      graphOf([{ op: 'aten::relu', path: '', args: [{ slot: 0 }], outs: [1, 2] }], 3),
      /1 results, the node names 2/,
    );
  });

  it('dangling slots, slots used too early or written twice, other versions', () => {
    refuse(graphOf([relu(0, 5)], 2), /slot 5 does not exist/);
    refuse(graphOf([relu(2, 1), relu(1, 2)], 3), /used before it is written/);
    refuse(graphOf([relu(0, 1), relu(0, 1)], 2), /written twice/);
    refuse(graphOf([relu(0, 1)], 2, { outputs: [{ name: 'y', slot: 9 }] }), /output y/);
    refuse(graphOf([relu(0, 1)], 2, { outputs: [] }), /no output/);
    refuse({ ...graphOf([relu(0, 1)], 2), format_version: 2 }, /version 2 is not supported[^]*update fornax/);
  });

  it('operators that files must not use; a script may', () => {
    for (const op of ['aten::as_strided', 'aten::set_.source_Tensor', 'aten::from_file', 'aten::relu_']) {
      refuse(
        graphOf([{ op, path: 'p', args: [{ slot: 0 }], outs: [1] }], 2),
        /not allowed in a model file|missing/,
        false,
      );
    }
    refuse(
      graphOf([{ op: 'aten::relu_', path: 'p', args: [{ slot: 0 }], outs: [1] }], 2),
      /not allowed in a model file[^]*p \(node 0\)/,
      false,
    );
    refuse(
      graphOf(
        [
          {
            op: 'aten::max.dim_max',
            path: 'p',
            args: [{ slot: 0 }, 0, false, { slot: 0 }, { slot: 0 }],
            outs: [1, 2],
          },
        ],
        3,
      ),
      /not allowed in a model file/,
      false,
    );
    assert.ok(
      new addon.Graph(graphOf([{ op: 'aten::relu_', path: 'p', args: [{ slot: 0 }], outs: [1] }], 2), {
        trusted: true,
      }),
    );
  });
});

describe('a graph from a file', () => {
  const buffer = (name: string, slot: number) => ({
    name,
    shape: [2],
    dtype: 'float32' as const,
    kind: 'buffer' as const,
    slot,
    init: { kind: 'constant' as const, value: 1 },
  });
  const batchNorm = (mean: number, mode: GraphNode['args'][number]): Graph =>
    graphOf(
      [
        {
          op: 'fornax::batch_norm',
          path: 'bn',
          args: [{ slot: 0 }, null, null, { slot: mean }, { slot: 2 }, null, mode, 0.1, 1e-5],
          outs: [3],
        },
      ],
      4,
      { parameters: [buffer('mean', 1), buffer('var', 2)] },
    );

  it('cannot write to the caller’s tensors or force a mode', () => {
    assert.ok(new addon.Graph(batchNorm(1, { mode: 'batch_norm' }), { trusted: false }));
    assert.throws(
      () => new addon.Graph(batchNorm(0, { mode: 'batch_norm' }), { trusted: false }),
      /must be buffers/,
    );
    assert.throws(() => new addon.Graph(batchNorm(1, 1), { trusted: false }), /must be a mode flag/);
    const dropout = graphOf([{ op: 'fornax::dropout', path: '', args: [{ slot: 0 }, 0.5, 1], outs: [1] }], 2);
    assert.throws(() => new addon.Graph(dropout, { trusted: false }), /must be a mode flag/);
    assert.ok(new addon.Graph(dropout, { trusted: true }));
  });

  it('cannot bring the process down with degenerate arguments', async () => {
    // Zero channels: a division by zero in normalisation once.
    const empty = graphOf(
      [
        { op: 'aten::zeros', path: '', args: [[1, 1, 1, 0], { dtype: 'uint8' }], outs: [1] },
        { op: 'fornax::normalize', path: 'n', args: [{ slot: 1 }, [], []], outs: [2] },
      ],
      3,
    );
    const session = new addon.InferenceSession(new addon.Graph(empty, { trusted: false }), {});
    await assert.rejects(session.forward({ x: ramp([1]) }), ExecutionError);
    // Scales that contradict the size made libtorch read out of bounds.
    const resample = graphOf(
      [
        {
          op: 'aten::_upsample_bilinear2d_aa',
          path: 'up',
          args: [{ slot: 0 }, [64, 64], false, 1e-3, 1e-3],
          outs: [1],
        },
      ],
      2,
    );
    assert.throws(() => new addon.Graph(resample, { trusted: false }), /not allowed in a model file/);
    // Attention with grouped queries divides by the number of the key's heads.
    const attention = (gqa: boolean): Graph =>
      graphOf(
        [
          {
            op: 'aten::scaled_dot_product_attention',
            path: 'a',
            args: [{ slot: 0 }, { slot: 0 }, { slot: 0 }, null, 0, false, null, gqa],
            outs: [1],
          },
        ],
        2,
      );
    assert.ok(new addon.Graph(attention(false), { trusted: false }));
    assert.throws(() => new addon.Graph(attention(true), { trusted: false }), /enable_gqa is not allowed/);
    // A sparse layout has no typed array.
    const sparse = graphOf([{ op: 'aten::zeros', path: '', args: [[4], null, 1], outs: [1] }], 2);
    assert.throws(() => new addon.Graph(sparse, { trusted: false }), GraphError);
  });
});
