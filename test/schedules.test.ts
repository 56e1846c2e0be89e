/** Learning rates over the steps of a native training session, and what they depend on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WeightsError } from '#fornax/errors.js';
import type { ScheduleOptions } from '#fornax/native/contract.js';
import { assertClose, golden, goldenModel, openSession } from './support/training_golden.js';

test("schedules equal PyTorch's to 1e-9", () => {
  const model = goldenModel();
  const { base_lr: lr } = golden.schedules;
  const described: Record<string, (settings: Record<string, unknown>) => ScheduleOptions | null> = {
    cosine: (s) => ({
      name: 'cosine',
      lr,
      min_lr: s['eta_min'] as number,
      total_steps: s['T_max'] as number,
    }),
    one_cycle: (s) =>
      s['three_phase'] === true
        ? null
        : { name: 'one_cycle', max_lr: s['max_lr'] as number, total_steps: s['total_steps'] as number },
    linear_warmup_cosine: (s) => ({
      name: 'cosine',
      lr,
      total_steps: (s['warmup_steps'] as number) + (s['t_max'] as number),
      warmup_steps: s['warmup_steps'] as number,
      warmup_start: s['start_factor'] as number,
    }),
  };
  let compared = 0;
  for (const { settings, lrs } of golden.schedules.cases) {
    const schedule = described[settings.name]?.(settings);
    if (!schedule) continue;
    const session = openSession(model, { schedule });
    lrs.forEach((rate, i) => assertClose(session.learningRate(i), rate, 1e-9, `${settings.name} at ${i}`));
    session.dispose();
    compared++;
  }
  assert.equal(compared, 3);
});

test('after its end a schedule stays at its last rate; a cosine rises again', () => {
  const end = { lr: 0.1, min_lr: 0.001, total_steps: 20, warmup_steps: 4 };
  for (const name of ['polynomial', 'cosine'] as const) {
    const session = openSession(goldenModel(), { schedule: { name, ...end } });
    assertClose(session.learningRate(0), 0.001, 1e-12, 'first rate');
    assertClose(session.learningRate(4), 0.1, 1e-12, 'rate after the warm-up');
    assertClose(session.learningRate(20), 0.001, 1e-12, 'last rate');
    // As torch's CosineAnnealingLR behind T_max.
    const later = name === 'cosine' ? session.learningRate(20 - 5) : 0.001;
    assertClose(session.learningRate(20 + 5), later, 1e-12, `rate behind the end of ${name}`);
    session.dispose();
  }
});

test('a constant rate can be warmed up', () => {
  const schedule: ScheduleOptions = { name: 'constant', lr: 0.1, warmup_steps: 10, warmup_start: 0 };
  const session = openSession(goldenModel(), { schedule });
  assert.deepEqual(
    [0, 5, 10, 50].map((step) => session.learningRate(step)),
    [0, 0.05, 0.1, 0.1],
  );
  session.dispose();
});

test('schedules per epoch change at the ends of epochs, after the warm-up', () => {
  const session = openSession(goldenModel(), {
    schedule: {
      name: 'step',
      lr: 1,
      step_size: 2,
      gamma: 0.5,
      interval: 3,
      warmup_steps: 2,
      warmup_start: 0,
    },
  });
  const rates = Array.from({ length: 15 }, (_, step) => session.learningRate(step));
  assert.deepEqual(rates, [0, 0.5, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]);
  session.dispose();
});

test('the plateau schedule remembers what it has seen', () => {
  const schedule = { name: 'reduce_on_plateau', lr: 1, factor: 0.5, patience: 1 } as const;
  const first = openSession(goldenModel(), { schedule });
  for (const metric of [3, 2, 2]) first.observe(metric);
  const second = openSession(goldenModel(), { schedule });
  second.restore(first.snapshot(), 5);
  for (const session of [first, second]) {
    assert.equal(session.learningRate(5), 1);
    session.observe(2);
    assert.equal(session.learningRate(5), 0.5);
  }
  const other = openSession(goldenModel(), {});
  assert.throws(() => other.restore(first.snapshot(), 5), WeightsError);
  for (const session of [first, second, other]) session.dispose();
});
