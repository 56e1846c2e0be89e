/** Model files: saved, loaded alone, refused where they contradict themselves, read in every version. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { GraphError, WeightsError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { readSafetensors, writeSafetensors } from '#fornax/io/safetensors.js';
import { readHeader } from '#fornax/io/safetensors_header.js';
import { Model } from '#fornax/model.js';

import { temporaryFolder } from './support/image_folder.js';
import { image } from './support/model_inputs.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;

before(async () => {
  root = await temporaryFolder();
});

after(() => root[Symbol.asyncDispose]());

test('a saved model comes back from its file alone and computes the same', async () => {
  const file = path.join(root.path, 'saved.safetensors');
  const preprocessing = {
    channels: 3 as const,
    pack_size: 64,
    resize: 36,
    size: [32, 32] as [number, number],
    normalize: { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] },
  };
  using model = Model.create('resnet20', { numClasses: 3, labels: ['a', 'b', 'ç'], preprocessing });
  await model.save(file, { metrics: { top1: 0.5 }, provenance: { run: 'test' } });
  using loaded = await Model.load(file);
  assert.deepEqual(loaded.info, { ...model.info, metrics: { top1: 0.5 }, provenance: { run: 'test' } });
  const x = image(2);
  assert.deepEqual((await loaded.forward(x)).output!.toArray(), (await model.forward(x)).output!.toArray());
  assert.equal(loaded.summary(), model.summary());

  const { metadata } = await readHeader(file);
  assert.equal(metadata.format_version, '1');
  assert.match(metadata.torch_version!, /^2\.\d+\.\d+/);
  assert.deepEqual(
    (JSON.parse(metadata.operators!) as Record<string, { arguments: string[] }>)['aten::relu'],
    {
      arguments: ['Tensor self'],
      returns: ['Tensor'],
    },
  );
});

/** Rewrites the metadata of a model file. */
async function rewritten(file: string, change: (metadata: Record<string, string>) => void): Promise<string> {
  const { tensors, metadata } = await readSafetensors(file);
  change(metadata);
  const target = path.join(root.path, 'rewritten.safetensors');
  await writeSafetensors(target, tensors, metadata);
  return target;
}

test('a model file that contradicts itself, is newer or asks for too much is refused', async () => {
  using model = Model.create('tiny_cnn');
  const file = path.join(root.path, 'good.safetensors');
  await model.save(file);
  const refuse = async (
    change: (metadata: Record<string, string>) => void,
    kind: new (...args: never[]) => Error,
    reason: RegExp,
  ): Promise<void> => {
    const changed = await rewritten(file, change);
    await assert.rejects(Model.load(changed), (error) => {
      assert.ok(error instanceof kind, String(error));
      assert.match(error.message, reason);
      return true;
    });
  };
  const editGraph =
    (edit: (graph: Graph) => void) =>
    (metadata: Record<string, string>): void => {
      const graph = JSON.parse(metadata.graph!) as Graph;
      edit(graph);
      metadata.graph = JSON.stringify(graph);
    };
  await refuse(
    (m) => (m.format_version = '7'),
    WeightsError,
    /version 7; this Fornax reads versions up to 1/,
  );
  await refuse((m) => (m.format_version = 'x'), WeightsError, /'x' is no version/);
  await refuse((m) => delete m.graph, WeightsError, /lacks its 'graph'/);
  await refuse((m) => (m.graph = '{'), WeightsError, /'graph' of the model file is not sound JSON/);
  await refuse((m) => (m.labels = '[1]'), WeightsError, /'labels\.0'/);
  // What commands print must not command the terminal.
  const clear = '\u001b[2Jcat';
  await refuse((m) => (m.labels = JSON.stringify([clear])), WeightsError, /'labels\.0'.*control characters/);
  await refuse((m) => (m.name = JSON.stringify(clear)), WeightsError, /'name'.*control characters/);
  await refuse(
    (m) => (m.metrics = JSON.stringify({ [clear]: 1 })),
    WeightsError,
    /'metrics\.\\u001b\[2Jcat' is not valid/,
  );
  await assert.rejects(model.save(file, { labels: [clear] }), WeightsError);
  await refuse((m) => (m.graph = '['.repeat(100_000) + ']'.repeat(100_000)), WeightsError, /nested deeper/);
  await refuse(
    editGraph((g) => (g.format_version = 99)),
    GraphError,
    /99/,
  );
  await refuse(
    editGraph((g) => (g.nodes[0]!.args[0] = { slot: 10_000 })),
    GraphError,
    /slot 10000/,
  );
  await refuse(
    editGraph((g) => (g.parameters[0]!.shape[0] = 17)),
    WeightsError,
    /conv1\.weight.*\[17, 3, 3, 3\] in its graph/,
  );
  await refuse(
    editGraph((g) => (g.parameters[0]!.name = 'other')),
    WeightsError,
    /lacks the tensor 'other'/,
  );
  await refuse((m) => (m.operators = '{}'), WeightsError, /lacks the schema of the operator/);
  await refuse(
    (m) => (m.operators = m.operators!.replace('"Tensor self"', '"Tensor it"')),
    GraphError,
    /is not what it was when the model was written with libtorch 2.*'Tensor it'/s,
  );
  // An operator that reads files, with its true schema, is still not for model files.
  await refuse(
    (m) => {
      editGraph((g) => {
        const node = g.nodes.find(({ op }) => op === 'aten::relu')!;
        node.op = 'aten::from_file';
        node.args = ['/etc/passwd'];
      })(m);
      const operators = JSON.parse(m.operators!) as Record<string, unknown>;
      operators['aten::from_file'] = {
        arguments: [
          'str filename',
          'bool? shared=None',
          'int? size=0',
          'ScalarType? dtype=None',
          'Layout? layout=None',
          'Device? device=None',
          'bool? pin_memory=None',
        ],
        returns: ['Tensor'],
      };
      m.operators = JSON.stringify(operators);
    },
    GraphError,
    /from_file/,
  );
});

test('a model file of every format version can be read and computes what it did', async () => {
  const folder = new URL('../../../test/fixtures/', import.meta.url);
  const expected = JSON.parse(await fs.readFile(new URL('models.json', folder), 'utf8')) as Record<
    string,
    { output: number[][] }
  >;
  assert.ok(Object.keys(expected).length >= 1);
  for (const [name, { output }] of Object.entries(expected)) {
    using model = await Model.load(new URL(name, folder).pathname);
    assert.deepEqual(model.info.labels, ['cat', 'dog', 'owl']);
    const result = (await model.forward(image(2, 16))).output!.toArray() as number[][];
    for (const [i, row] of output.entries()) {
      for (const [j, value] of row.entries()) assert.ok(Math.abs(value - result[i]![j]!) < 1e-5, name);
    }
  }
});

test('a loaded model has the graph hash of the one it was written from', async () => {
  await using folder = await temporaryFolder();
  const file = path.join(folder.path, 'model.safetensors');
  for (const name of ['resnet20', 'unet_tiny', 'retinaface_mobilenet025']) {
    using model = Model.create(name);
    await model.save(file);
    using loaded = await Model.load(file);
    assert.equal(loaded.graphHash(), model.graphHash(), name);
    using other = Model.create(name, { inChannels: 1 });
    assert.notEqual(other.graphHash(), model.graphHash(), name);
  }
});
