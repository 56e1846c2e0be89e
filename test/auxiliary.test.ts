/** Outputs that only training needs, and runs that compute a part of a graph. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ArgumentError, ExecutionError, GraphError, GuardError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { crossEntropy, traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import {
  auxiliary,
  BatchNorm2d,
  Conv2d,
  functional as F,
  Module,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';
import { temporaryFolder } from './support/image_folder.js';
import { imageSize, normalize, openColourLoader, writeColourPack } from './support/training_pack.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

class AuxHead extends Module {
  readonly conv = new Conv2d(4, 2, 1);
  readonly bn = new BatchNorm2d(2);

  forward(x: Symbolic): Symbolic {
    return this.bn.forward(this.conv.forward(x));
  }
}

type Change = (aux: Symbolic) => Symbolic;

/** A backbone with a head at its end and an auxiliary one in its middle. */
class TwoHeads extends Module {
  readonly body = new Conv2d(3, 4, 3, { padding: 1 });
  readonly aux_head = new AuxHead();
  readonly tail = new BatchNorm2d(4);
  readonly head = new Conv2d(4, 2, 1);

  /** `change`: what becomes of the auxiliary output in the end. */
  constructor(private readonly change: Change = (aux) => aux) {
    super();
  }

  forward(image: Symbolic): Record<string, Symbolic> {
    const x = this.body.forward(image);
    const aux = auxiliary(this.change(this.aux_head.forward(x)));
    return { aux, out: this.head.forward(this.tail.forward(x)) };
  }
}

const make = (change?: Change, side = 6): Model =>
  Model.create(new TwoHeads(change), { inputs: [[2, 3, side, side]] });

function image(side = 6): Tensor {
  const count = 2 * 3 * side * side;
  return Tensor.from(
    Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
    [2, 3, side, side],
  );
}

const batchesSeen = (model: Model, name: string): number =>
  Number(
    model
      .state()
      .find((entry) => entry.name === `${name}.num_batches_tracked`)!
      .tensor.item(),
  );

/** Works for sizes whose square is a multiple of 36 and fails, when it runs, for others. */
const fragile: Change = (aux) => aux.reshape(-1, 36);

describe('an auxiliary output', () => {
  it('is marked in the graph', () => {
    const { outputs } = trace(new TwoHeads(), { inputs: [[2, 3, 6, 6]] });
    assert.deepEqual(
      outputs.map(({ name, auxiliary: marked }) => [name, marked]),
      [
        ['aux', true],
        ['out', undefined],
      ],
    );
  });

  it('is left out in eval mode unless asked for, and computed in train mode', async () => {
    using model = make();
    using input = image();
    assert.deepEqual(Object.keys(await model.forward(input)), ['out']);
    const both = await model.forward(input, { outputs: ['out', 'aux'] });
    assert.deepEqual(Object.keys(both), ['aux', 'out'], 'in the order of the graph');
    assert.deepEqual(Object.keys(await model.forward(input, { outputs: ['aux'] })), ['aux']);
    assert.deepEqual(Object.keys(await model.forward(input, { mode: 'train' })), ['aux', 'out']);
    const overrides = [{ prefix: 'tail', mode: 'train' as const }];
    assert.deepEqual(Object.keys(await model.forward(input, { modes: { overrides } })), ['aux', 'out']);
  });

  it('has the same values whatever is computed beside it', async () => {
    using model = make();
    using input = image();
    const both = await model.forward(input, { outputs: ['out', 'aux'] });
    const { out } = await model.forward(input);
    const { aux } = await model.forward(input, { outputs: ['aux'] });
    assert.deepEqual(out!.toArray(), both['out']!.toArray());
    assert.deepEqual(aux!.toArray(), both['aux']!.toArray());
  });

  it('costs nothing where it is left out: its nodes do not run', async () => {
    using model = make(fragile);
    using odd = image(5);
    const { out } = await model.forward(odd);
    assert.deepEqual(out!.shape, [2, 2, 5, 5]);
    await assert.rejects(model.forward(odd, { outputs: ['aux'] }), ExecutionError);
    await assert.rejects(model.forward(odd, { mode: 'train' }), ExecutionError);
  });

  it('leaves the batch norm of its head alone where it is left out', async () => {
    using model = make();
    using input = image();
    await model.forward(input, { mode: 'train', outputs: ['out'] });
    assert.deepEqual([batchesSeen(model, 'tail'), batchesSeen(model, 'aux_head.bn')], [1, 0]);
    await model.forward(input, { mode: 'train' });
    assert.deepEqual([batchesSeen(model, 'tail'), batchesSeen(model, 'aux_head.bn')], [2, 1]);
  });

  it('stays one in a model file', async () => {
    using model = make(fragile);
    const file = path.join(root.path, 'two_heads.safetensors');
    await model.save(file);
    using loaded = await Model.load(file);
    assert.deepEqual(loaded.graph.outputs, model.graph.outputs);
    using odd = image(5);
    assert.deepEqual(Object.keys(await loaded.forward(odd)), ['out']);
  });

  it('cannot be the only one', () => {
    class OnlyAux extends Module {
      forward(x: Symbolic): Symbolic {
        return auxiliary(x.relu());
      }
    }
    assert.throws(
      () => trace(new OnlyAux(), { inputs: [[1, 3]] }),
      (error) => error instanceof GraphError && /every output is auxiliary/.test(error.message),
    );
    const graph = trace(new TwoHeads(), { inputs: [[2, 3, 6, 6]] });
    graph.outputs = graph.outputs.map((port) => ({ ...port, auxiliary: true }));
    assert.throws(() => validateGraph(graph), /every output of the graph is auxiliary/);
    assert.throws(
      () => new (loadAddon().Graph)(graph, { trusted: true }),
      /every output of the graph is auxiliary/,
    );
  });

  it('is a plain tensor inside a larger model', async () => {
    class Sum extends Module {
      readonly inner = new TwoHeads();
      forward(x: Symbolic): Symbolic {
        const { aux, out } = this.inner.forward(x);
        return aux!.add(out!);
      }
    }
    using model = Model.create(new Sum(), { inputs: [[2, 3, 6, 6]] });
    using input = image();
    const { output } = await model.forward(input);
    assert.deepEqual(output!.shape, [2, 2, 6, 6]);
  });
});

describe('a run of a part of the graph', () => {
  it('computes what taps need, also in the auxiliary head', async () => {
    using model = make();
    using input = image();
    const tapped = await model.forward(input, { taps: ['aux_head', 'body'] });
    assert.deepEqual(Object.keys(tapped), ['out', 'aux_head', 'body']);
    const { aux } = await model.forward(input, { outputs: ['aux'] });
    assert.deepEqual(tapped['aux_head']!.toArray(), aux!.toArray());
  });

  it('may deliver taps alone, and then runs nothing behind them', async () => {
    using model = make(fragile);
    using odd = image(5);
    const features = await model.forward(odd, { outputs: [], taps: ['aux_head.bn'] });
    assert.deepEqual(Object.keys(features), ['aux_head.bn']);
    await model.forward(odd, { outputs: [], taps: ['body'], mode: 'train' });
    assert.equal(batchesSeen(model, 'tail'), 0);
  });

  it('refuses names that the model does not have, and nothing at all', async () => {
    using model = make();
    using input = image();
    await assert.rejects(
      model.forward(input, { outputs: ['out', 'auks'] }),
      (error) => error instanceof ArgumentError && /'auks'[^]*aux, out/.test(error.message),
    );
    await assert.rejects(model.forward(input, { taps: ['tale'] }), /no module 'tale'/);
    await assert.rejects(model.forward(input, { outputs: [] }), ArgumentError);
    // What failed leaves no trace in what is remembered.
    assert.deepEqual(Object.keys(await model.forward(input)), ['out']);
  });

  it('checks guards of what it leaves out: they may have decided what it runs', async () => {
    const branching: Change = (aux) => (aux.size(2).gt(5) ? aux : aux.mul(2));
    using model = make(branching);
    const file = path.join(root.path, 'guarded.safetensors');
    await model.save(file);
    using small = image(4);
    assert.deepEqual(Object.keys(await model.forward(small)), ['out'], 'traced again from its source');
    using loaded = await Model.load(file);
    using input = image();
    assert.deepEqual(Object.keys(await loaded.forward(input)), ['out']);
    await assert.rejects(loaded.forward(small), GuardError);
  });

  it('keeps a batch norm whose result nobody uses, as long as every output is wanted', async () => {
    class Unused extends Module {
      readonly bn = new BatchNorm2d(3);
      forward(x: Symbolic): Symbolic {
        this.bn.forward(x);
        return x.relu();
      }
    }
    using model = Model.create(new Unused(), { inputs: [[2, 3, 6, 6]] });
    using input = image();
    await model.forward(input, { mode: 'train' });
    await model.forward(input, { mode: 'train', taps: ['bn'] });
    assert.equal(batchesSeen(model, 'bn'), 2);
  });
});

describe('a loss', () => {
  const lossOf = (...names: string[]): Graph => {
    class MeanSquares extends Module {
      forward(...outputs: Symbolic[]): Symbolic {
        return outputs.map((x) => x.square().mean()).reduce((sum, x) => sum.add(x));
      }
    }
    return traceLoss(new MeanSquares(), names);
  };

  it('that ignores an auxiliary output leaves its head without gradients', async () => {
    using model = make(fragile);
    using odd = image(5);
    const { gradients, outputs } = await model.lossAndGradients({ image: odd }, { loss: lossOf('out') });
    assert.deepEqual(Object.keys(outputs), ['out']);
    assert.deepEqual(
      Object.keys(gradients).filter((name) => name.startsWith('aux_head')),
      [],
    );
    assert.ok(gradients['body.weight']);
    assert.equal(batchesSeen(model, 'aux_head.bn'), 0);
  });

  it('that reads it trains its head', async () => {
    using model = make();
    using input = image();
    const { gradients } = await model.lossAndGradients({ image: input }, { loss: lossOf('out', 'aux') });
    assert.ok(gradients['aux_head.conv.weight'] && gradients['head.weight']);
    assert.equal(batchesSeen(model, 'aux_head.bn'), 1);
  });

  it('that ignores it lets every optimizer pass over its head', async () => {
    const names = ['sgd', 'adamw'] as const;
    for (const name of names) {
      using model = make();
      const parameters = model.graph.parameters.filter(({ kind }) => kind === 'parameter');
      const valueOf = (key: string): unknown =>
        model
          .state()
          .find((entry) => entry.name === key)!
          .tensor.toArray();
      const [aux, head] = [valueOf('aux_head.conv.weight'), valueOf('head.weight')];
      const session = new (loadAddon().TrainSession)(model.native, {
        device: 'cpu',
        loss: lossOf('out'),
        optimizer: { name },
        groups: [{ parameters: parameters.map((p) => p.name), weight_decay: 0.1 }],
        schedule: { name: 'constant', lr: 0.1 },
      });
      using input = image();
      await session.step({ image: input.native });
      session.dispose();
      assert.deepEqual(valueOf('aux_head.conv.weight'), aux, name);
      assert.notDeepEqual(valueOf('head.weight'), head, name);
    }
  });
});

describe('an evaluation', () => {
  /** A classifier whose auxiliary head fails when it runs, if `broken`. */
  class Classifier extends Module {
    readonly conv = new Conv2d(3, 4, 3, { stride: 4 });
    readonly head = new Conv2d(4, 4, 1);
    constructor(private readonly broken: boolean) {
      super();
    }
    forward(image: Symbolic): Record<string, Symbolic> {
      const x = this.conv.forward(image);
      const pooled = x.mean([2, 3]);
      const aux = this.broken ? x.reshape(-1, 7) : pooled.mul(2);
      return { aux: auxiliary(aux), output: this.head.forward(x).mean([2, 3]) };
    }
  }

  class BothHeads extends Module {
    forward(output: Symbolic, aux: Symbolic, label: Symbolic): Symbolic {
      return F.crossEntropy(output, label).add(F.crossEntropy(aux, label));
    }
  }

  it('takes the main output for the logits, and computes an auxiliary one for a loss alone', async () => {
    const pack = writeColourPack(24);
    const loader = openColourLoader(pack);
    const evaluate = async (
      broken: boolean,
      loss: Graph,
    ): Promise<{ samples: number; loss: number | null }> => {
      using model = Model.create(new Classifier(broken), { inputs: [[1, 3, imageSize, imageSize]] });
      const session = new (loadAddon().InferenceSession)(model.native, { normalize });
      try {
        loader.startEpoch(0);
        return await session.evaluate(loader, { classes: 4, loss });
      } finally {
        session.dispose();
      }
    };
    const both = traceLoss(new BothHeads(), ['output', 'aux', 'label']);
    const plain = await evaluate(true, crossEntropy());
    assert.equal(plain.samples, 24);
    assert.ok((await evaluate(false, both)).loss! > plain.loss! + 0.1);
    await assert.rejects(evaluate(true, both), ExecutionError);
    loader.dispose();
    pack.remove();
  });
});
