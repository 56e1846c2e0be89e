/** The CPU's own operators for what happens after backward, beside libtorch's, and their independence of threads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trace } from '#fornax/graph/trace.js';
import { traceLoss } from '#fornax/losses/index.js';
import type { NativeTensor, TrainOptions } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Module, Parameter, type Tensor } from '#fornax/nn/index.js';

const { Tensor: Native, Graph, TrainSession } = loadAddon();

/** Small ones, one that threads share, a channels-last one, and sizes that no vector fits. */
const shapes = [[7], [64], [1], [3, 5], [100_003], [24, 16, 3, 3], [2, 40_000]];
const CHANNELS_LAST = 2;

let seed = 1;
/** In [-1, 1), the same in every run of the tests. */
function random(): number {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 31 - 1;
}

function channelsLast(tensor: NativeTensor): NativeTensor {
  if (tensor.shape.length !== 4) return tensor;
  return Native.call('aten::contiguous', [tensor, CHANNELS_LAST])[0]!;
}

function filled(value: () => number, dtype: 'float32' | 'float64' = 'float32'): NativeTensor[] {
  return shapes.map((shape) => {
    const size = shape.reduce((product, n) => product * n, 1);
    const tensor = Native.fromTypedArray(Float32Array.from({ length: size }, value), shape).to({ dtype });
    return channelsLast(tensor);
  });
}

const copy = (tensors: NativeTensor[]): NativeTensor[] =>
  tensors.map((tensor) => Native.call('aten::clone', [tensor])[0]!);
const numbers = (tensors: NativeTensor[]): number[][] =>
  tensors.map((tensor) => Array.from(tensor.toTypedArray() as Float32Array));
const scalar = (value: number): NativeTensor => Native.fromTypedArray(Float32Array.of(value), []);

/** Differences are taken relative to the largest element of all tensors: a single one may be next to zero. */
function assertClose(ours: NativeTensor[], theirs: NativeTensor[], tolerance: number): void {
  const [a, b] = [numbers(ours), numbers(theirs)];
  const largest = b.flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [i, expected] of b.entries()) {
    const worst = expected.reduce((most, value, k) => Math.max(most, Math.abs(a[i]![k]! - value)), 0);
    assert.ok(worst <= tolerance * largest, `tensor ${i} (${shapes[i]!.join('×')}): ${worst / largest}`);
  }
}

interface Side {
  parameters: NativeTensor[];
  slots: NativeTensor[][];
  steps: NativeTensor[];
}

/** Four units in the last place: whether products and sums are fused differs from processor to processor. */
const ROUNDING = 2 ** -21;
const RATE = 0.01;
const DECAY = 0.05;

function sgd(
  side: Side,
  gradients: NativeTensor[],
  ours: boolean,
  nesterov: boolean,
  inf?: NativeTensor,
): void {
  const [momenta] = side.slots;
  if (ours) {
    const rest = [null, RATE, DECAY, 0.9, 0, nesterov, inf ?? null];
    Native.call('fornax::sgd_', [side.parameters, gradients, momenta!, ...rest]);
  } else {
    const rest = [DECAY, 0.9, RATE, 0, nesterov, false, false, null, inf ?? null];
    Native.call('aten::_fused_sgd_', [side.parameters, gradients, momenta!, ...rest]);
  }
}

function adam(
  side: Side,
  gradients: NativeTensor[],
  ours: boolean,
  { decoupled, amsgrad }: { decoupled: boolean; amsgrad: boolean },
  inf?: NativeTensor,
): void {
  const [means, squares, largest] = side.slots;
  const lists = [side.parameters, gradients, means!, squares!, amsgrad ? largest! : [], side.steps];
  if (ours) {
    Native.call('fornax::adam_', [...lists, null, RATE, DECAY, 0.9, 0.999, 1e-8, decoupled, inf ?? null]);
  } else {
    Native.call('aten::_foreach_add_.Scalar', [side.steps, 1]);
    const rest = [RATE, 0.9, 0.999, DECAY, 1e-8, amsgrad, false, null, inf ?? null];
    Native.call(decoupled ? 'aten::_fused_adamw_' : 'aten::_fused_adam_', [...lists, ...rest]);
  }
}

type Update = (side: Side, gradients: NativeTensor[], ours: boolean, inf?: NativeTensor) => void;
const updates: Record<string, Update> = {
  sgd: (side, gradients, ours, inf) => sgd(side, gradients, ours, false, inf),
  'sgd with Nesterov momentum': (side, gradients, ours, inf) => sgd(side, gradients, ours, true, inf),
  adam: (side, gradients, ours, inf) =>
    adam(side, gradients, ours, { decoupled: false, amsgrad: false }, inf),
  'adam with amsgrad': (side, gradients, ours, inf) =>
    adam(side, gradients, ours, { decoupled: false, amsgrad: true }, inf),
  adamw: (side, gradients, ours, inf) =>
    adam(side, gradients, ours, { decoupled: true, amsgrad: false }, inf),
};

function sides(dtype: 'float32' | 'float64' = 'float32'): { ours: Side; theirs: Side } {
  const parameters = filled(random, dtype);
  const make = (): Side => ({
    parameters: copy(parameters),
    slots: [0, 1, 2].map(() => filled(() => 0, dtype)),
    steps: shapes.map(() => scalar(0)),
  });
  return { ours: make(), theirs: make() };
}

for (const [name, update] of Object.entries(updates)) {
  test(`${name} on the CPU is libtorch's fused operator`, () => {
    const { ours, theirs } = sides();
    for (let step = 0; step < 3; step++) {
      const gradients = filled(random);
      update(ours, gradients, true);
      update(theirs, gradients, false);
      assertClose(ours.parameters, theirs.parameters, ROUNDING * (step + 1));
      for (const [k, slot] of ours.slots.entries())
        assertClose(slot, theirs.slots[k]!, ROUNDING * (step + 1));
      assert.deepEqual(numbers(ours.steps), numbers(theirs.steps));
    }
  });

  test(`${name} changes nothing where a gradient was not finite`, () => {
    const { ours } = sides();
    update(ours, filled(random), true);
    const before = [ours.parameters, ...ours.slots, ours.steps].map(numbers);
    update(ours, filled(random), true, scalar(1));
    assert.deepEqual([ours.parameters, ...ours.slots, ours.steps].map(numbers), before);
    update(ours, filled(random), true, scalar(0));
    assert.notDeepEqual(numbers(ours.parameters), before[0]);
  });

  test(`${name} leaves float64 to libtorch`, () => {
    const { ours, theirs } = sides('float64');
    const gradients = filled(random, 'float64');
    update(ours, gradients, true);
    update(theirs, gradients, false);
    assert.deepEqual(numbers(ours.parameters), numbers(theirs.parameters));
  });
}

test('the norm of all gradients, clipping and averages are libtorch’s', () => {
  const tensors = filled(random);
  const [norm] = Native.call('fornax::total_norm', [tensors]);
  const exact = Math.sqrt(
    numbers(tensors)
      .flat()
      .reduce((sum, x) => sum + x * x, 0),
  );
  assert.ok(Math.abs(norm!.item() - exact) <= 1e-7 * exact);

  const [scaled, expected] = [copy(tensors), copy(tensors)];
  Native.call('fornax::scale_', [scaled, scalar(0.37)]);
  Native.call('aten::_foreach_mul_.Scalar', [expected, 0.37]);
  assertClose(scaled, expected, ROUNDING);

  const sources = filled(random);
  for (const share of [1e-4, 0.7]) {
    const [ours, theirs] = [copy(tensors), copy(tensors)];
    Native.call('fornax::average_', [ours, sources, share]);
    Native.call('aten::_foreach_lerp_.Scalar', [theirs, sources, share]);
    assertClose(ours, theirs, ROUNDING);
  }
});

test('a norm that is not finite stays so and reaches every gradient', () => {
  const tensors = filled(random);
  tensors[1] = Native.fromTypedArray(
    Float32Array.from({ length: 64 }, (_, i) => (i === 40 ? NaN : 1)),
    [64],
  );
  const [norm] = Native.call('fornax::total_norm', [tensors]);
  assert.ok(Number.isNaN(norm!.item()));
  Native.call('fornax::scale_', [tensors, scalar(NaN)]);
  assert.ok(numbers(tensors).flat().every(Number.isNaN));
});

/** Its gradient is the input, whatever the threads: a difference can only come from what follows backward. */
class Weighted extends Module {
  readonly large = new Parameter([150_000], { kind: 'normal', mean: 0, std: 1 });
  readonly small = new Parameter([33], { kind: 'normal', mean: 0, std: 1 });
  forward(x: Tensor): Tensor {
    return x
      .mul(this.large)
      .sum()
      .add(x.slice(0, 0, 33).mul(this.small).sum());
  }
}
class Itself extends Module {
  forward(output: Tensor): Tensor {
    return output;
  }
}

async function train(threads: number, options: Partial<TrainOptions>): Promise<number[][]> {
  const model = new Graph(trace(new Weighted(), { inputs: [[150_000]] }), { trusted: true });
  model.initialize(3);
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: traceLoss(new Itself(), ['output']),
    optimizer: { name: 'adamw' },
    groups: [{ parameters: ['large', 'small'], weight_decay: 0.01 }],
    schedule: { name: 'constant', lr: 0.01 },
    clip_norm: 1,
    ema: { decay: 0.9 },
    threads,
    ...options,
  });
  seed = 5;
  for (let i = 0; i < 3; i++) {
    const image = Native.fromTypedArray(Float32Array.from({ length: 150_000 }, random), [150_000]);
    await session.step({ image });
  }
  const result = numbers([...model.state().map(({ tensor }) => tensor), ...Object.values(session.ema())]);
  session.dispose();
  return result;
}

for (const optimizer of [{ name: 'sgd', momentum: 0.9 }, { name: 'adamw' }] as const) {
  test(`${optimizer.name}, clipping and average are the same with any number of threads`, async () => {
    const one = await train(1, { optimizer });
    for (const threads of [2, 3]) assert.deepEqual(await train(threads, { optimizer }), one);
    assert.notDeepEqual(one.slice(0, 2), one.slice(2), 'the average is not the weights');
  });
}
