/** An ONNX model with its weights in a second file, exported again: the second file of the former goes with it. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { checkInputs, disposeInputs } from '#fornax/export/check_inputs.js';
import type { Exporter } from '#fornax/export/format.js';
import { onnx } from '#fornax/export/onnx/exporter.js';
import { writeOnnx } from '#fornax/export/onnx/write.js';
import { exportSource } from '#fornax/export/source.js';
import { runSource } from '#fornax/export/verify.js';
import { writeChecked } from '#fornax/export/write_checked.js';
import { Model } from '#fornax/model.js';
import { Linear } from '#fornax/nn/index.js';

import { temporaryFolder } from './support/image_folder.js';

const external: Exporter = {
  ...onnx,
  write: (source, file, target) => writeOnnx(source, file, target, { external: true }),
};

test('a replaced file takes its second file along, and no other', async () => {
  await using root = await temporaryFolder();
  using model = Model.create(new Linear(300, 200), { inputs: [[2, 300]] });
  const { source, release } = exportSource({
    graph: model.graph,
    state: model.native.state(),
    info: model.info,
  });
  const inputs = await checkInputs(source, { preprocess: false, seed: 0 });
  const expected = await runSource(model.native, inputs, { device: 'cpu', normalize: null });
  const file = path.join(root.path, 'model.onnx');
  const write = (exporter: Exporter, tolerance = 1e-4): ReturnType<typeof writeChecked> =>
    writeChecked(exporter, source, file, expected, { tolerance });
  const present = async (): Promise<string[]> => (await fs.readdir(root.path)).sort();
  try {
    const strangers = ['model.onnx.0123abcd.data', 'model.onnx.data'];
    for (const name of strangers) await fs.writeFile(path.join(root.path, name), 'weights of another');
    const first = (await write(external)).otherFiles.map((name) => path.basename(name));
    assert.equal(first.length, 1);
    assert.deepEqual(await present(), ['model.onnx', ...strangers, ...first].sort());

    // A check that fails leaves the former export whole.
    await assert.rejects(write(external, -1), /does not compute/);
    assert.deepEqual(await present(), ['model.onnx', ...strangers, ...first].sort());

    const second = (await write(external)).otherFiles.map((name) => path.basename(name));
    assert.notDeepEqual(second, first);
    assert.deepEqual(await present(), ['model.onnx', ...strangers, ...second].sort());

    await write(onnx);
    assert.deepEqual(await present(), ['model.onnx', ...strangers].sort());
  } finally {
    release();
    disposeInputs(inputs);
    for (const { outputs } of expected) for (const tensor of Object.values(outputs)) tensor.dispose();
  }
});
