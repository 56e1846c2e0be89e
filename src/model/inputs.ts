/** What a model is fed: shapes it was traced with, and tensors by the names of its ports. */
import { ArgumentError, GuardError } from '../errors.js';
import { Tensor } from '../tensor.js';
import type { InputSpec } from './info.js';
import type { CreateOptions } from './types.js';

export function inputSpecs(inputs: NonNullable<CreateOptions['inputs']>): InputSpec[] {
  return inputs.map((input, i) =>
    'name' in input
      ? { name: input.name, shape: [...input.shape], dtype: input.dtype ?? 'float32' }
      : { name: inputs.length === 1 ? 'image' : `input_${i}`, shape: [...input], dtype: 'float32' },
  );
}

/** A single tensor feeds the first input, a list all of them in order. */
export function nameInputs(
  inputs: Tensor | readonly Tensor[] | Record<string, Tensor>,
  ports: readonly string[],
): Record<string, Tensor> {
  const list = inputs instanceof Tensor ? [inputs] : Array.isArray(inputs) ? (inputs as Tensor[]) : null;
  if (list && list.length !== ports.length) {
    throw new ArgumentError(
      `the model takes ${ports.length} inputs (${ports.join(', ')}), not ${list.length}`,
    );
  }
  return list
    ? Object.fromEntries(ports.map((name, i) => [name, list[i]!]))
    : (inputs as Record<string, Tensor>);
}

/** The inputs as the graph sees them: images arrive as [N, H, W, C] and become [N, C, H, W]. */
export function specsOf(inputs: Record<string, Tensor>, traced: readonly InputSpec[]): InputSpec[] {
  return traced.map((spec) => {
    const tensor = inputs[spec.name];
    if (!tensor) return spec;
    const [n, h, w, c] = tensor.shape;
    const isImage = tensor.dtype === 'uint8' && tensor.shape.length === 4 && spec.dtype === 'float32';
    return { ...spec, shape: isImage ? [n!, c!, h!, w!] : tensor.shape };
  });
}

export function loadedGuardError(error: GuardError, inputs: readonly InputSpec[]): GuardError {
  const traced = inputs.map(({ name, shape }) => `${name} [${shape.join(', ')}]`).join(', ');
  return new GuardError({
    what: error.what,
    where: error.where,
    fix: `a model file holds one trace, made for ${traced}; give it inputs of that size, or write the file again from the source at the size you need`,
    cause: error,
  });
}
