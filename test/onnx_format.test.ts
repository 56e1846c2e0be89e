/** ONNX files themselves: what is in them, what cannot be written, and what the reader refuses. */
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { ExportError, FornaxError, WeightsError } from '#fornax/errors.js';
import { onnx } from '#fornax/export/onnx/exporter.js';
import type { ModelProto } from '#fornax/export/onnx/messages.js';
import { decode, encode } from '#fornax/export/onnx/proto.js';
import { parseOnnx } from '#fornax/export/onnx/read/file.js';
import { OnnxModel } from '#fornax/export/onnx/read/model.js';
import { writeOnnx } from '#fornax/export/onnx/write.js';
import { Model } from '#fornax/model.js';
import { call, Conv2d, functional as F, Linear, Module, type Tensor } from '#fornax/nn/index.js';
import { exported, type Exported, inputsFor, largestDifference } from './support/exporting.js';
import { temporaryFolder } from './support/image_folder.js';
import { random } from './support/random.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());
let count = 0;
const freshFile = (): string => path.join(root.path, `${count++}.onnx`);

/** A convolution, and a linear layer over more than two dimensions. */
class Small extends Module {
  readonly conv = new Conv2d(3, 4, 3, { stride: 2 });
  readonly fc = new Linear(7, 5);

  forward(image: Tensor): Tensor {
    return this.fc.forward(this.conv.forward(image).relu());
  }
}

async function withSmall(body: (subject: Exported, file: string) => Promise<void>): Promise<void> {
  const subject = exported(Model.create(new Small(), { inputs: [[1, 3, 9, 15]] }));
  try {
    await body(subject, freshFile());
  } finally {
    subject.dispose();
  }
}

/** Runs a file on the subject's example. */
async function run(subject: Exported, file: string): Promise<number> {
  const model = await OnnxModel.open(file);
  try {
    const inputs = inputsFor(subject.source);
    return await largestDifference(subject, inputs, await model.forward(inputs));
  } finally {
    model.dispose();
  }
}

const read = (file: string): ModelProto => decode('Model', readFileSync(file), file);

test('nodes have the paths of their modules, weights the names of the state dict', () =>
  withSmall(async ({ source }, file) => {
    assert.deepEqual(await writeOnnx(source, file, file), []);
    const { graph, opset_import: opset, producer_name: producer } = read(file);
    assert.deepEqual(
      graph.node.map(({ name, op_type: op }) => [name, op]),
      [
        ['/conv/Conv', 'Conv'],
        ['/Relu', 'Relu'],
        ['/fc/MatMul', 'MatMul'],
        ['/fc/Add', 'Add'],
      ],
    );
    assert.deepEqual(
      graph.initializer.map(({ name, dims }) => [name, dims]),
      [
        ['conv.weight', [4, 3, 3, 3]],
        ['conv.bias', [4]],
        ['fc.bias', [5]],
        ['fc.weight.transposed', [7, 5]],
      ],
    );
    assert.deepEqual(graph.output[0], {
      name: 'output',
      type: {
        tensor_type: {
          elem_type: 1,
          shape: { dim: [{ dim_param: 'batch' }, { dim_value: 4 }, {}, { dim_value: 5 }] },
        },
      },
    });
    assert.deepEqual([producer, opset], ['fornax', [{ domain: '', version: 18 }]]);
  }));

test('an operator without counterpart is an ExportError that names the node', async () => {
  class Inverse extends Module {
    readonly conv = new Conv2d(3, 3, 1);
    forward(image: Tensor): Tensor {
      return call('aten::linalg_inv', [this.conv.forward(image)]);
    }
  }
  const subject = exported(Model.create(new Inverse(), { inputs: [[1, 3, 4, 4]] }));
  try {
    await assert.rejects(writeOnnx(subject.source, freshFile(), 'model.onnx'), (error: ExportError) => {
      assert.ok(error instanceof ExportError);
      assert.match(error.message, /'aten::linalg_inv' has no counterpart in ONNX opset 18/);
      assert.match(error.message, /at: aten::linalg_inv at the root \(node 1\)/);
      return true;
    });
    assert.match(onnx.unsupported(subject.source) ?? '', /aten::linalg_inv/);
  } finally {
    subject.dispose();
  }
});

test('random numbers are not frozen into the file', async () => {
  class Noise extends Module {
    forward(image: Tensor): Tensor {
      return image.add(call('aten::rand', [[3, 1, 1]]));
    }
  }
  const subject = exported(Model.create(new Noise(), { inputs: [[1, 3, 4, 4]] }));
  try {
    assert.match(onnx.unsupported(subject.source) ?? '', /'aten::rand' has no counterpart/);
  } finally {
    subject.dispose();
  }
});

test('one name for an input and an output is an ExportError', async () => {
  class Same extends Module {
    forward(image: Tensor): Record<string, Tensor> {
      return { image: image.relu() };
    }
  }
  const subject = exported(Model.create(new Same(), { inputs: [[1, 3, 4, 4]] }));
  try {
    assert.match(onnx.unsupported(subject.source) ?? '', /two inputs or outputs are called 'image'/);
  } finally {
    subject.dispose();
  }
});

test('outputs that are inputs, weights, or the same tensor twice', async () => {
  class Outputs extends Module {
    readonly conv = new Conv2d(3, 3, 1);
    forward(image: Tensor): Record<string, Tensor> {
      const sum = image.add(1);
      return {
        same: image.contiguous(),
        sum,
        again: sum.contiguous(),
        bias: this.conv.bias!.contiguous(),
        ones: call('aten::ones', [[2]]),
      };
    }
  }
  const subject = exported(Model.create(new Outputs(), { inputs: [[1, 3, 4, 4]] }));
  try {
    const file = freshFile();
    await writeOnnx(subject.source, file, file);
    assert.equal(await run(subject, file), 0);
  } finally {
    subject.dispose();
  }
});

test('large weights go to a second file, which is found beside the first', async () => {
  const subject = exported(Model.create('tiny_cnn', { inputs: [[1, 3, 16, 16]] }));
  try {
    const file = freshFile();
    const others = await writeOnnx(subject.source, file, path.join(root.path, 'final.onnx'), {
      external: true,
    });
    assert.equal(others.length, 1);
    assert.match(path.basename(others[0]!), /^final\.onnx\.[0-9a-f]{8}\.data$/);
    assert.ok(statSync(file).size < statSync(others[0]!).size);
    assert.ok((await run(subject, file)) < 1e-5);
    // Cut short, it is refused.
    writeFileSync(others[0]!, readFileSync(others[0]!).subarray(0, 5000));
    await assert.rejects(OnnxModel.open(file), { name: 'WeightsError', message: /second file is too short/ });
  } finally {
    subject.dispose();
  }
});

test('a second file outside the folder is not opened', () =>
  withSmall(async ({ source }, file) => {
    await writeOnnx(source, file, file);
    const model = read(file);
    for (const location of ['../secret', '/etc/passwd', '..', '']) {
      const [first, ...rest] = model.graph.initializer;
      const changed = encode('Model', {
        ...model,
        graph: {
          ...model.graph,
          initializer: [
            {
              ...first!,
              raw_data: undefined,
              data_location: 1,
              external_data: [{ key: 'location', value: location }],
            },
            ...rest,
          ],
        },
      });
      assert.throws(() => parseOnnx(changed, file, 18), {
        name: 'WeightsError',
        message: /outside the folder/,
      });
    }
  }));

test('a size that changes in steps is computed in the file, wherever the step is', async () => {
  class Steps extends Module {
    forward(image: Tensor): Tensor {
      const height = image.size(2);
      // One more row for each of the bounds that the height exceeds.
      const rows = [12, 300, 700].map((bound) => height.sub(bound).max(0).min(1));
      return F.pad(image, [0, 0, 0, rows.reduce((sum, row) => sum.add(row))]);
    }
  }
  const subject = exported(Model.create(new Steps(), { inputs: [[1, 1, 10, 4]] }));
  try {
    const file = freshFile();
    await writeOnnx(subject.source, file, file);
    const model = await OnnxModel.open(file);
    for (const height of [9, 12, 13, 301, 800]) {
      const inputs = inputsFor(subject.source, { height });
      assert.equal(await largestDifference(subject, inputs, await model.forward(inputs)), 0, String(height));
    }
    model.dispose();
  } finally {
    subject.dispose();
  }
});

/** The file with one attribute changed. */
function withAttribute(file: string, op: string, name: string, value: number[]): string {
  const model = read(file);
  const node = model.graph.node.find(({ op_type: type }) => type === op)!;
  const attribute = node.attribute.find((a) => a.name === name)!;
  attribute.ints = value;
  const changed = freshFile();
  writeFileSync(changed, encode('Model', model));
  return changed;
}

test('a wrong attribute shows when the file is read back', () =>
  withSmall(async (subject, file) => {
    await writeOnnx(subject.source, file, file);
    assert.ok((await run(subject, file)) < 1e-5);
    const shifted = withAttribute(file, 'Conv', 'pads', [1, 0, 0, 0]);
    assert.ok((await run(subject, shifted)) > 1e-2);
    const unknown = withAttribute(file, 'Conv', 'strides', [2]);
    await assert.rejects(run(subject, unknown), {
      name: 'WeightsError',
      message: /Conv \/conv\/Conv: strides/,
    });
  }));

test('a model of another opset, a truncated file and a missing one are WeightsErrors', () =>
  withSmall(async ({ source }, file) => {
    await writeOnnx(source, file, file);
    const bytes = readFileSync(file);
    const model = read(file);
    assert.throws(
      () => parseOnnx(encode('Model', { ...model, opset_import: [{ domain: '', version: 17 }] }), file, 18),
      { name: 'WeightsError', message: /opset 17, not 18/ },
    );
    assert.throws(() => parseOnnx(bytes.subarray(0, bytes.length - 3), file, 18), WeightsError);
    await assert.rejects(OnnxModel.open(path.join(root.path, 'nothing.onnx')), WeightsError);
  }));

test('an input of another shape or dtype than declared is refused', () =>
  withSmall(async (subject, file) => {
    await writeOnnx(subject.source, file, file);
    const model = await OnnxModel.open(file);
    try {
      const { image } = inputsFor(subject.source);
      await assert.rejects(model.forward({}), { name: 'ArgumentError', message: /'image'/ });
      await assert.rejects(model.forward({ image: image!.to({ dtype: 'float64' }) }), {
        name: 'ArgumentError',
      });
      const flat = inputsFor({
        ...subject.source,
        inputs: [{ name: 'image', dtype: 'float32', shape: [1, 3], dims: [1, 3] }],
      });
      await assert.rejects(model.forward(flat), {
        name: 'ArgumentError',
        message: /the file declares \[batch, 3/,
      });
    } finally {
      model.dispose();
    }
  }));

/** A small model's file, and where its structure ends: mutations there tell more than those of weights. */
async function toMutate(subject: Exported): Promise<{ file: string; original: Buffer; structure: number }> {
  const file = freshFile();
  await writeOnnx(subject.source, file, file);
  const { graph, ...rest } = read(file);
  const initializer = graph.initializer.map(({ raw_data: _, ...head }) => head);
  const structure = encode('Model', { ...rest, graph: { ...graph, initializer } }).length;
  return { file, original: readFileSync(file), structure };
}

function mutated(original: Uint8Array, structure: number, next: (n: number) => number): Uint8Array {
  const bytes = new Uint8Array(original);
  const start = next(next(3) === 0 ? bytes.length : structure);
  for (let j = 0; j <= next(3); j++) bytes[Math.min(start + next(8), bytes.length - 1)] = next(256);
  return next(10) === 0 ? bytes.subarray(0, next(bytes.length)) : bytes;
}

test('10,000 mutations of a file, opened, and 500 of them run: a typed error or an answer', async () => {
  const subject = exported(Model.create('tiny_cnn', { inputs: [[1, 3, 8, 8]], numClasses: 3 }));
  const inputs = inputsFor(subject.source);
  const next = random(7);
  try {
    const { file, original, structure } = await toMutate(subject);
    let refused = 0;
    for (let i = 0; i < 10_000; i++) {
      const bytes = mutated(original, structure, next);
      try {
        const opened = parseOnnx(bytes, file, 18);
        if (i % 20 !== 0) continue;
        const model = await OnnxModel.from(opened, file);
        try {
          await model.forward(inputs);
        } finally {
          model.dispose();
        }
      } catch (error) {
        if (!(error instanceof FornaxError)) throw error;
        refused++;
      }
    }
    assert.ok(refused > 2000, `${refused} refused`);
  } finally {
    subject.dispose();
  }
});
