/**
 * Graphs of files that nobody can trust go through the exporters: what passes the checks of loading is exported and
 * runs, or is refused with a typed error. Nothing else may happen: no crash, no foreign exception.
 */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { FornaxError } from '#fornax/errors.js';
import { exporters } from '#fornax/export/exporters.js';
import type { ExportFormat } from '#fornax/export/format.js';
import { exportSource } from '#fornax/export/source.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { validateGraph } from '#fornax/graph/validate.js';
import { loadAddon } from '#fornax/native.js';
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  Linear,
  Module,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';

import { mutated } from './support/graph_mutations.js';
import { temporaryFolder } from './support/image_folder.js';
import { random } from './support/random.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

class Net extends Module {
  readonly conv = new Conv2d(3, 8, 3, { padding: 1 });
  readonly bn = new BatchNorm2d(8);
  readonly fc = new Linear(8, 5);

  forward(image: Symbolic): Record<string, Symbolic> {
    let x = F.relu(this.bn.forward(this.conv.forward(image)));
    if (x.size(2).mod(2).eq(0)) x = F.maxPool2d(x, 2);
    const [left, right] = x.chunk(2, 1);
    x = F.stochasticDepth(left!.mul(F.sigmoid(right!)), 0.2, 'row').add(left!);
    const padded = F.pad(x, [0, 1, 0, 0]).repeat(1, 2, 1, 1);
    const logits = this.fc.forward(F.dropout(padded.mean([2, 3]), 0.3));
    return { logits: F.softmax(logits, -1), padded };
  }
}

const words = [
  '"',
  '\\',
  '\n  import os',
  'a.b',
  'class',
  '0',
  'ä',
  '…',
  "'",
  '#',
  '__class__',
  '%s',
  '${x}',
];

/** Another name for something, made of what source text stumbles over. */
function renamed(graph: Graph, draw: (n: number) => number): Graph {
  const copy = structuredClone(graph);
  const word = `${words[draw(words.length)]!}${words[draw(words.length)]!}`;
  const lists = [copy.inputs, copy.outputs, copy.parameters] as { name: string }[][];
  const list = lists[draw(lists.length)]!;
  list[draw(list.length)]!.name = word;
  copy.guards[0]!.path = word;
  return copy;
}

async function exportOnce(graph: unknown, format: ExportFormat): Promise<'refused' | 'exported'> {
  const { Graph: NativeGraph, Tensor } = loadAddon();
  let native: InstanceType<typeof NativeGraph> | null = null;
  const exporter = exporters[format];
  const file = path.join(root.path, `fuzzed${exporter.extension}`);
  try {
    const valid = validateGraph(graph);
    const sizes = valid.parameters.map(({ shape }) => shape.reduce((product, n) => product * n, 1));
    if (sizes.some((size) => size > 1 << 22)) return 'refused';
    native = new NativeGraph(valid, { trusted: false });
    native.initialize(1);
    const inputs = valid.inputs.map(({ name }) => ({
      name,
      shape: [1, 3, 8, 8],
      dtype: 'float32' as const,
    }));
    const info = {
      name: 'net',
      task: 'custom',
      labels: [],
      inputs,
      preprocessing: null,
      provenance: {},
      metrics: {},
    };
    const { source, release } = exportSource({ graph: valid, state: native.state(), info });
    try {
      if (exporter.unsupported(source) !== null) return 'refused';
      await exporter.write(source, file, file);
      const opened = await exporter.open(source, file);
      const given = inputs.map(({ name }) => [name, Tensor.call('aten::ones', [[1, 3, 8, 8]])[0]!] as const);
      try {
        await opened.forward(Object.fromEntries(given));
      } finally {
        opened.dispose();
      }
      return 'exported';
    } finally {
      release();
    }
  } catch (error) {
    if (error instanceof FornaxError) return 'refused';
    throw error;
  } finally {
    await fs.rm(file, { force: true });
    native?.dispose();
  }
}

for (const format of ['torchscript', 'onnx', 'pth'] as const) {
  test(`damaged and hostile graphs on their way to ${format}`, async () => {
    const graph = trace(new Net(), { inputs: [[1, 3, 8, 8]] });
    assert.equal(await exportOnce(graph, format), 'exported');
    const draw = random(7);
    const tally = { refused: 0, exported: 0 };
    for (let i = 0; i < 400; i++) {
      const damaged = i % 4 === 0 ? renamed(graph, draw) : mutated(graph, draw);
      tally[await exportOnce(damaged, format)]++;
    }
    // Both happen, or the mutations are too coarse or the checks too weak to say anything.
    assert.ok(tally.exported > 20, JSON.stringify(tally));
    assert.ok(tally.refused > 100, JSON.stringify(tally));
  });
}
