/** Sizes while a module is traced: symbolic, guarded where a branch depends on them, rounded as Python does. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError, GraphError } from '#fornax/errors.js';
import { floorDivide, floorModulo } from '#fornax/graph/size_expr.js';
import { trace } from '#fornax/graph/trace.js';
import { cat, functional as F, Identity, Module, Sequential, SymInt, type Tensor } from '#fornax/nn/index.js';
import { fn, guardsOf } from './support/traced.js';

describe('sizes', () => {
  it('stay symbolic through arithmetic', () => {
    const graph = trace(
      fn((x) => {
        const [n, c, h, w] = [x.size(0), x.size(1), x.size(2), x.size(-1)];
        return x.reshape(n, c.floordiv(2), 2, h.mul(w).add(0).sub(h.mod(3)).min(99).max(1));
      }),
      { inputs: [[2, 4, 6, 8]] },
    );
    assert.deepEqual(graph.guards, []);
    assert.deepEqual(graph.nodes[0]!.args[1], [
      { expr: ['size', 0, 0] },
      { expr: ['//', ['size', 0, 1], 2] },
      2,
      {
        expr: [
          'max',
          ['min', ['-', ['*', ['size', 0, 2], ['size', 0, -1]], ['%', ['size', 0, 2], 3]], 99],
          1,
        ],
      },
    ]);
  });

  it('record a guard for every comparison, with the outcome for the example', () => {
    const outcomes: boolean[] = [];
    const graph = trace(
      fn((x) => {
        const h = x.size(2);
        outcomes.push(h.eq(6), h.ne(6), h.lt(6), h.le(6), h.gt(x.size(3)), h.ge(7));
        return x;
      }),
      { inputs: [[2, 4, 6, 8]] },
    );
    assert.deepEqual(outcomes, [true, false, false, true, false, false]);
    assert.deepEqual(guardsOf(graph), [
      '%0.size(2) == 6',
      '%0.size(2) >= 6',
      '%0.size(2) <= 6',
      '%0.size(2) <= %0.size(3)',
      '%0.size(2) < 7',
    ]);
  });

  it('pin the size where JavaScript needs a number', () => {
    const graph = trace(
      fn((x) => {
        const half = (x.size(2) as unknown as number) / 2;
        return x.narrow(2, 0, half);
      }),
      { inputs: [[2, 4, 6, 8]] },
    );
    assert.deepEqual(guardsOf(graph), ['%0.size(2) == 6']);
    assert.deepEqual(graph.nodes[0]!.args, [{ slot: 0 }, 2, 0, 3]);
  });

  it('record the path of the module that branched, and no guard twice', () => {
    class Branch extends Module {
      forward(x: Tensor): Tensor {
        return x.size(3).mod(4).eq(0) && x.size(3).mod(4).eq(0) ? x : F.pad(x, [0, 1]);
      }
    }
    const graph = trace(new Sequential(new Identity(), new Branch()), { inputs: [[1, 1, 6, 8]] });
    assert.deepEqual(graph.guards, [{ left: ['%', ['size', 0, 3], 4], compare: '==', right: 0, path: '1' }]);
    const padded = trace(new Sequential(new Branch()), { inputs: [[1, 1, 6, 7]] });
    assert.equal(padded.guards[0]!.compare, '!=');
    assert.equal(padded.nodes[0]!.op, 'aten::pad');
  });

  it('follow Python: // and % round towards minus infinity', () => {
    assert.deepEqual(
      [floorDivide(7, 2), floorDivide(-7, 2), floorDivide(7, -2), floorDivide(-7, -2)],
      [3, -4, -4, 3],
    );
    assert.deepEqual(
      [floorModulo(7, 3), floorModulo(-7, 3), floorModulo(7, -3), floorModulo(-7, -3)],
      [1, 2, -2, -1],
    );
    assert.equal(new SymInt(-7).floordiv(2).value, -4);
    assert.equal(new SymInt(-7).mod(3).value, 2);
    assert.equal(new SymInt(7).ceildiv(2).value, 4);
    assert.throws(() => new SymInt(1).floordiv(0), GraphError);
    assert.throws(() => new SymInt(1).add(0.5), ArgumentError);
  });

  it('give the pieces of chunk and split that torch gives, with their number guarded', () => {
    const count = (length: number, pieces: (x: Tensor) => Tensor[]): number => {
      let result = 0;
      trace(
        fn((x) => {
          const parts = pieces(x);
          result = parts.length;
          return parts;
        }),
        { inputs: [[length]] },
      );
      return result;
    };
    // torch.arange(5).chunk(4) has three pieces: 2, 2, 1.
    assert.equal(
      count(5, (x) => x.chunk(4)),
      3,
    );
    assert.equal(
      count(12, (x) => x.chunk(3)),
      3,
    );
    assert.equal(
      count(2, (x) => x.chunk(3)),
      2,
    );
    assert.equal(
      count(7, (x) => x.split(3)),
      3,
    );
    assert.equal(
      count(7, (x) => x.split([3, 4])),
      2,
    );
    assert.equal(
      count(4, (x) => x.unbind()),
      4,
    );
    const graph = trace(
      fn((x) => cat(x.chunk(3).reverse())),
      { inputs: [[6]] },
    );
    assert.equal(graph.guards.length, 1);
    assert.deepEqual(graph.nodes[1]!.args[0], [{ slot: 3 }, { slot: 2 }, { slot: 1 }]);
  });
});
