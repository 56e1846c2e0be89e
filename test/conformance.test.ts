/** The conformance runner against spoilt copies of the golden files; conformance_golden.test.ts runs the files. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { conform, goldenFolder, spoilt, temporaryGolden, type Json } from './support/golden.js';

const mainScript = fileURLToPath(new URL('./conformance/main.js', import.meta.url));

const resnet18Changes: Record<string, (model: Json) => void> = {
  'a name in the state dict': (m) => (m.state[3][0] = 'bn1.mean'),
  'a shape in the state dict': (m) => (m.state[0][1] = [64, 3, 7, 5]),
  'a dtype in the state dict': (m) => (m.state[5][2] = 'int32'),
  'a missing entry of the state dict': (m) => m.state.pop(),
  'the number of parameters': (m) => (m.parameters += 1),
  'a logit': (m) => (m.eval.logits16[7] += 2e-3 * m.eval.std),
  'the mean of the logits': (m) => (m.eval.mean += 2e-3 * m.eval.std),
  'the deviation of the logits': (m) => (m.eval.std *= 1.002),
  'the largest logit': (m) => (m.eval.argmax = 3),
  'the loss': (m) => (m.train.loss *= 1 + 2e-4),
  'the norm of all gradients': (m) => (m.train.grad_norm *= 1.02),
  'the norm of one gradient': (m) => (m.train.grad_norms['fc.bias'] *= 0.98),
  'the gradient of a parameter that does not exist': (m) => (m.train.grad_norms['fc.scale'] = 1),
  'a running mean': (m) => (m.train.last_running_mean[1][2] += 1e-3),
  'the name of the last running mean': (m) => (m.train.last_running_mean[0] = 'bn1.running_mean'),
  'no running mean': (m) => (m.train.last_running_mean = null),
  'an input': (m) => (m.train.input_t += 1),
  'a target': (m) => (m.train.targets[0] += 1),
  'a gain of the convolutions': (m) => (m.conv_gain = 0.9),
  'a field that nobody knows': (m) => (m.train.accuracy = 0.5),
  'a missing field': (m) => delete m.eval.mean,
  'a list without values': (m) => (m.eval.logits16 = []),
  'a missing deviation': (m) => delete m.dev.loss,
};

for (const [what, change] of Object.entries(resnet18Changes)) {
  test(`the runner notices in a classification file: ${what}`, async () => {
    const file = spoilt('torchvision.json', ({ models }) => change(models.resnet18));
    const { failed, ok, lines } = await conform(file, ['resnet18']);
    assert.equal(failed, 1, lines.join('\n'));
    assert.equal(ok, false);
    assert.match(lines[0]!, /^failed {2}torchvision\.json resnet18: /);
  });
}

const sgdChanges: Record<string, (run: Json) => void> = {
  'a loss': (c) => (c.losses[11] *= 1 + 2e-4),
  'a rate': (c) => (c.lrs[3] += 2e-9),
  'a sum of the state': (c) => (c.state['conv1.weight'][0] += 0.01),
  'a norm of the state': (c) => (c.state['fc.bias'][1] *= 1.002),
  'an entry of the state that does not exist': (c) => (c.state['fc.scale'] = [1, 1]),
  'a missing entry of the state': (c) => delete c.state['bn2.bias'],
  'a logit': (c) => (c.eval_logits0[19] += 2e-3 * Math.max(...c.eval_logits0.map(Math.abs))),
  'a missing logit': (c) => c.eval_logits0.splice(9, 1),
  'a gradient norm': (c) => (c.grad_norms = c.losses.map(() => 1)),
  'another learning rate': (c) => (c.settings.optimizer.lr = 0.06),
  'another number of epochs': (c) => (c.epochs = 2),
  'a setting that nobody knows': (c) => (c.settings.lookahead = true),
  'an option of the optimizer that nobody knows': (c) => (c.settings.optimizer.beta = 0.9),
  'a field that nobody knows': (c) => (c.accuracy = 1),
};

for (const [what, change] of Object.entries(sgdChanges)) {
  test(`the runner notices in a training file: ${what}`, async () => {
    const file = spoilt('training.json', ({ cases }) => change(cases.sgd));
    const { failed, ok, lines } = await conform(file, ['sgd']);
    assert.equal(failed, 1, lines.join('\n'));
    assert.equal(ok, false);
  });
}

const fileChanges: Record<string, (golden: Json) => void> = {
  'a field that nobody knows': (g) => (g.extra = 1),
  'no rule for a field': (g) => (g.tolerance = g.tolerance.replace('losses', 'loss')),
  'a rule without a number': (g) => (g.tolerance = g.tolerance.replace(/losses[^;]*/, 'losses close')),
  'tighter rules': (g) => (g.tolerance = g.tolerance.replaceAll(/max\([^)]*\)/g, 'max(1e-12, 0 dev)')),
  'other samples': (g) => (g.data.x_t += 1),
  'other labels': (g) => (g.data.y = 'i*3 mod 10'),
  'labels by a rule that is not understood': (g) => (g.data.y = 'i*i mod 10'),
  'a wrong number of samples': (g) => (g.data.n = 63),
  'another stride': (g) => (g.net = g.net.replace('stride 2', 'stride 1')),
};

for (const [what, change] of Object.entries(fileChanges)) {
  test(`the runner notices in the head of a file: ${what}`, async () => {
    const { ok, failed, lines } = await conform(spoilt('training.json', change), ['sgd']);
    assert.ok(!ok && failed >= 1, lines.join('\n'));
  });
}

test('a wider net is run from its description', async () => {
  const file = spoilt('training.json', (golden) => {
    golden.net = golden.net.replaceAll('32', '24');
    golden.data.x_shape = [64, 3, 12, 20];
  });
  const { failed, lines } = await conform(file, ['sgd']);
  // It trains, and differs from the results of the file's own net.
  assert.equal(failed, 1);
  assert.match(lines[0]!, /71 values/);
});

test('what cannot be run is unknown, and fails the run unless it is allowed', async () => {
  const unknown: [string, (golden: Json) => void, string][] = [
    ['torchvision.json', (g) => (g.kind = 'poetry'), 'resnet18'],
    ['torchvision.json', (g) => (g.models.resnet19 = g.models.resnet18), 'resnet19'],
    ['training.json', (g) => (g.cases.sgd.settings.optimizer.name = 'sgdx'), 'sgd'],
    ['training.json', (g) => (g.cases.sgd.settings.schedule = { name: 'sawtooth' }), 'sgd'],
    ['training.json', (g) => (g.net = g.net.replace('relu', 'maxout')), 'sgd'],
  ];
  for (const [name, change, only] of unknown) {
    const outcome = await conform(spoilt(name, change), [only]);
    assert.deepEqual([outcome.unknown, outcome.passed], [1, 0], outcome.lines.join('\n'));
    assert.equal(outcome.ok, false);
  }
});

test('a file that is not a golden file and a name that selects nothing are failures', async () => {
  const broken = temporaryGolden('broken.json');
  for (const text of ['{', '[]', '{}', '{"kind": 3}', '{"kind": "training"}']) {
    writeFileSync(broken, text);
    const { ok, failed, lines } = await conform(broken);
    assert.deepEqual([ok, failed], [false, 1], `${text}: ${lines.join('\n')}`);
  }
  const missing = await conform(temporaryGolden('missing.json'));
  assert.deepEqual([missing.ok, missing.failed], [false, 1]);
  const misspelt = await conform(join(goldenFolder, 'training.json'), ['sdg']);
  assert.deepEqual([misspelt.ok, misspelt.failed, misspelt.passed], [false, 1, 0]);
});

test('the command exits with 1 on a miss and on something unknown, with 0 otherwise', () => {
  const run = (...args: string[]): { status: number | null; last: string } => {
    const { status, stdout } = spawnSync(process.execPath, [mainScript, ...args], { encoding: 'utf8' });
    return { status, last: stdout.trim().split('\n').at(-1)! };
  };
  const good = join(goldenFolder, 'training.json');
  assert.deepEqual(run(good, '--only', 'sgd'), { status: 0, last: '1 passed, 0 failed, 0 unknown' });
  const strange = spoilt('training.json', ({ cases }) => (cases.rmsprop.settings.optimizer.name = 'sgdx'));
  assert.deepEqual(run(strange, '--only', 'sgd,rmsprop'), {
    status: 1,
    last: '1 passed, 0 failed, 1 unknown',
  });
  assert.deepEqual(run(strange, '--only', 'sgd,rmsprop', '--allow-unknown'), {
    status: 0,
    last: '1 passed, 0 failed, 1 unknown',
  });
  const bad = spoilt('training.json', ({ cases }) => (cases.sgd.losses[0] += 1));
  assert.deepEqual(run(bad, '--only', 'sgd,adamw', '--allow-unknown'), {
    status: 1,
    last: '1 passed, 1 failed, 0 unknown',
  });
});

test('the command without a file runs all those whose kind is known', () => {
  const { status, stdout } = spawnSync(process.execPath, [mainScript, '--only', 'sgd,dice,classification'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stdout);
  for (const one of ['training.json sgd', 'losses.json dice', 'metrics.json classification'])
    assert.ok(stdout.includes(`passed  ${one}: `), stdout);
  assert.ok(stdout.endsWith('3 passed, 0 failed, 0 unknown\n'), stdout);
});

test('a spoilt figure or an unknown one of the metrics is found', async () => {
  const changes: ((golden: Json) => void)[] = [
    (g) => (g.classification.auroc_macro += 2e-5),
    (g) => (g.classification.confusion[2][3] += 1),
    (g) => (g.classification.per_class_f1[6] -= 2e-5),
    (g) => (g.classification.kappa = 0.5),
    (g) => (g.segmentation.iou_per_class[1] += 2e-5),
    (g) => (g.segmentation.ignore = 'v(j,5107) < 0.2 -> 255'),
  ];
  for (const change of changes) {
    const { failed, passed } = await conform(spoilt('metrics.json', change));
    assert.deepEqual({ failed, passed }, { failed: 1, passed: 1 }, String(change));
  }
});

test('a training file with other settings: uneven micro-batches, cosines beyond T_max, plateaus of the loss', async () => {
  const file = fileURLToPath(new URL('../../../test/fixtures/training_settings.json', import.meta.url));
  const { passed, failed, unknown, lines } = await conform(file);
  assert.deepEqual({ passed, failed, unknown }, { passed: 6, failed: 0, unknown: 0 }, lines.join('\n'));
});

test('a setting that the native core does not have is unknown, not ignored', async () => {
  const file = spoilt('training.json', ({ cases }) => (cases.lars.settings.optimizer.dampening = 0.1));
  const { unknown, lines } = await conform(file, ['lars']);
  assert.equal(unknown, 1, lines.join('\n'));
  assert.match(lines[0]!, /lars has no 'dampening'/);
});
