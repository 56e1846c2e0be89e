/** ONNX files in onnx.checker and ONNX Runtime: those of single operators, and of models of the zoo. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { writeOnnx } from '#fornax/export/onnx/write.js';
import { Model } from '#fornax/model.js';
import { fillModel } from './conformance/fill.js';
import { exported, type Exported, fixedSize, inputsFor, largestDifference } from './support/exporting.js';
import { temporaryFolder } from './support/image_folder.js';
import { onnxCases, onnxModels } from './support/onnx_cases.js';
import { OnnxRuntime, whyNoOnnxRuntime } from './support/onnx_peer.js';

describe(
  'ONNX Runtime (needs FORNAX_PEER_PYTHON with onnx and onnxruntime)',
  { skip: whyNoOnnxRuntime() },
  () => {
    let runtime: OnnxRuntime;
    let folder: Awaited<ReturnType<typeof temporaryFolder>>;
    before(async () => {
      runtime = new OnnxRuntime();
      folder = await temporaryFolder();
    });
    after(async () => {
      runtime.close();
      await folder[Symbol.asyncDispose]();
    });
    let count = 0;

    /** The largest difference over inputs of several sizes, in standard deviations. */
    async function differences(
      subject: Exported,
      sizes: readonly Record<string, number>[],
      external = false,
    ): Promise<number[]> {
      const file = path.join(folder.path, `${count++}.onnx`);
      await writeOnnx(subject.source, file, file, external ? { external } : {});
      const sets = sizes.map((free) => inputsFor(subject.source, free));
      const { outputs } = await runtime.run(file, sets);
      return Promise.all(sets.map((inputs, i) => largestDifference(subject, inputs, outputs[i]!)));
    }

    for (const { name, module, shape } of onnxCases) {
      test(`${name}: the same outputs`, async () => {
        const subject = exported(Model.create(module, { inputs: [shape] }));
        try {
          const sizes: Record<string, number>[] = [{}, { batch: 3, height: 9, width: 14 }];
          const free = await differences(subject, sizes);
          const fixed = await differences({ ...subject, source: fixedSize(subject.source) }, sizes);
          assert.ok(
            [...free, ...fixed].every((difference) => difference < 1e-5),
            `${free.join(', ')}; fixed: ${fixed.join(', ')}`,
          );
        } finally {
          subject.dispose();
        }
      });
    }

    for (const { name, side, other } of onnxModels) {
      test(`${name} at ${side}: the same outputs, also for ${JSON.stringify(other)}`, async () => {
        const model = Model.create(name, { inputs: [[1, 3, side, side]] });
        fillModel(model.native);
        const subject = exported(model);
        try {
          const found = await differences(subject, [{}, other]);
          assert.ok(
            found.every((difference) => difference < 1e-4),
            found.join(', '),
          );
        } finally {
          subject.dispose();
        }
      });
    }

    test('weights in a second file: the same outputs', async () => {
      const subject = exported(Model.create('tiny_cnn', { inputs: [[1, 3, 32, 32]] }));
      try {
        const found = await differences(subject, [{ batch: 2 }], true);
        assert.ok(found[0]! < 1e-4, String(found));
      } finally {
        subject.dispose();
      }
    });

    test('preprocessing inside takes uint8 images [N, H, W, C]; metadata says what the model is', async () => {
      const model = Model.create('tiny_cnn', {
        inputs: [[1, 3, 32, 32]],
        labels: ['cat', 'dog'],
        preprocessing: {
          channels: 3,
          pack_size: null,
          resize: 32,
          size: [32, 32],
          normalize: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
        },
      });
      const subject = exported(model, { preprocess: true });
      try {
        const file = path.join(folder.path, 'preprocess.onnx');
        await writeOnnx(subject.source, file, file);
        const inputs = inputsFor(subject.source, { batch: 2 });
        assert.equal(inputs.image!.dtype, 'uint8');
        const { outputs, metadata } = await runtime.run(file, [inputs]);
        assert.ok((await largestDifference(subject, inputs, outputs[0]!)) < 1e-4);
        assert.deepEqual(JSON.parse(metadata['labels']!), ['cat', 'dog']);
        assert.equal(metadata['task'], 'classification');
        assert.equal(metadata['preprocessing_inside'], 'true');
      } finally {
        subject.dispose();
      }
    });
  },
);
