/** What the cases of whole architectures share: their state dict, filled inputs, and gradients of one step. */
import type { Graph } from '#fornax/graph/format.js';
import type { NativeGraph, NativeTensor, NativeTrain } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import type { Fields } from './fields.js';
import { fillInput } from './fill.js';
import type { Tolerances } from './tolerance.js';

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Names, shapes and dtypes in order, and the number of parameters. */
export function compareState(fields: Fields, model: NativeGraph, comparison: Comparison): void {
  const state = model.state().map(({ name, kind, tensor }) => {
    const { shape, dtype } = tensor;
    tensor.dispose();
    return { name, kind, shape, dtype };
  });
  const expected = fields.list('state').map((entry) => {
    const valid = Array.isArray(entry) && entry.length === 3 && typeof entry[0] === 'string';
    if (!valid) throw fields.wrong('state', 'a list of [name, shape, dtype]');
    return entry as [string, unknown, unknown];
  });
  const names = expected.map(([name]) => name);
  comparison.equalNames(
    'state',
    state.map(({ name }) => name),
    names,
  );
  for (const [i, [name, shape, dtype]] of expected.entries()) {
    const actual = state[i];
    if (actual?.name === name)
      comparison.equal(`state ${name}`, [actual.shape, actual.dtype], [shape, dtype]);
  }
  const parameters = state.filter(({ kind }) => kind === 'parameter').map(({ shape }) => elements(shape));
  comparison.equal(
    'parameters',
    parameters.reduce((sum, count) => sum + count, 0),
    fields.integer('parameters'),
  );
}

/** A tensor of the fill's values, t as the file has it. */
export function filledInput(shape: number[], t: number): NativeTensor {
  return loadAddon().Tensor.fromTypedArray(fillInput(elements(shape), t), shape);
}

/** A session for one forward and backward with batch norm in train mode and every kind of dropout off. */
export function gradientSession(model: NativeGraph, loss: Graph): NativeTrain {
  return new (loadAddon().TrainSession)(model, {
    device: 'cpu',
    loss,
    optimizer: { name: 'sgd' },
    groups: [{ parameters: parameterNames(model), weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    modes: { dropout: 'eval', stochastic_depth: 'eval', batch_norm: 'train' },
  });
}

function parameterNames(model: NativeGraph): string[] {
  return model
    .state()
    .filter(({ kind }) => kind === 'parameter')
    .map(({ name }) => name);
}

export interface GradientSetting {
  model: NativeGraph;
  /** After its step. */
  session: NativeTrain;
  tolerances: Tolerances;
  dev: Fields;
}

/** Every parameter has a gradient; the norm of all (`grad_norm`) and those of single ones (`grad_norms`). */
export function compareGradients(
  expected: Fields,
  { model, session, tolerances, dev }: GradientSetting,
  comparison: Comparison,
): void {
  const gradients = session.gradients();
  comparison.equalNames('train, gradients', Object.keys(gradients), parameterNames(model));
  const norms = new Map(Object.entries(gradients).map(([name, tensor]) => [name, normOf(tensor)]));
  const total = expected.number('grad_norm');
  const tolerance = tolerances.of('gradient norms', dev.number('grad_norm')) * total;
  comparison.close('train.grad_norm', Math.hypot(...norms.values()), total, tolerance);
  const each = expected.map('grad_norms');
  const relative = tolerances.of('gradient norms', dev.number('grad_norms'));
  for (const name of each.keys()) {
    const norm = each.number(name);
    comparison.close(`train.grad_norms ${name}`, norms.get(name) ?? NaN, norm, relative * norm);
  }
}

function normOf(tensor: NativeTensor): number {
  const values = tensor.toTypedArray() as Float32Array;
  tensor.dispose();
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
}
