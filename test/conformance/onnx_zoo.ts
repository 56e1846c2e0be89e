/**
 * Writes every architecture of the zoo as ONNX and compares it with its source in ONNX Runtime, at the size it was
 * traced with and, where the file allows, with another batch and another height and width (of each pair of numbers
 * the first is ONNX Runtime's, the second that of Fornax's own reader):
 *
 *   FORNAX_PEER_PYTHON=… node build/dev/test/conformance/onnx_zoo.js [--max-side 256] [NAME…]
 *
 * Weights are the golden files' fill. Some deep networks are chaotic under it: an input that differs in its last bit
 * gives quite another output. Those take the weights with which training starts.
 *
 * Exit code 1 if any differs by more than 1e-4 of its standard deviation.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { ExportError } from '#fornax/errors.js';
import { OnnxModel } from '#fornax/export/onnx/read/model.js';
import { writeOnnx } from '#fornax/export/onnx/write.js';
import { Model } from '#fornax/model.js';
import { architectures } from '#fornax/models/registry.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { Tensor } from '#fornax/tensor.js';
import { fillModel } from './fill.js';
import { type Exported, exported, inputsFor, largestDifference } from '../support/exporting.js';
import { OnnxRuntime, whyNoOnnxRuntime } from '../support/onnx_peer.js';

const LIMIT = 1e-4;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'max-side': { type: 'string', default: '256' } },
});
const missing = whyNoOnnxRuntime();
if (missing !== false) throw new Error(missing);

const runtime = new OnnxRuntime();
const folder = mkdtempSync(path.join(tmpdir(), 'fornax-onnx-'));
let failures = 0;

/** Beyond it rounding alone may exceed the limit. */
const SENSITIVE = 2e-5;

async function chooseWeights({
  model,
  source,
}: Pick<Exported, 'model' | 'source'>): Promise<'fill' | 'initial'> {
  fillModel(model.native);
  const inputs = inputsFor(source);
  let sensitivity = 0;
  // A single step may be too small to tip anything over.
  for (const step of [1e-7, 3e-7, 1e-6]) {
    const near = Object.values(inputs).map((x) => new Tensor(x).call('aten::mul.Scalar', 1 + step));
    const moved = await model.forward(near);
    const outputs = Object.fromEntries(Object.entries(moved).map(([name, tensor]) => [name, tensor.native]));
    sensitivity = Math.max(sensitivity, await largestDifference({ model, source }, inputs, outputs));
    for (const tensor of [...near, ...Object.values(moved)]) tensor.dispose();
  }
  if (sensitivity <= SENSITIVE) return 'fill';
  model.native.initialize(0);
  model.changed();
  return 'initial';
}

async function check(name: string, side: number): Promise<string> {
  const model = Model.create(name, { inputs: [[1, 3, side, side]] });
  const subject = exported(model);
  const weights = await chooseWeights(subject);
  const file = path.join(folder, `${name}.onnx`);
  let data: string[] = [];
  const sets: Record<string, NativeTensor>[] = [];
  try {
    data = await writeOnnx(subject.source, file, file);
    const free = subject.source.inputs[0]!.dims.filter((dim) => typeof dim === 'string');
    sets.push(inputsFor(subject.source));
    if (free.length > 0) sets.push(inputsFor(subject.source, { batch: 3, height: side, width: side + 64 }));
    const { outputs } = await runtime.run(file, sets);
    const read = await OnnxModel.open(file);
    const differences: number[] = [];
    for (const [i, inputs] of sets.entries()) {
      differences.push(await largestDifference(subject, inputs, outputs[i]!));
      const own = await read.forward(inputs);
      differences.push(await largestDifference(subject, inputs, own));
      for (const set of [own, outputs[i]!]) Object.values(set).forEach((tensor) => tensor.dispose());
    }
    read.dispose();
    if (!differences.every((d) => d <= LIMIT)) failures++;
    return `${weights} | ${free.join(' ')} | ${differences.map((d) => d.toExponential(1)).join(' ')}`;
  } finally {
    sets.forEach((inputs) => Object.values(inputs).forEach((tensor) => tensor.dispose()));
    subject.dispose();
    for (const written of [file, ...data]) rmSync(written, { force: true });
  }
}

for (const { name, defaultResolution } of architectures) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  const started = Date.now();
  const side = Math.min(defaultResolution, Number(values['max-side']));
  let line: string;
  try {
    line = await check(name, side);
  } catch (error) {
    failures++;
    line =
      error instanceof ExportError ? `not exported: ${error.message}` : `failed: ${(error as Error).message}`;
  }
  console.log(`${name} | ${side} | ${line} | ${((Date.now() - started) / 1000).toFixed(1)} s`);
}
runtime.close();
rmSync(folder, { recursive: true });
process.exitCode = failures > 0 ? 1 : 0;
