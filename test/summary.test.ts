import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import { formatSummary } from '#fornax/graph/format_summary.js';
import { macs } from '#fornax/graph/macs.js';
import { summarize, type Summary } from '#fornax/graph/summary.js';
import { trace } from '#fornax/graph/trace.js';
import { createModule } from '#fornax/models/registry.js';
import type { NodeInfo } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Module } from '#fornax/nn/index.js';

function info(op: string, inputs: number[][], output: number[]): NodeInfo {
  return { op, path: '', inputs, outputs: [output], dtypes: ['float32'] };
}

function summaryOf(module: Module, shape: number[]): Summary {
  const graph = trace(module, { inputs: [shape] });
  const native = new (loadAddon().Graph)(graph, { trusted: true });
  try {
    return summarize(graph, native.inferShapes([{ shape, dtype: 'float32' }]), [shape]);
  } finally {
    native.dispose();
  }
}

describe('multiply-accumulates', () => {
  it('of a convolution: outputs × kernel × channels per group', () => {
    // 64 × 112 × 112 outputs, each 7 × 7 × 3 products.
    assert.equal(
      macs(
        info(
          'aten::conv2d',
          [
            [1, 3, 224, 224],
            [64, 3, 7, 7],
          ],
          [1, 64, 112, 112],
        ),
      ),
      64 * 112 * 112 * 7 * 7 * 3,
    );
    assert.equal(
      macs(
        info(
          'aten::conv2d.padding',
          [
            [2, 8, 5, 5],
            [8, 1, 3, 3],
          ],
          [2, 8, 5, 5],
        ),
      ),
      2 * 8 * 25 * 9,
      'depthwise: one channel per group',
    );
  });

  it('of a transposed convolution: inputs × kernel × output channels per group', () => {
    assert.equal(
      macs(
        info(
          'aten::conv_transpose2d.input',
          [
            [1, 8, 4, 4],
            [8, 3, 2, 2],
          ],
          [1, 6, 8, 8],
        ),
      ),
      8 * 16 * 3 * 4,
    );
  });

  it('of products of matrices', () => {
    assert.equal(macs(info('aten::linear', [[2, 5, 8], [10, 8], [10]], [2, 5, 10])), 2 * 5 * 10 * 8);
    assert.equal(
      macs(
        info(
          'aten::matmul',
          [
            [4, 3, 7],
            [7, 2],
          ],
          [4, 3, 2],
        ),
      ),
      4 * 3 * 2 * 7,
    );
    assert.equal(
      macs(
        info(
          'aten::bmm',
          [
            [4, 3, 7],
            [4, 7, 2],
          ],
          [4, 3, 2],
        ),
      ),
      4 * 3 * 2 * 7,
    );
    assert.equal(macs(info('aten::addmm', [[2], [3, 7], [7, 2]], [3, 2])), 3 * 2 * 7);
    assert.equal(
      macs(
        info(
          'aten::scaled_dot_product_attention',
          [
            [1, 2, 5, 4],
            [1, 2, 6, 4],
            [1, 2, 6, 3],
          ],
          [1, 2, 5, 3],
        ),
      ),
      2 * 5 * 6 * 4 + 2 * 5 * 6 * 3,
    );
  });

  it('are none for everything else, and for empty batches', () => {
    assert.equal(macs(info('aten::relu', [[1, 8]], [1, 8])), 0);
    assert.equal(
      macs(
        info(
          'aten::linear',
          [
            [0, 8],
            [10, 8],
          ],
          [0, 10],
        ),
      ),
      0,
    );
  });
});

describe('summarize', () => {
  // Published figures: torchvision's model cards (1.814, 4.089 and 3.664 GFLOPS count multiply-accumulates), and
  // Idelbayev's akamaster/pytorch_resnet_cifar10 for the parameters of ResNet-20.
  for (const [name, side, parameters, gmacs] of [
    ['resnet18', 224, 11_689_512, 1.814],
    ['resnet34', 224, 21_797_672, 3.664],
    ['resnet50', 224, 25_557_032, 4.089],
  ] as const) {
    it(`${name} has the published parameters and MACs`, () => {
      const summary = summaryOf(createModule(name), [1, 3, side, side]);
      assert.equal(summary.parameters, parameters);
      assert.equal(Math.round(summary.macs / 1e6) / 1e3, gmacs);
      assert.deepEqual(summary.outputs, [{ name: 'output', shape: [1, 1000] }]);
    });
  }

  it('adds up: own figures over all rows, and totals at the root', () => {
    const summary = summaryOf(createModule('resnet18'), [2, 3, 64, 64]);
    const sum = (pick: (row: Summary['rows'][number]) => number): number =>
      summary.rows.reduce((total, row) => total + pick(row), 0);
    assert.equal(
      sum((r) => r.parameters),
      summary.parameters,
    );
    assert.equal(
      sum((r) => r.macs),
      summary.macs,
    );
    assert.equal(summary.rows[0]!.path, '');
    assert.equal(summary.rows[0]!.totalParameters, summary.parameters);
    assert.equal(summary.rows[0]!.totalMacs, summary.macs);
    const stage = summary.rows.find((r) => r.path === 'layer2')!;
    assert.deepEqual(stage.outputShape, [2, 128, 8, 8]);
    assert.equal(stage.depth, 1);
    assert.equal(stage.parameters, 0);
    assert.equal(stage.totalParameters, 525_568);
  });

  it('lists modules in the order in which they run, parents first', () => {
    const { rows } = summaryOf(createModule('tiny_cnn'), [1, 3, 16, 16]);
    assert.deepEqual(
      rows.map((r) => [r.path, r.ops, r.outputShape]),
      [
        ['', ['relu', 'relu', 'adaptive_avg_pool2d', 'flatten'], [1, 10]],
        ['conv1', ['conv2d'], [1, 16, 16, 16]],
        ['bn1', ['batch_norm'], [1, 16, 16, 16]],
        ['conv2', ['conv2d'], [1, 32, 8, 8]],
        ['bn2', ['batch_norm'], [1, 32, 8, 8]],
        ['fc', ['linear'], [1, 10]],
      ],
    );
  });

  it('refuses shapes of another graph', () => {
    const graph = trace(createModule('tiny_cnn'), { inputs: [[1, 3, 8, 8]] });
    assert.throws(() => summarize(graph, [], [[1, 3, 8, 8]]), ArgumentError);
  });
});

describe('formatSummary', () => {
  it('prints a table', () => {
    const lines = formatSummary(summaryOf(createModule('tiny_cnn'), [1, 3, 16, 16])).split('\n');
    assert.match(lines[0]!, /^module +operators +output +parameters +MACs$/);
    assert.match(lines[2]!, /^\(model\) +relu ×2, adaptive_avg_pool2d, flatten +\[1, 10\] +– +–$/);
    assert.match(lines[3]!, /^ {2}conv1 +conv2d +\[1, 16, 16, 16\] +432 +110,592$/);
    assert.ok(lines.some((l) => /^parameters +5,466 \(buffers 98; together 0\.02 MiB\)$/.test(l)));
    assert.ok(lines.some((l) => /^MACs +405\.82 k$/.test(l)));
  });

  it('sums up what lies below the depth limit', () => {
    const summary = summaryOf(createModule('resnet18'), [1, 3, 64, 64]);
    const lines = formatSummary(summary, { depth: 1 }).split('\n');
    const stage = lines.find((l) => l.startsWith('  layer2'))!;
    assert.match(stage, /525,568/);
    assert.ok(!lines.some((l) => l.startsWith('    ')));
  });
});
