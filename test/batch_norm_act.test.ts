/** Batch norm fused with what follows it, against the separate operators in double precision. */
import { describe, it } from 'node:test';
import { runProbe, type Activation, type ProbeSettings } from './support/batch_norm_probe.js';
import { assertNear } from './support/graph_probe.js';

async function assertExact(settings: ProbeSettings, tolerance = 2e-5, steps = 1): Promise<void> {
  const expected = await runProbe(settings, { type: 'float64', steps });
  const separate = await runProbe(settings, { fuse: false, steps });
  const what = JSON.stringify(settings);
  assertNear(separate, expected, 4 * tolerance, `separately, ${what}`);
  assertNear(await runProbe(settings, { steps }), expected, tolerance, what);
}

const shape = [4, 24, 7, 5];
const all: Activation[] = ['none', 'relu', 'relu6', 'hardtanh', 'leaky_relu', 'silu', 'hardswish'];

describe('batch norm and activation in one operator', () => {
  for (const activation of all) {
    it(`computes ${activation} and all gradients in every mode`, async () => {
      for (const mode of ['train', 'eval', 'recompute'] as const) {
        await assertExact({ shape, activation, mode });
      }
    });

    it(`adds a residual before ${activation}`, async () => {
      await assertExact({ shape, activation, residual: 'first' });
      await assertExact({ shape, activation, residual: 'second', mode: 'eval' });
    });
  }

  it('holds for every number of channels', async () => {
    for (let channels = 1; channels <= 70; channels++) {
      await assertExact({ shape: [3, channels, 5, 3], activation: 'relu' });
    }
  });
});
