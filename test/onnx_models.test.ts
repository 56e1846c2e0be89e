/** Models of the zoo as ONNX, read back by our own reader: at the size of the export, and at another where it is free. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { OnnxModel } from '#fornax/export/onnx/read/model.js';
import { writeOnnx } from '#fornax/export/onnx/write.js';
import { Model } from '#fornax/model.js';
import { fillModel } from './conformance/fill.js';
import { exported, inputsFor, largestDifference } from './support/exporting.js';
import { temporaryFolder } from './support/image_folder.js';
import { onnxModels } from './support/onnx_cases.js';

for (const { name, side, other } of onnxModels) {
  test(`${name} at ${side}: the same outputs, also for ${JSON.stringify(other)}`, async () => {
    await using folder = await temporaryFolder();
    const model = Model.create(name, { inputs: [[1, 3, side, side]] });
    fillModel(model.native);
    const subject = exported(model);
    const file = path.join(folder.path, 'model.onnx');
    try {
      await writeOnnx(subject.source, file, file);
      const read = await OnnxModel.open(file);
      try {
        for (const free of [{}, other]) {
          const inputs = inputsFor(subject.source, free);
          const difference = await largestDifference(subject, inputs, await read.forward(inputs));
          assert.ok(difference < 1e-4, String(difference));
        }
      } finally {
        read.dispose();
      }
    } finally {
      subject.dispose();
    }
  });
}
