/** Prints how far the kernels of this process are from double precision, as JSON: for ATEN_CPU_CAPABILITY. */
import { runProbe, type ProbeSettings } from './batch_norm_probe.js';
import { distance } from './graph_probe.js';

const distances: Record<string, number> = {};
const cases: ProbeSettings[] = [
  { shape: [4, 24, 7, 5], activation: 'relu', residual: 'first' },
  { shape: [4, 13, 7, 5], activation: 'silu' },
  { shape: [3, 40, 9, 9], activation: 'hardswish', mode: 'eval' },
  // As far out as numbers of a training that diverges get.
  ...[1e2, 1e6, 1e9, 1e15, 1e30].map(
    (scale) => ({ shape: [2, 24, 5, 5], activation: 'silu', mode: 'eval', scale }) as const,
  ),
  { shape: [3, 7, 9, 9], activation: 'relu6' },
];
for (const settings of cases) {
  const expected = await runProbe(settings, { type: 'float64' });
  const actual = await runProbe(settings);
  const name = JSON.stringify(settings);
  distances[`${name} output`] = distance(actual.output, expected.output);
  for (const part of ['gradients', 'buffers'] as const) {
    for (const [key, values] of Object.entries(expected[part])) {
      distances[`${name} ${key}`] = distance(actual[part][key]!, values);
    }
  }
}
process.stdout.write(JSON.stringify(distances));
