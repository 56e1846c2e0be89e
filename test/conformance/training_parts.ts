/** Parts of the training engine that a golden file of kind `training` looks at by themselves. */
import { trace } from '#fornax/graph/trace.js';
import { traceLoss } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import { Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import type { Comparison } from './comparison.js';
import type { Fields } from './fields.js';
import { filledNet, type GoldenSamples } from './training_net.js';

/** One parameter that starts at 1; its gradient is the mean of the input. */
class Scalar extends Module {
  readonly p = new Parameter([1], { kind: 'constant', value: 1 });

  forward(x: Tensor): Tensor {
    return x.mul(this.p);
  }
}

class MeanLoss extends Module {
  forward(output: Tensor): Tensor {
    return output.mean();
  }
}

/** Scale and parameter after every step of plain SGD, of which some overflow: exactly. */
export async function compareGradScaler(fields: Fields, comparison: Comparison): Promise<void> {
  const { Graph, Tensor: Tensors, TrainSession } = loadAddon();
  const overflows = new Set(fields.numbers('overflow_steps'));
  const gradient = fields.number('grad');
  const expected = fields
    .list('scale_and_param_after_step')
    .map((pair) => fields.numbersOf(pair, 'scale_and_param_after_step'));
  const model = new Graph(trace(new Scalar(), { inputs: [[1, 1]] }), { trusted: false });
  model.initialize(0);
  const session = new TrainSession(model, {
    device: 'cpu',
    amp: 'fp16',
    loss: traceLoss(new MeanLoss(), ['output']),
    optimizer: { name: 'sgd' },
    groups: [{ parameters: ['p'], weight_decay: 0 }],
    schedule: { name: 'constant', lr: fields.number('lr') },
    scaler: {
      init_scale: fields.number('init_scale'),
      growth_factor: fields.number('growth'),
      backoff_factor: fields.number('backoff'),
      growth_interval: fields.integer('growth_interval', 1),
    },
  });
  const [name] = model.state().map((entry) => entry.name);
  comparison.equal('parameter', name, 'p');
  try {
    for (const [step, figures] of expected.entries()) {
      const input = Float32Array.of(overflows.has(step) ? Infinity : gradient);
      const image = Tensors.fromTypedArray(input, [1, 1]);
      const { outputs } = await session.step({ image, input: image, x: image });
      for (const tensor of [image, ...Object.values(outputs)]) tensor.dispose();
      const scale = session.snapshot()['scaler/scale']!.item();
      comparison.equal(`step ${step}, [scale, parameter]`, [scale, model.state()[0]!.tensor.item()], figures);
    }
  } finally {
    session.dispose();
    model.dispose();
  }
}

/** Population statistics of every batch norm over a few batches, with a dropout that must stay off. */
export async function compareRecompute(
  fields: Fields,
  { net, samples, tolerance }: { net: string; samples: GoldenSamples; tolerance: number },
  comparison: Comparison,
): Promise<void> {
  const probability = Number(/p=([\d.]+\d)/.exec(fields.text('note'))?.[1]);
  if (!(probability > 0)) throw fields.wrong('note', "a text that names the dropout: 'p=0.4'");
  const sizes = fields.numbers('batches');
  const active = net.replace(/dropout [\d.]+ in `cases`/, `dropout ${probability} in \`cases\``);
  const model = filledNet(active, samples.shape);
  const session = new (loadAddon().InferenceSession)(model, {});
  let first = 0;
  const batches = sizes.map((size) => samples.batch(first, (first += size)));
  try {
    const result = await session.recomputeBatchNorm(batches);
    comparison.equal('batches', result.batches, sizes.length);
    const running = fields.map('running');
    comparison.equal('layers', result.layers, running.keys().length);
    comparison.equal('dropouts that were off', result.inactive > 0, true);
    const state = new Map(model.state().map(({ name, tensor }) => [name, tensor]));
    for (const layer of running.keys()) {
      const figures = running.child(layer);
      for (const [key, entry] of [
        ['mean', 'running_mean'],
        ['var', 'running_var'],
      ] as const) {
        const values = state.get(`${layer}.${entry}`)?.toTypedArray() as Float32Array | undefined;
        comparison.allClose(`${layer}.${entry}`, values ?? [], figures.numbers(key), tolerance);
      }
    }
  } finally {
    for (const { image, label } of batches) {
      image.dispose();
      label.dispose();
    }
    session.dispose();
    model.dispose();
  }
}
