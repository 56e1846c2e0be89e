/** The conformance runner against spoilt copies of segmentation.json; conformance_golden.test.ts runs the file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conform, spoilt, type Json } from './support/golden.js';

const smallest = 'lraspp_mobilenet_v3_large';

const changes: Record<string, (model: Json, golden: Json) => void> = {
  'a name in the state dict': (m) => (m.state[3][0] = 'backbone.0.1.mean'),
  'a value': (m) => (m.eval[0].out.values[9] += 2e-3 * m.eval[0].out.std),
  'a place of a value': (m) => (m.eval[0].out.at[9] += 1),
  'the deviation': (m) => (m.eval[0].out.std *= 1.002),
  'a count of pixels': (m) => (m.eval[0].out.argmax_histogram[7] += 20),
  'the shape of an output': (m) => (m.eval[0].out.shape = [1, 21, 96, 127]),
  'an output that the model does not have': (m) => (m.eval[0].aux = m.eval[0].out),
  'the loss': (m) => (m.train.loss *= 1 + 2e-4),
  'the norm of one gradient': (m) => (m.train.grad_norms['classifier.high_classifier.bias'] *= 0.98),
  'the targets': (m) => (m.train.target = m.train.target.replace('999961', '999962')),
  'what is ignored': (m) => (m.train.target = m.train.target.replace('255', '20')),
  'a rule of targets that is not understood': (m) => (m.train.target = 'j mod 21'),
  'a field that nobody knows': (m) => (m.train.accuracy = 0.5),
  'the number of classes': (_, g) => (g.conventions = g.conventions.replace('21 classes', '20 classes')),
};

for (const [what, change] of Object.entries(changes)) {
  test(`the runner notices in a segmentation file: ${what}`, async () => {
    const file = spoilt('segmentation.json', (golden) => {
      const model = golden.models[smallest];
      model.eval.length = 1;
      change(model, golden);
    });
    const { failed, ok, lines } = await conform(file, [smallest]);
    assert.equal(failed, 1, lines.join('\n'));
    assert.equal(ok, false);
  });
}

test('another weight of the auxiliary loss is another loss', async () => {
  const file = spoilt('segmentation.json', (golden) => {
    golden.conventions = golden.conventions.replace('0.5 on aux', '0.4 on aux');
    golden.models.deeplabv3_resnet50.eval.length = 1;
  });
  const { failed, lines } = await conform(file, ['deeplabv3_resnet50']);
  assert.equal(failed, 1);
  assert.match(lines.join('\n'), /train\.loss: /);
});

test('conventions that are not understood fail the file', async () => {
  const file = spoilt('segmentation.json', (golden) => (golden.conventions = '21 classes'));
  const { failed, lines } = await conform(file, [smallest]);
  assert.ok(failed >= 1);
  assert.match(lines.join('\n'), /conventions: must contain/);
});
