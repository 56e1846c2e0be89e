/** The check of an export: the file opened again must compute what the source computes. */
import { AbortedError, ExportError } from '../errors.js';
import type { NativeGraph, NativeInference, NativeTensor, Normalize } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { Tensor } from '../tensor.js';
import type { CheckInput } from './check_inputs.js';
import { difference, spread, type Difference } from './compare.js';
import type { ExportFormat, Reopened } from './format.js';

/**
 * Largest difference of an output's element that passes, in standard deviations of that output. Weights are compared
 * bit for bit besides; what remains are sums in another order.
 */
export const tolerances: Readonly<Record<ExportFormat, number>> = {
  fornax: 1e-6,
  safetensors: 1e-6,
  pth: 1e-6,
  torchscript: 1e-5,
  onnx: 1e-4,
};

/** With preprocessing inside, whose multiplication and addition the sessions fuse: the input differs in its last bit. */
export const PREPROCESS_TOLERANCE = 1e-4;

/** Where the source runs on a GPU, whose convolutions round to TF32 (10 bits) and add in other orders. */
export const GPU_TOLERANCE = 5e-3;

/** What the source answers to each input of the check. */
export interface Expected {
  input: CheckInput;
  outputs: Record<string, Tensor>;
}

function unwrap(tensors: Record<string, Tensor>): Record<string, NativeTensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.native]));
}

/** Runs the source in eval mode on a device. The caller disposes the outputs. */
export async function runSource(
  graph: NativeGraph,
  inputs: readonly CheckInput[],
  options: { device: string; normalize: Normalize | null; signal?: AbortSignal | undefined },
): Promise<Expected[]> {
  const { device, normalize, signal } = options;
  const session: NativeInference = new (loadAddon().InferenceSession)(graph, {
    device,
    ...(normalize ? { normalize } : {}),
  });
  try {
    const expected: Expected[] = [];
    for (const input of inputs) {
      if (signal?.aborted) throw new AbortedError('the export was stopped');
      const outputs = await session.forward(unwrap(input.source));
      const onCpu = Object.entries(outputs).map(([name, tensor]) => {
        using original = new Tensor(tensor);
        return [name, original.to({ device: 'cpu' })] as const;
      });
      expected.push({ input, outputs: Object.fromEntries(onCpu) });
    }
    return expected;
  } finally {
    session.dispose();
  }
}

/**
 * The outputs that hardly depend on the input: between the inputs of the check they move by no more than the
 * difference that passes, so that a file which ignored its input would pass as well. Of untrained networks with a
 * head of zeros (vision transformers, the last of many small layers) that is every one.
 */
export function unmovedOutputs(expected: readonly Expected[], tolerance: number): string[] {
  const samples = expected.map(({ input }) => Object.values(input.exported)[0]?.shape[0] ?? 1);
  return Object.keys(expected[0]?.outputs ?? {}).filter((name) => {
    const answers = expected.map(({ outputs }) => outputs[name]!);
    // Not `<=` alone: NaN is no reason to call a check inconclusive, it fails.
    return spread(answers, samples) <= tolerance;
  });
}

/**
 * Compares an opened file with the source.
 *
 * @returns for each output the largest difference over all inputs.
 * @throws ExportError if one exceeds `tolerance` or an output is missing
 */
export async function verify(
  reopened: Reopened,
  expected: readonly Expected[],
  options: { tolerance: number; where: string; signal?: AbortSignal | undefined },
): Promise<Difference[]> {
  const { tolerance, where, signal } = options;
  const worst = new Map<string, Difference>();
  for (const { input, outputs } of expected) {
    if (signal?.aborted) throw new AbortedError('the export was stopped');
    const answers = await reopened.forward(unwrap(input.exported));
    for (const [name, reference] of Object.entries(outputs)) {
      const answer = answers[name];
      if (answer === undefined) {
        throw new ExportError({ what: `the exported model does not return the output '${name}'`, where });
      }
      using actual = new Tensor(answer);
      const found = difference(name, reference, actual);
      // Not `>`: a NaN is a failure too.
      const before = worst.get(name);
      if (before === undefined || !(found.relative <= before.relative)) worst.set(name, found);
    }
  }
  const differences = [...worst.values()];
  const failed = differences.find(({ relative }) => !(relative <= tolerance));
  if (failed !== undefined) {
    throw new ExportError({
      what:
        `the exported model does not compute what the source does: its output '${failed.output}' differs by up to ` +
        `${failed.largest.toExponential(2)}, that is ${failed.relative.toExponential(2)} of the standard deviation ` +
        `(allowed: ${tolerance})`,
      where,
      fix: 'nothing was written; please report this with the name of the architecture',
    });
  }
  return differences;
}
