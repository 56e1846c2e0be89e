/** The network that a golden file of kind `training` describes in words, and its data. */
import { trace } from '#fornax/graph/trace.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  Linear,
  type Module,
  ReLU,
  Sequential,
} from '#fornax/nn/index.js';
import type { Fields } from './fields.js';
import { fillInput, fillModel } from './fill.js';
import { Unsupported } from './kind.js';

/** What the words after the layers say about all layers of a sort. */
interface Shared {
  bias: boolean;
  padding: number;
  dropout: number;
}

type MakeLayer = (match: string[], shared: Shared, channels: number) => [string, Module][];

/** Layers by their description; `channels` are those of the last convolution. */
const layers: [RegExp, MakeLayer][] = [
  [
    /^(\w+): conv(\d+)x\2\((\d+),(\d+)(?:,stride (\d+))?\)$/,
    ([, name, kernel, from, to, stride = '1'], { bias, padding }) => [
      [
        name!,
        new Conv2d(Number(from), Number(to), Number(kernel), { stride: Number(stride), padding, bias }),
      ],
    ],
  ],
  [/^(bn\d*)$/, ([, name], _, channels) => [[name!, new BatchNorm2d(channels)]]],
  [/^(relu)$/, ([, name]) => [[name!, new ReLU()]]],
  [/^(dropout)$/, ([, name], { dropout }) => [[name!, new Dropout(dropout)]]],
  [
    /^global average pool$/,
    () => [
      ['pool', new AdaptiveAvgPool2d(1)],
      ['flatten', new Flatten(1)],
    ],
  ],
  [/^(\w+)\((\d+),(\d+)\)$/, ([, name, from, to]) => [[name!, new Linear(Number(from), Number(to))]]],
];

function readShared(clauses: string[]): Shared {
  const shared: Shared = { bias: true, padding: 0, dropout: 0 };
  for (const clause of clauses) {
    const convolutions = /^convolutions (with|without) bias, padding (\d+)$/.exec(clause);
    const dropout = /^dropout ([\d.]+) in `cases`$/.exec(clause);
    if (convolutions) {
      shared.bias = convolutions[1] === 'with';
      shared.padding = Number(convolutions[2]);
    } else if (dropout) shared.dropout = Number(dropout[1]);
    else throw new Unsupported(`the network's description is not understood: '${clause}'`);
  }
  return shared;
}

/** `conv1: conv3x3(3,16), bn1, relu, …, fc(32,10); convolutions without bias, padding 1` as modules. */
export function describedNet(description: string): Sequential {
  const [list = '', ...clauses] = description.split(';').map((clause) => clause.trim());
  const shared = readShared(clauses);
  const modules: Record<string, Module> = {};
  let channels = 0;
  // A comma inside parentheses belongs to the layer.
  for (const text of list.split(/,(?![^(]*\))/).map((layer) => layer.trim())) {
    const found = layers.find(([pattern]) => pattern.test(text));
    if (!found) throw new Unsupported(`a layer of the network is not understood: '${text}'`);
    for (const [name, module] of found[1]([...found[0].exec(text)!], shared, channels)) {
      let unique = name;
      for (let i = 2; unique in modules; i++) unique = `${name}_${i}`;
      modules[unique] = module;
      if (module instanceof Conv2d) channels = module.weight.dims[0]!;
    }
  }
  return new Sequential(modules);
}

/** A traced model of the network with filled weights. */
export function filledNet(description: string, shape: number[]): NativeGraph {
  const graph = trace(describedNet(description), { inputs: [shape] });
  const model = new (loadAddon().Graph)(graph, { trusted: false });
  fillModel(model);
  return model;
}

/** All samples in memory. */
export class GoldenSamples {
  readonly count: number;
  readonly shape: number[];
  private readonly images: Float32Array;
  private readonly label: (i: number) => number;

  constructor(data: Fields) {
    this.count = data.integer('n', 1);
    this.shape = data.numbers('x_shape');
    if (this.shape[0] !== this.count) throw data.wrong('x_shape', `[${this.count}, …], as n says`);
    this.images = fillInput(
      this.shape.reduce((product, size) => product * size, 1),
      data.integer('x_t'),
    );
    const rule = /^i\*(\d+) mod (\d+)$/.exec(data.text('y'));
    if (!rule) throw data.wrong('y', "a rule like 'i*7 mod 10'");
    const [factor, modulus] = [Number(rule[1]), Number(rule[2])];
    this.label = (i) => (i * factor) % modulus;
  }

  /** Samples [first, end) as a batch. */
  batch(first: number, end: number): { image: NativeTensor; label: NativeTensor } {
    const { Tensor } = loadAddon();
    const size = this.images.length / this.count;
    const rows = end - first;
    const labels = BigInt64Array.from({ length: rows }, (_, i) => BigInt(this.label(first + i)));
    return {
      image: Tensor.fromTypedArray(this.images.slice(first * size, end * size), [
        rows,
        ...this.shape.slice(1),
      ]),
      label: Tensor.fromTypedArray(labels, [rows]),
    };
  }
}
