/** Prints how far the kernels of this process are from double precision, as JSON: for ATEN_CPU_CAPABILITY. */
import { runProbe, type ProbeSettings } from './batch_norm_probe.js';
import { runDepthwise } from './depthwise_probe.js';
import { distance, type ProbeResult } from './graph_probe.js';

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

function compare(name: string, actual: ProbeResult, expected: ProbeResult): void {
  distances[`${name} output`] = distance(actual.output, expected.output);
  for (const part of ['gradients', 'buffers'] as const) {
    for (const [key, values] of Object.entries(expected[part])) {
      distances[`${name} ${key}`] = distance(actual[part][key]!, values);
    }
  }
}

for (const settings of cases) {
  const expected = await runProbe(settings, { type: 'float64' });
  compare(JSON.stringify(settings), await runProbe(settings), expected);
}
for (const kernel of [3, 5, 7]) {
  for (const stride of [1, 2]) {
    const shape = { images: 2, channels: 19, size: [11, 13], kernel, stride, padding: kernel >> 1 } as const;
    const settings = { ...shape, bias: true, direct: true };
    compare(JSON.stringify(settings), await runDepthwise(settings), await runDepthwise(settings, 'float64'));
  }
}
process.stdout.write(JSON.stringify(distances));
