/** Models as the writers of exports see them, inputs for them, and comparisons with what ran elsewhere. */
import { difference } from '#fornax/export/compare.js';
import type { ExportSource } from '#fornax/export/format.js';
import { exportSource } from '#fornax/export/source.js';
import { type Model } from '#fornax/model.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { Tensor } from '#fornax/tensor.js';
import { fillInput } from '../conformance/fill.js';

export interface Exported {
  model: Model;
  source: ExportSource;
  dispose(): void;
}

/** `model` as a source; disposed together. */
export function exported(model: Model, options: { preprocess?: boolean } = {}): Exported {
  const { graph, info } = model;
  const { source, release } = exportSource({ graph, info, state: model.native.state() }, options);
  return {
    model,
    source,
    dispose: () => {
      release();
      model.dispose();
    },
  };
}

/** The same with nothing but the batch free. */
export function fixedSize(source: ExportSource): ExportSource {
  const inputs = source.inputs.map((input) => ({
    ...input,
    dims: input.dims.map((dim, i) => (dim === 'batch' ? dim : input.shape[i]!)),
  }));
  return { ...source, inputs };
}

/** Inputs of the source's kinds with other lengths of its free dimensions. */
export function inputsFor(
  source: ExportSource,
  free: Record<string, number> = {},
): Record<string, NativeTensor> {
  return Object.fromEntries(
    source.inputs.map(({ name, dtype, shape, dims }, t) => {
      const actual = shape.map((length, i) =>
        typeof dims[i] === 'string' ? (free[dims[i]] ?? length) : length,
      );
      const count = actual.reduce((a, b) => a * b, 1);
      const values = fillInput(count, t + 1);
      if (dtype === 'uint8') {
        return [
          name,
          Tensor.from(
            Uint8Array.from(values, (v) => Math.round((v + 1) * 127.5)),
            actual,
          ).native,
        ];
      }
      return [name, Tensor.from(values, actual).native];
    }),
  );
}

/** The largest difference of any output from the model's own, in standard deviations of that output. */
export async function largestDifference(
  { model, source }: Pick<Exported, 'model' | 'source'>,
  inputs: Record<string, NativeTensor>,
  outputs: Record<string, NativeTensor>,
): Promise<number> {
  const wrapped = Object.fromEntries(
    Object.entries(inputs).map(([name, tensor]) => [name, new Tensor(tensor)]),
  );
  const expected = await model.forward(wrapped);
  let largest = 0;
  for (const { name } of source.graph.outputs) {
    const actual = outputs[name];
    if (actual === undefined) throw new Error(`there is no output '${name}'`);
    const { relative } = difference(name, expected[name]!, new Tensor(actual));
    largest = Number.isNaN(relative) ? Infinity : Math.max(largest, relative);
  }
  for (const tensor of Object.values(expected)) tensor.dispose();
  return largest;
}
