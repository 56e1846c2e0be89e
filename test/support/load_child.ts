/**
 * Loads weights in a process of its own and prints what that took of memory, in bytes:
 * `node load_child.js model FILE` (Model.load) or `node load_child.js weights ARCHITECTURE FILE`.
 */
import { readFileSync } from 'node:fs';

import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';

/** Resident memory now and at its peak, from the kernel. */
function memory(): { now: number; peak: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const kilobytes = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)![1]) * 1024;
  return { now: kilobytes('VmRSS'), peak: kilobytes('VmHWM') };
}

const [mode, first, second] = process.argv.slice(2) as [string, string, string];
loadAddon();
// Whatever loading brings in beside the weights, once.
Model.create('tiny_cnn').dispose();
const before = memory().now;
const model = mode === 'model' ? await Model.load(first) : Model.create(first);
if (mode === 'weights') await model.loadWeights(second);
const after = memory();
const state = model.graph.parameters.reduce(
  (sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size, 1),
  0,
);
process.stdout.write(JSON.stringify({ state, grown: after.now - before, peak: after.peak - before }) + '\n');
