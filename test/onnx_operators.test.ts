/** Every conversion of the ONNX writer, read back by our own reader: for one image and for a batch of three. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import path from 'node:path';

import { OnnxModel } from '#fornax/export/onnx/read/model.js';
import { writeOnnx } from '#fornax/export/onnx/write.js';
import { converters } from '#fornax/export/onnx/operators.js';
import { Model } from '#fornax/model.js';
import { type Exported, exported, fixedSize, inputsFor, largestDifference } from './support/exporting.js';
import { temporaryFolder } from './support/image_folder.js';
import { onnxCases } from './support/onnx_cases.js';

const used = new Set<string>();

const sizes: Record<string, number>[] = [
  {},
  { batch: 3, height: 9, width: 14 },
  { batch: 2, height: 12, width: 8 },
];

/** Writes the file, reads it back, and compares it for one image, and for three of another size where it allows. */
async function check(subject: Exported): Promise<void> {
  await using folder = await temporaryFolder();
  const file = path.join(folder.path, 'model.onnx');
  await writeOnnx(subject.source, file, file);
  const model = await OnnxModel.open(file);
  try {
    for (const free of sizes) {
      const inputs = inputsFor(subject.source, free);
      const difference = await largestDifference(subject, inputs, await model.forward(inputs));
      assert.ok(difference < 1e-5, `${JSON.stringify(free)}: ${difference}`);
    }
  } finally {
    model.dispose();
  }
}

for (const { name, module, shape } of onnxCases) {
  test(`${name}: the file computes what the model does, for any size and for a fixed one`, async () => {
    const subject = exported(Model.create(module, { inputs: [shape] }));
    try {
      for (const { op } of subject.source.graph.nodes) used.add(op);
      await check(subject);
      await check({ ...subject, source: fixedSize(subject.source) });
    } finally {
      subject.dispose();
    }
  });
}

test('the cases use every operator that can be written', () => {
  const withoutOverload = (op: string): string => op.split('.', 1)[0]!;
  const tested = new Set([...used].map(withoutOverload));
  const rest = new Set(Object.keys(converters).map(withoutOverload));
  for (const op of tested) rest.delete(op);
  assert.deepEqual([...rest], []);
});
