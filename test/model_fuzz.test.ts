/**
 * The reader of model files against 10,000 damaged files: each is refused with a typed error, or loads and runs. Half are
 * damaged as bytes; half are well-formed files with damaged contents, which get further.
 */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ArgumentError, ExecutionError, GraphError, GuardError, WeightsError } from '#fornax/errors.js';
import { encodeHeader, readHeader } from '#fornax/io/safetensors_header.js';
import { Model } from '#fornax/model.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';

const MUTATIONS = 10_000;
const TYPED = [WeightsError, GraphError, GuardError, ExecutionError, ArgumentError];

let state = 20_240_229;
/** An integer in 0 … below − 1. */
function random(below: number): number {
  state = (state * 48271) % 2147483647;
  return state % below;
}

function pick<T>(items: readonly T[]): T {
  return items[random(items.length)]!;
}

/** Values that readers stumble over. */
const NASTY: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  2 ** 31,
  2 ** 53,
  -(2 ** 63),
  1e308,
  0.5,
  '',
  'aten::add.Tensor',
  'aten::from_file',
  'aten::as_strided',
  'float32',
  '__proto__',
  'x'.repeat(3000),
  [],
  [[]],
  {},
  { slot: 0 },
  { slot: 1e6 },
  { slot: -1 },
  { mode: 'dropout' },
  { expr: ['size', 0, 0] },
  { expr: ['//', 1, 0] },
  { expr: ['%', ['size', 0, 9], 0] },
  { expr: ['*', 2 ** 40, 2 ** 40] },
  { dtype: 'float64' },
  { generator: true },
];

/** Replaces, removes, repeats or swaps something somewhere in a JSON value. */
function mutateJson(value: unknown): void {
  let node = value;
  for (;;) {
    if (typeof node !== 'object' || node === null) return;
    const keys = Object.keys(node);
    if (keys.length === 0) return;
    const key = pick(keys);
    const holder = node as Record<string, unknown>;
    const child = holder[key];
    if (typeof child === 'object' && child !== null && random(5) > 0) {
      node = child;
      continue;
    }
    switch (random(5)) {
      case 0:
        if (Array.isArray(node)) node.splice(Number(key), 1);
        else Reflect.deleteProperty(holder, key);
        return;
      case 1:
        if (Array.isArray(node)) node.push(structuredClone(pick(node as unknown[])));
        else holder[key + 'x'] = child;
        return;
      case 2:
        if (typeof child === 'number') {
          holder[key] = child + pick([-2, -1, 1, 2, 1000, 0.5]);
          return;
        }
        holder[key] = pick(NASTY);
        return;
      case 3: {
        const other = pick(keys);
        [holder[key], holder[other]] = [holder[other], holder[key]];
        return;
      }
      default:
        holder[key] = structuredClone(pick(NASTY));
        return;
    }
  }
}

test(`${MUTATIONS} damaged model files are refused with typed errors or run`, async () => {
  await using root = await temporaryFolder();
  const file = path.join(root.path, 'model.safetensors');
  using model = Model.create('tiny_cnn', { labels: Array.from('abcdefghij') });
  await model.save(file);
  const good = await fs.readFile(file);
  const { tensors, metadata, headerBytes } = await readHeader(file);
  const data = good.subarray(headerBytes);
  const refusals = new Map<string, number>();
  let loaded = 0;

  for (let i = 0; i < MUTATIONS; i++) {
    let bytes: Buffer;
    if (i % 2 === 0) {
      bytes = Buffer.from(good);
      for (let n = 1 + random(3); n > 0; n--) {
        // Mostly in the header, where it matters.
        bytes[random(random(10) > 0 ? headerBytes : bytes.length)] = random(256);
      }
      if (random(10) === 0) bytes = bytes.subarray(0, random(bytes.length));
    } else {
      const changed: Record<string, string> = { ...metadata };
      const key = pick([
        'graph',
        'graph',
        'graph',
        'graph',
        'operators',
        'inputs',
        'preprocessing',
        'labels',
        'metrics',
      ]);
      const value: unknown = { root: JSON.parse(metadata[key]!) };
      for (let n = 1 + random(2); n > 0; n--) mutateJson(value);
      changed[key] = JSON.stringify((value as { root: unknown }).root) ?? 'null';
      bytes = Buffer.concat([encodeHeader(tensors, changed).header, data]);
    }
    await fs.writeFile(file, bytes);
    try {
      using result = await Model.load(file);
      loaded++;
      // A graph that is sound in form may still be nonsense: that shows when it runs.
      if (i % 2 === 1) {
        const inputs = result.graph.inputs.map(() => Tensor.zeros([2, 3, 8, 8]));
        await result.forward(inputs, { threads: 1 });
      }
    } catch (caught) {
      const error = caught as Error;
      const typed = TYPED.some((kind) => error instanceof kind);
      assert.ok(typed, `mutation ${i}: ${error.stack}`);
      refusals.set(error.name, (refusals.get(error.name) ?? 0) + 1);
    }
  }
  // Both readers were reached, and harmless damage (a label, a weight) is no damage.
  assert.ok(
    refusals.get('WeightsError')! > 1000 && refusals.get('GraphError')! > 1000,
    String([...refusals]),
  );
  assert.ok(loaded > 100, `only ${loaded} loaded`);
});
