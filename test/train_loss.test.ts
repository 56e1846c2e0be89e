/** `train.loss`: from the config to the graph of a run. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { configToYaml } from '#fornax/config/write.js';
import { ArgumentError, ConfigError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import {
  binaryCrossEntropy,
  crossEntropy,
  CrossEntropyLoss,
  dice,
  distillation,
  focal,
  mse,
  MSELoss,
  weightedSum,
} from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { auxiliary, Linear, Module, type Tensor } from '#fornax/nn/index.js';
import { trainLoss, type TargetField } from '#fornax/train/train_loss.js';
import { Tensor as Values } from '#fornax/tensor.js';
import { prepareData, Trainer } from '#fornax/train/trainer.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

type Train = ReturnType<typeof defineConfig>['train'];

function configured(train: ConfigInput['train']): Train {
  return defineConfig({ train, data: { source: 'shapes' } }).train;
}

/** Logits [N, 3] from numbers [N, 2]; on wish a second output that only training needs. */
class Classifier extends Module {
  readonly fc = new Linear(2, 3);

  constructor(private readonly withAuxiliary = false) {
    super();
  }

  forward(x: Tensor): Tensor | { out: Tensor; aux: Tensor } {
    const out = this.fc.forward(x);
    return this.withAuxiliary ? { out, aux: auxiliary(out.mul(2)) } : out;
  }
}

const plain = trace(new Classifier(), { inputs: [[4, 2]] });
const withAuxiliary = trace(new Classifier(true), { inputs: [[4, 2]] });

function lossOf(train: ConfigInput['train'], model = plain, fields: TargetField[] = ['label']): Graph {
  return trainLoss(model, configured(train), { fields, classes: 3 });
}

const scores = [0.5, -1, 2, 1, 0, -0.5, 3, 1, 0.25, -2, 1, 1];
const labels = BigInt64Array.from([2n, 0n, 1n, 1n]);

async function valueOf(loss: Graph, factors: Record<string, number> = { output: 1 }): Promise<number> {
  const { Graph: NativeGraph, InferenceSession, Tensor: Native } = loadAddon();
  const graph = new NativeGraph(loss, { trusted: true });
  const session = new InferenceSession(graph, {});
  const inputs: Record<string, NativeTensor> = { label: Native.fromTypedArray(labels, [4]) };
  for (const [name, factor] of Object.entries(factors)) {
    const values = Float32Array.from(scores, (score) => score * factor);
    inputs[name] = Native.fromTypedArray(values, [4, 3]);
  }
  const wanted = loss.inputs.map(({ name }) => [name, inputs[name]!]);
  const { loss: result } = await session.forward(Object.fromEntries(wanted) as typeof inputs);
  session.dispose();
  graph.dispose();
  return Number(result!.toTypedArray()[0]);
}

function close(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) < 1e-6 * Math.abs(expected), `${actual}, expected ${expected}`);
}

describe('train.loss', () => {
  test('is cross entropy with train.label_smoothing if left out', () => {
    assert.deepEqual(lossOf({ labelSmoothing: 0.1 }), crossEntropy({ labelSmoothing: 0.1 }));
  });

  test('is a name, a map or a list, and means the same in YAML', async () => {
    const single = lossOf({ loss: 'focal' });
    assert.deepEqual(lossOf({ loss: { name: 'focal' } }), single);
    assert.deepEqual(lossOf({ loss: ['focal'] }), single);
    assert.deepEqual(single, focal());
    const config = defineConfig({ train: { loss: ['bce', 'focal'] }, data: { source: 'shapes' } });
    const yaml = configToYaml(config);
    assert.match(yaml, / {2}loss:\n {4}- name: bce\n {6}weight: 1\n/);
  });

  test('takes the settings of each loss', async () => {
    const classWeights = [1, 2, 0.5];
    close(
      await valueOf(lossOf({ loss: { name: 'cross_entropy', classWeights, labelSmoothing: 0.2 } })),
      await valueOf(crossEntropy({ classWeights, labelSmoothing: 0.2 })),
    );
    close(
      await valueOf(lossOf({ loss: { name: 'bce', posWeight: classWeights }, labelSmoothing: 0.1 })),
      await valueOf(binaryCrossEntropy({ mode: 'multiclass', posWeight: classWeights, labelSmoothing: 0.1 })),
    );
    close(
      await valueOf(lossOf({ loss: { name: 'focal', alpha: null, gamma: 1 } })),
      await valueOf(focal({ alpha: null, gamma: 1 })),
    );
  });

  test('may be a weighted sum', async () => {
    const sum = lossOf({
      loss: [
        { name: 'cross_entropy', weight: 0.5 },
        { name: 'focal', weight: 3 },
      ],
    });
    close(await valueOf(sum), 0.5 * (await valueOf(crossEntropy())) + 3 * (await valueOf(focal())));
    assert.deepEqual(
      sum.inputs.map(({ name }) => name),
      ['output', 'label'],
    );
  });

  test('counts auxiliary outputs by train.aux_weight', async () => {
    const entropy = await valueOf(crossEntropy());
    const ofAuxiliary = await valueOf(crossEntropy(), { output: 2 });
    const factors = { out: 1, aux: 2 };
    close(await valueOf(lossOf({}, withAuxiliary), factors), entropy + 0.4 * ofAuxiliary);
    close(await valueOf(lossOf({ auxWeight: 1 }, withAuxiliary), factors), entropy + ofAuxiliary);
    const without = lossOf({ auxWeight: 0 }, withAuxiliary);
    assert.deepEqual(
      without.inputs.map(({ name }) => name),
      ['out', 'label'],
    );
  });

  test('compares pixels with masks where the data have them', () => {
    assert.deepEqual(lossOf({ loss: { name: 'dice', smooth: 1 } }, plain, ['mask']), dice({ smooth: 1 }));
    assert.deepEqual(lossOf({}, plain, ['mask']), crossEntropy({ labelSmoothing: 0 }, 'mask'));
  });

  const unfit: Record<string, [ConfigInput['train'], RegExp]> = {
    'masks where there are labels': [
      { loss: 'dice' },
      /'dice' needs masks, which these data do not have.*\n.*train\.loss\n.*labels, for cross_entropy, bce, focal/,
    ],
    'numbers where there are labels': [{ loss: ['cross_entropy', 'mse'] }, /'mse' needs numbers as targets/],
    'a teacher': [{ loss: 'distillation' }, /'distillation' needs the logits of a teacher/],
    'weights for another number of classes': [
      { loss: { name: 'cross_entropy', classWeights: [1, 2] } },
      /class_weights of cross_entropy has 2 values for 3 classes/,
    ],
    'factors for another number of classes': [
      { loss: { name: 'bce', posWeight: [1] } },
      /pos_weight of bce has 1 values for 3 classes/,
    ],
  };
  for (const [what, [train, message]] of Object.entries(unfit)) {
    test(`refuses ${what}`, () => {
      assert.throws(
        () => lossOf(train),
        (error) => error instanceof ConfigError && message.test(error.message),
      );
    });
  }

  test('refuses a model of several outputs', () => {
    class Two extends Module {
      forward(x: Tensor): { boxes: Tensor; scores: Tensor } {
        return { boxes: x, scores: x.mul(2) };
      }
    }
    assert.throws(() => lossOf({}, trace(new Two(), { inputs: [[4, 2]] })), /has boxes, scores/);
  });

  const wrong: Record<string, [ConfigInput['train'] | object, RegExp]> = {
    'an unknown name': [{ loss: 'focl' }, /train\.loss: expected .*, got "focl"[^]*did you mean "focal"/],
    'an unknown setting': [{ loss: { name: 'focal', gama: 1 } }, /train\.loss\.gama: unknown key[^]*"gamma"/],
    'a setting of another loss': [
      { loss: [{ name: 'bce', gamma: 1 }] },
      /train\.loss\[0\]\.gamma: unknown key/,
    ],
    'a value out of range': [
      { loss: { name: 'tversky', gamma: 0 } },
      /train\.loss\.gamma: expected a number/,
    ],
    'an empty list': [{ loss: [] }, /train\.loss: expected .* or a list of these, got \[\]/],
    'smoothing that no loss takes': [
      { loss: 'focal', labelSmoothing: 0.1 },
      /train\.label_smoothing: focal cannot smooth labels/,
    ],
  };
  for (const [what, [train, message]] of Object.entries(wrong)) {
    test(`a config with ${what} is refused`, () => {
      assert.throws(
        () => configured(train as ConfigInput['train']),
        (error) => error instanceof ConfigError && message.test(error.message),
      );
    });
  }
});

describe('weightedSum', () => {
  test('takes each loss over its own outputs and fields', () => {
    const graph = weightedSum([
      { loss: new CrossEntropyLoss(), inputs: ['output', 'label'] },
      { loss: new MSELoss(), inputs: ['features', 'teacher_features'], weight: 0.1 },
    ]);
    assert.deepEqual(
      graph.inputs.map(({ name }) => name),
      ['output', 'label', 'features', 'teacher_features'],
    );
  });

  test('needs a loss and finite weights', () => {
    assert.throws(() => weightedSum([]), ArgumentError);
    const loss = new MSELoss();
    assert.throws(() => weightedSum([{ loss, inputs: ['a', 'b'], weight: NaN }]), ArgumentError);
  });
});

test('a run trains with its loss', async () => {
  await using root = await temporaryFolder();
  const images = path.join(root.path, 'images');
  await writeColourFolder(images);
  const source = { path: images, cache: path.join(root.path, 'cache') };
  const data = await prepareData(source, { resolution: [24, 24] });
  using model = Model.create('tiny_cnn', { numClasses: 3, inputs: [[2, 3, 24, 24]] });
  const loss: ConfigInput['train'] = { loss: [{ name: 'bce', weight: 2 }, 'focal'] };
  const trainer = new Trainer({
    model,
    data,
    device: 'cpu',
    train: { epochs: 6, batchSize: 8, lr: 0.05, ...loss },
  });
  for await (const event of trainer.fit()) assert.notEqual(event.type, 'interrupted');
  const [first, last] = [trainer.history[0]!.loss, trainer.history.at(-1)!.loss];
  // Undecided scores cost 2 ln 2 by bce, and little by focal.
  assert.ok(first > 1 && first < 3, `the loss of the first epoch is ${first}`);
  assert.ok(last < 0.8 * first, `${first} → ${last}`);
});

describe('a teacher', () => {
  /** Two linear layers without bias; only their weights differ. */
  const linear = (weight: number[][]): Model => {
    const model = Model.create(new Linear(2, 3, { bias: false }), { inputs: [{ name: 'x', shape: [1, 2] }] });
    model.loadState({ weight: Values.from(weight) });
    return model;
  };
  // prettier-ignore
  const taught = [[1, 0], [0, 1], [1, 1]];
  const x = Values.from([
    [1, 2],
    [-1, 0.5],
  ]);

  async function stepWith(student: Model, teacher: Model, loss: Graph): Promise<[number, Float32Array]> {
    const session = new (loadAddon().TrainSession)(student.native, {
      device: 'cpu',
      loss,
      optimizer: { name: 'sgd' },
      groups: [{ parameters: ['weight'], weight_decay: 0 }],
      schedule: { name: 'constant', lr: 0.5 },
      teacher: { graph: teacher.native },
    });
    try {
      const batch = { x: loadAddon().Tensor.fromTypedArray(x.toTypedArray() as Float32Array, [2, 2]) };
      const { loss: value } = await session.step(batch);
      const gradient = session.gradients()['weight'];
      return [value, (gradient?.toTypedArray() ?? new Float32Array()) as Float32Array];
    } finally {
      session.dispose();
    }
  }

  test('is asked about every batch, and stays as it is', async () => {
    using student = linear([[0, 0], [0, 0], [0, 0]]); // prettier-ignore
    using teacher = linear(taught);
    const [value] = await stepWith(student, teacher, distillation({ temperature: 1 }));
    // KL(p ‖ uniform) = ln 3 − H(p), mean over the two samples.
    const logits = [
      [1, 2, 3],
      [-1, 0.5, -0.5],
    ];
    const expected = logits.map((row) => {
      const total = row.reduce((sum, z) => sum + Math.exp(z), 0);
      const p = row.map((z) => Math.exp(z) / total);
      return Math.log(3) + p.reduce((sum, q) => sum + q * Math.log(q), 0);
    });
    close(value, (expected[0]! + expected[1]!) / 2);
    assert.deepEqual(teacher.state()[0]!.tensor.toArray(), taught);
    assert.notDeepEqual(student.state()[0]!.tensor.toArray(), [[0, 0], [0, 0], [0, 0]]); // prettier-ignore
  });

  test('has outputs by name', async () => {
    using student = linear(taught);
    using teacher = linear(taught);
    const [value] = await stepWith(student, teacher, distillation({}, 'teacher.output'));
    assert.ok(Math.abs(value) < 1e-6);
    await assert.rejects(
      stepWith(student, teacher, distillation({}, 'teacher.logits')),
      /no output.*'?logits/,
    );
  });

  test('that no loss asks is an error', async () => {
    using student = linear(taught);
    using teacher = linear(taught);
    await assert.rejects(stepWith(student, teacher, mse('x')), /the loss reads nothing of the teacher/);
  });
});

describe('distillation', () => {
  test('trains a model to agree with its teacher, named by its file', async () => {
    await using root = await temporaryFolder();
    const images = path.join(root.path, 'images');
    await writeColourFolder(images);
    const source = { path: images, cache: path.join(root.path, 'cache') };
    const data = await prepareData(source, { resolution: [24, 24] });
    const tiny = (seed: number, labels: readonly string[]): Model =>
      Model.create('tiny_cnn', {
        seed,
        numClasses: 3,
        inputs: [[2, 3, 24, 24]],
        labels: [...labels],
        preprocessing: data.preprocessing,
      });
    const file = path.join(root.path, 'teacher.safetensors');
    using teacher = tiny(1, data.classes);
    await teacher.save(file);
    const train = { epochs: 8, batchSize: 8, lr: 0.05 };
    const loss = { name: 'distillation' as const, teacher: file, temperature: 2 };
    using student = tiny(2, []);
    const trainer = new Trainer({ model: student, data, device: 'cpu', train: { ...train, loss } });
    for await (const event of trainer.fit()) assert.notEqual(event.type, 'interrupted');
    const losses = trainer.history.map(({ loss: value }) => value);
    assert.ok(losses.at(-1)! < 0.5 * losses[0]!, losses.join(', '));

    const fit = async (options: Partial<ConstructorParameters<typeof Trainer>[0]>): Promise<void> => {
      using model = tiny(2, []);
      const other = new Trainer({ model, data, device: 'cpu', train, ...options });
      for await (const event of other.fit()) assert.notEqual(event.type, 'interrupted');
    };
    using stranger = tiny(1, ['a', 'b', 'c']);
    const distil = { train: { ...train, loss: { name: 'distillation' as const } } };
    await assert.rejects(fit({ ...distil, teacher: stranger }), /class 0 of the teacher is 'a'/);
    await assert.rejects(fit(distil), /'distillation' has no teacher/);
    await fit({ train: { ...distil.train, epochs: 1 }, teacher });
  });
});
