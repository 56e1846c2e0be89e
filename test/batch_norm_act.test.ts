/** Batch norm fused with what follows it, against the separate operators in double precision. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DType } from '#fornax/graph/format.js';
import { BatchNorm2d, functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import { fillInput } from './conformance/fill.js';
import { Probe, runProbe, type Activation, type ProbeSettings } from './support/batch_norm_probe.js';
import { assertNear, runModule, type ProbeResult } from './support/graph_probe.js';

async function assertExact(settings: ProbeSettings, tolerance = 2e-5, steps = 1): Promise<void> {
  const expected = await runProbe(settings, { type: 'float64', steps });
  const separate = await runProbe(settings, { fuse: false, steps });
  const what = JSON.stringify(settings);
  assertNear(separate, expected, 4 * tolerance, `separately, ${what}`);
  assertNear(await runProbe(settings, { steps }), expected, tolerance, what);
}

const shape = [4, 24, 7, 5];

/** One batch norm for two inputs. What follows the second one comes first. */
class Siamese extends Module {
  readonly x: Parameter;
  readonly bn = new BatchNorm2d(24, { affine: false });

  constructor(
    private readonly form: 'apart' | 'added',
    type: DType,
  ) {
    super();
    this.x = new Parameter(shape, { kind: 'constant', value: 0 }, type);
  }

  forward(_image: Tensor): Tensor {
    const first = this.bn.forward(this.x);
    const second = F.relu(this.bn.forward(this.x.mul(2).add(1)));
    return this.form === 'apart' ? F.relu6(first).add(second) : F.relu6(first.add(second));
  }
}

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

  it('holds for every number of rows', async () => {
    for (const [images, height, width] of [
      [2, 1, 1],
      [1, 1, 2],
      [3, 1, 1],
      [1, 5, 1],
      [7, 1, 9],
      [1, 31, 33],
    ] as const) {
      for (const channels of [1, 5, 16, 48]) {
        await assertExact(
          { shape: [images, channels, height, width], activation: 'relu', residual: 'first' },
          1e-4,
        );
      }
    }
  });

  it('works without weights, without statistics, on two dimensions and in the other memory format', async () => {
    await assertExact({ shape, activation: 'relu', affine: false });
    await assertExact({ shape, activation: 'silu', tracked: false, mode: 'eval' });
    await assertExact({ shape: [40, 24], activation: 'hardswish' });
    await assertExact({ shape, activation: 'relu6', residual: 'second', channelsLast: false });
  });

  it('averages statistics cumulatively where there is no momentum', async () => {
    await assertExact({ shape, momentum: null }, 2e-5, 3);
    await assertExact({ shape, momentum: 0.3 }, 2e-5, 3);
  });

  it('loses nothing to a mean that is large against the deviation', async () => {
    const settings = { shape: [8, 20, 16, 16], activation: 'none', mean: 1000 } as const;
    const expected = await runProbe(settings, { type: 'float64' });
    // The input itself is rounded to 1000 · 2⁻²⁴ = 6e-5 of its deviation.
    assertNear(await runProbe(settings), expected, 3e-4, 'mean 1000');
  });

  it('reads and writes bfloat16, with statistics in single precision', async () => {
    for (const activation of ['relu', 'silu'] as const) {
      for (const result of ['bfloat16', 'float32'] as const) {
        const settings = { shape, activation, input: 'bfloat16', result } as const;
        const expected = await runProbe(settings, { type: 'float64' });
        const actual = await runProbe(settings);
        assertNear(actual, expected, 1e-2, JSON.stringify(settings));
        assertNear(
          { ...actual, output: expected.output, gradients: expected.gradients },
          expected,
          1e-6,
          'statistics',
        );
      }
    }
    await assertExact({ shape, activation: 'relu', result: 'bfloat16' }, 1e-2);
  });

  it('passes on what is not a number', async () => {
    const settings = { shape, activation: 'relu', mean: NaN } as const;
    const { output } = await runProbe(settings);
    assert.ok(output.every(Number.isNaN));
  });

  it('has the derivatives of libtorch where an activation bends', async () => {
    const corners = [-3, 3, 0, 6, -0.5, 0.75, -7, 1];
    const settings = { shape: [1, corners.length, 1, 1], mode: 'eval' } as const;
    for (const activation of all) {
      // With x = mean = 0 the activation is taken at the very bias, whose gradient is then its derivative.
      const run = (fuse: boolean): Promise<ProbeResult> =>
        runModule((type) => new Probe({ ...settings, activation }, type), {
          ...settings,
          fuse,
          values: (name, count) => {
            if (name === 'bias') return Float32Array.from(corners);
            return new Float32Array(count).fill(name === 'x' || name === 'running_mean' ? 0 : 1);
          },
        });
      const expected = await run(false);
      assertNear(await run(true), expected, 1e-6, activation);
      if (activation === 'relu6') assert.deepEqual([...expected.gradients['bias']!].slice(1, 4), [1, 0, 0]);
      if (activation === 'hardswish') assert.deepEqual([...expected.gradients['bias']!].slice(0, 2), [0, 1]);
    }
  });

  it('passes no gradient where a bound that bfloat16 does not have was reached', async () => {
    const biases = [-2, 2, 0.1, -0.69];
    const settings = { shape: [1, 4, 1, 1], mode: 'eval', residual: 'first', result: 'bfloat16' } as const;
    const { gradients } = await runModule(
      (type) => new Probe({ ...settings, activation: 'hardtanh_0.7' }, type),
      {
        ...settings,
        values: (name, count) => {
          if (name === 'bias') return Float32Array.from(biases);
          return new Float32Array(count).fill(/x|residual|mean/.test(name) ? 0 : 1);
        },
      },
    );
    assert.deepEqual([...gradients['bias']!], [0, 0, 1, 1]);
    assert.deepEqual([...gradients['residual']!], [0, 0, 1, 1]);
  });

  it('leaves the order of batch norms that move the same statistics', async () => {
    for (const form of ['apart', 'added'] as const) {
      const run = (fuse: boolean): Promise<ProbeResult> =>
        runModule((type) => new Siamese(form, type), {
          shape,
          fuse,
          values: (name, count) => fillInput(count, name.length),
        });
      const expected = await run(false);
      assertNear(await run(true), expected, 1e-5, form);
    }
  });

  it('gives the same bits in every run', async () => {
    const settings = { shape: [16, 24, 24, 24], activation: 'silu', threads: 2 } as const;
    const first = await runProbe(settings);
    for (let run = 0; run < 5; run++) assert.deepEqual(await runProbe(settings), first);
  });

  it('computes the same with every instruction set', () => {
    for (const capability of ['default', 'avx2', 'avx512']) {
      const child = fileURLToPath(new URL('./support/kernel_child.js', import.meta.url));
      const { status, stdout, stderr } = spawnSync(process.execPath, [child], {
        encoding: 'utf8',
        env: { ...process.env, ATEN_CPU_CAPABILITY: capability },
      });
      assert.equal(status, 0, stderr);
      const distances = JSON.parse(stdout) as Record<string, number>;
      for (const [what, off] of Object.entries(distances)) {
        assert.ok(off < 2e-5, `${capability}: ${what} is off by ${off}`);
      }
      assert.ok(Object.keys(distances).length > 40);
      // Output and three gradients of six depthwise convolutions.
      assert.equal(Object.keys(distances).filter((name) => name.includes('kernel')).length, 24);
    }
  });
});
