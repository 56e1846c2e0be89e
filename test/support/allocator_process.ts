/** Prints how many page faults a training step costs and the losses of the steps, as JSON. */
import { loadAddon } from '#fornax/native.js';
import { goldenModel, openSession } from './training_golden.js';
import { fillInput } from '../conformance/fill.js';

const [rows, size, steps] = [32, 64, 12] as const;
const { Tensor } = loadAddon();
const batch = {
  image: Tensor.fromTypedArray(fillInput(rows * 3 * size * size, 1), [rows, 3, size, size]),
  label: Tensor.fromTypedArray(new BigInt64Array(rows), [rows]),
};
const session = openSession(goldenModel(), { threads: 1 });
const losses: number[] = [];
let before = 0;
for (let step = 0; step < 2 * steps; step++) {
  if (step === steps) before = process.resourceUsage().minorPageFault;
  losses.push((await session.step(batch)).loss);
}
const faults = (process.resourceUsage().minorPageFault - before) / steps;
session.dispose();
process.stdout.write(JSON.stringify({ faults, losses }));
