/** Damaged graphs: whatever is wrong with one, the answer is a typed error. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FornaxError } from '#fornax/errors.js';
import type { DType, Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import {
  BatchNorm2d,
  Conv2d,
  ConvTranspose2d,
  functional as F,
  LayerNorm,
  Linear,
  Module,
  type Tensor,
} from '#fornax/nn/index.js';
import { mutated } from './support/graph_mutations.js';
import { random } from './support/random.js';

/** Many operators, size expressions, a guard, modes, list results and two outputs in few nodes. */
class Menagerie extends Module {
  readonly conv = new Conv2d(3, 8, 3, { padding: 1 });
  readonly bn = new BatchNorm2d(8);
  readonly up = new ConvTranspose2d(8, 4, 2, { stride: 2 });
  readonly norm = new LayerNorm(8);
  readonly fc = new Linear(8, 5);

  forward(image: Tensor): Record<string, Tensor> {
    let x = F.relu(this.bn.forward(this.conv.forward(image)));
    if (x.size(2).mod(2).eq(0)) x = F.maxPool2d(x, 2);
    const [left, right] = x.chunk(2, 1);
    x = F.stochasticDepth(left!.mul(F.sigmoid(right!)), 0.2, 'row').add(left!);
    x = F.interpolate(right!, { size: [x.size(2), x.size(3)], mode: 'bilinear' }).add(x);
    const mask = this.up.forward(F.pad(x, [0, 0, 0, 0]).repeat(1, 2, 1, 1));
    const tokens = mask.repeat(1, 2, 1, 1).flatten(2).permute(0, 2, 1);
    const attended = F.scaledDotProductAttention(tokens, tokens, tokens);
    const pooled = F.dropout(this.norm.forward(attended).mean(1), 0.3);
    const rows = pooled.reshape(image.size(0), pooled.size(1));
    return { logits: F.softmax(this.fc.forward(rows), -1), mask };
  }
}

interface Subject {
  graph: Graph;
  input: { shape: number[]; dtype: DType };
}

function subject(module: Module, shape: number[]): Subject {
  return { graph: trace(module, { inputs: [shape] }), input: { shape, dtype: 'float32' } };
}

/**
 * Model files are refused unless their tensors are those of the graph (src/model/file.ts), so that a graph takes no
 * more memory than its file. Here there is no file: graphs that would fill the memory are not built.
 */
const elementLimit = 1 << 24;

function fitsInMemory({ parameters }: Graph): boolean {
  const elements = parameters.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
  return elements.reduce((sum, count) => sum + count, 0) <= elementLimit;
}

interface Tally {
  refused: number;
  built: number;
  inferred: number;
  slowest: number;
}

/** Runs `body`; true if it returned, false if it threw a typed error. Anything else is a bug. */
function holds(what: string, body: () => void): boolean {
  try {
    body();
    return true;
  } catch (error) {
    if (error instanceof FornaxError) return false;
    assert.fail(`${what}: ${(error as Error).stack ?? String(error)}`);
  }
}

function fuzz({ graph, input }: Subject, seeds: Iterable<number>): Tally {
  const { Graph: NativeGraph } = loadAddon();
  const tally: Tally = { refused: 0, built: 0, inferred: 0, slowest: 0 };
  for (const seed of seeds) {
    const start = performance.now();
    const damaged = mutated(graph, random(seed));
    let valid: Graph | undefined;
    holds(`seed ${seed}, validating`, () => (valid = validateGraph(damaged)));
    if (valid && !fitsInMemory(valid)) continue;
    // The native reader stands alone too: it gets the damaged graph as it is.
    const built = holds(`seed ${seed}, building`, () => {
      const native = new NativeGraph((valid ?? damaged) as Graph, { trusted: false });
      if (valid && holds(`seed ${seed}, shapes`, () => void native.inferShapes([input]))) tally.inferred++;
      native.dispose();
    });
    if (valid && built) tally.built++;
    else tally.refused++;
    tally.slowest = Math.max(tally.slowest, performance.now() - start);
  }
  return tally;
}

function* range(from: number, to: number): Generator<number> {
  for (let i = from; i < to; i++) yield i;
}

/** Both outcomes must occur often, or the damage is too coarse or too fine to test anything. */
function assertVaried({ refused, built, inferred }: Tally): void {
  const total = refused + built;
  assert.ok(refused > total / 10, `only ${refused} of ${total} were refused`);
  assert.ok(built > total / 20, `only ${built} of ${total} were built`);
  assert.ok(inferred > 0 && inferred < built, `${inferred} of ${built} built graphs have shapes`);
}

test('7,000 damaged copies of a small graph of many operators give typed errors only', (t) => {
  const tally = fuzz(subject(new Menagerie(), [2, 3, 8, 8]), range(0, 7000));
  t.diagnostic(JSON.stringify(tally));
  assertVaried(tally);
});

test('3,000 damaged copies of resnet20 give typed errors only', (t) => {
  const tally = fuzz(subject(createModule('resnet20'), [2, 3, 32, 32]), range(7000, 10_000));
  t.diagnostic(JSON.stringify(tally));
  assertVaried(tally);
});

test('the undamaged graphs are valid and have shapes', () => {
  for (const { graph, input } of [
    subject(new Menagerie(), [2, 3, 8, 8]),
    subject(createModule('resnet20'), [2, 3, 32, 32]),
  ]) {
    const native = new (loadAddon().Graph)(validateGraph(graph), { trusted: false });
    assert.equal(native.inferShapes([input]).length, graph.nodes.length);
    native.dispose();
  }
});
