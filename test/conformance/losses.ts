/** Kind `losses`: the value of each loss and its gradient by the scores. */
import { trace } from '#fornax/graph/trace.js';
import type { Graph } from '#fornax/graph/format.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Module, Parameter } from '#fornax/nn/index.js';
import type { Comparison } from './comparison.js';
import type { Fields } from './fields.js';
import type { GoldenCase } from './kind.js';
import { LossCases, type LossCase } from './loss_cases.js';
import { LossData } from './loss_data.js';
import { Tolerances } from './tolerance.js';

export function losses(golden: Fields): GoldenCase[] {
  golden.note('source');
  const data = new LossData(golden.child('data'), golden.integer('ordinals_plus'));
  // The clause on gradients has two rules, with a comma between them.
  const text = golden.text('tolerance').replaceAll(', ', '; ');
  const tolerances = new Tolerances(text, `${golden.where}.tolerance`);
  const cases = golden.map('cases');
  const definitions = new LossCases(data, cases);
  return cases.keys().map((name) => {
    const fields = cases.child(name);
    const run = async (comparison: Comparison): Promise<void> =>
      compareLoss(fields, definitions.of(name, fields), tolerances, comparison);
    return { name, fields, run };
  });
}

/** A model that is nothing but its scores, so that their gradient is that of a parameter. */
class Scores extends Module {
  readonly logits: Parameter;

  constructor(shape: readonly number[]) {
    super();
    this.logits = new Parameter([...shape]);
  }

  forward(): Parameter {
    return this.logits;
  }
}

async function compareLoss(
  fields: Fields,
  { logits, shape, fields: batch, graph }: LossCase,
  tolerances: Tolerances,
  comparison: Comparison,
): Promise<void> {
  const { loss, gradient } = await lossAndGradient(logits, shape, batch, graph);
  const expected = fields.number('loss');
  comparison.close('loss', loss, expected, tolerances.of('loss relative', 0) * Math.abs(expected));
  const grad = fields.child('grad');
  const norm = grad.number('norm');
  const actual = Math.sqrt(gradient.reduce((sum, x) => sum + x * x, 0));
  comparison.close('grad.norm', actual, norm, tolerances.of('gradient: norm relative', 0) * norm);
  const first = grad.numbers('first8');
  const within = tolerances.of('elements within', 0) * norm;
  comparison.allClose('grad.first8', gradient.subarray(0, first.length), first, within);
}

async function lossAndGradient(
  logits: Float32Array,
  shape: number[],
  batch: Record<string, NativeTensor>,
  loss: Graph,
): Promise<{ loss: number; gradient: Float32Array }> {
  const { Graph: NativeGraph, Tensor, TrainSession } = loadAddon();
  const model = new NativeGraph(trace(new Scores(shape), { inputs: [] }), { trusted: true });
  const scores = Tensor.fromTypedArray(logits, shape);
  try {
    model.loadState({ logits: scores });
    const session = new TrainSession(model, {
      device: 'cpu',
      loss,
      optimizer: { name: 'sgd' },
      groups: [{ parameters: ['logits'], weight_decay: 0 }],
      schedule: { name: 'constant', lr: 0 },
    });
    try {
      const result = await session.step(batch, { update: false });
      const gradient = session.gradients()['logits']!.toTypedArray() as Float32Array;
      return { loss: result.loss, gradient };
    } finally {
      session.dispose();
    }
  } finally {
    for (const tensor of [scores, ...Object.values(batch)]) tensor.dispose();
    model.dispose();
  }
}
