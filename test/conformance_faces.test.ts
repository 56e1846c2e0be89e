/** The conformance runner against spoilt copies of faces.json; conformance_golden.test.ts runs the file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whyNoData } from './support/data.js';
import { conform, spoilt, type Json } from './support/golden.js';

const noData = whyNoData('weights') || whyNoData('wider');

const match = 'training/match/11_Meeting_Meeting_11_Meeting_Meeting_11_176.jpg';
const changes: Record<string, [only: string, change: (golden: Json) => void]> = {
  'the number of positives': [match, (g) => (g.training.match[1].positives += 1)],
  'an index': [match, (g) => (g.training.match[1].first_positives[4] += 2)],
  'a sum of targets': [match, (g) => (g.training.match[1].landm_t_sums[3] *= 1.001)],
  'a box': [match, (g) => (g.training.match[1].boxes_xywh[6][2] += 3)],
  'the faces under 0.2': [match, (g) => (g.training.match[1]['faces_best_overlap_under_0.2'] += 1)],
  'a target row': [match, (g) => (g.training.match[1].third_target_row[14] = 1)],
  'the match threshold': [match, (g) => (g.notes.targets = g.notes.targets.replace('0.35', '0.45'))],
  'which faces lack landmarks': [
    match,
    (g) => (g.notes.targets = g.notes.targets.replace('i mod 3 = 2', 'i mod 3 = 1')),
  ],
  'where landmarks are': [
    match,
    (g) => (g.notes.targets = g.notes.targets.replace('(0.5, 0.6)', '(0.5, 0.7)')),
  ],
  'the variances': [
    match,
    (g) => (g.notes.targets = g.notes.targets.replace('variances 0.1, 0.2', 'variances 0.1, 0.25')),
  ],
  'a face of the quirks': ['training/quirks', (g) => (g.training.quirks.boxes_pixels_of_640[1][0] = 300)],
  'a loss of the quirks': [
    'training/quirks',
    (g) => (g.training.quirks.losses_of_second_face_alone[1] = 0.1),
  ],
  'the size of the anchors': ['training/priors', (g) => (g.training.priors.first8_cx_cy_w_h[3][2] = 0.051)],
  'a sum of the anchors': ['training/priors', (g) => (g.training.priors.sums[1] += 0.1)],
  'a field that nobody knows': ['training/priors', (g) => (g.training.priors.clip = false)],
  'an entry of the state dict': [
    'models/FeatherFace_CBAM_filled',
    (g) => (g.models.FeatherFace_CBAM_filled.state[200][0] += '_'),
  ],
  'the number of channels': [
    'models/RetinaFace_mobilenet025',
    (g) => (g.models.RetinaFace_mobilenet025.out_channel = 56),
  ],
};

for (const [what, [only, change]] of Object.entries(changes)) {
  test(`the runner notices in a file of faces: ${what}`, async () => {
    const { failed, passed, ok, lines } = await conform(spoilt('faces.json', change), [only]);
    assert.deepEqual([failed, passed, ok], [1, 0, false], lines.join('\n'));
  });
}

test('the runner notices spoilt outputs, fills, losses and gradients of a network', async () => {
  const model = 'FeatherFace_CBAM_filled';
  const outputs: [string, (golden: Json) => void][] = [
    [`models/${model}`, (g) => (g.models[model].raw['320x256'].landm.spread[9] += 2e-3)],
    [`models/${model}`, (g) => (g.notes[model] = g.notes[model].replace('1 + 0.1 u', '1 + 0.2 u'))],
    [`training/losses/${model}`, (g) => (g.training.losses[model].f32.loss_c *= 1.002)],
    [
      `training/losses/${model}`,
      (g) => (g.training.losses[model].f32.grad_norms['ssh1.conv3X3.0.offset_conv.weight'] *= 1.02),
    ],
  ];
  for (const [only, change] of outputs) {
    const file = spoilt('faces.json', (g) => {
      change(g);
      delete g.models[model].raw['640x640'];
    });
    const { failed, passed, lines } = await conform(file, [only]);
    assert.deepEqual([failed, passed], [1, 0], lines.join('\n'));
  }
});

test('an image that is decoded to other pixels is unknown, not compared', { skip: noData }, async () => {
  const image = '12_Group_Group_12_Group_Group_12_51.jpg';
  const file = spoilt('faces.json', (g) => (g.pipeline[image].bgr_sha256 = '0'.repeat(64)));
  const { unknown, lines } = await conform(file, [`pipeline/${image}`]);
  assert.equal(unknown, 1, lines.join('\n'));
});

test('the runner notices another count of faces and a box that is off', { skip: noData }, async () => {
  const image = '12_Group_Group_12_Group_Group_12_51.jpg';
  const name = 'RetinaFace_mobilenet025';
  const spoil: ((found: Json) => void)[] = [
    (found) => (found.n50 += 1),
    (found) => (found.top[2][0] += 0.6),
    (found) => (found.top[2][4] -= 2e-3),
    (found) => (found.candidates = Math.round(found.candidates * 1.03)),
    (found) => (found.sum_scores += 0.1),
  ];
  for (const change of spoil) {
    const file = spoilt('faces.json', (g) => {
      const { [name]: found } = g.pipeline[image].models;
      g.pipeline[image].models = { [name]: found };
      change(found);
    });
    const { failed, lines } = await conform(file, [`pipeline/${image}`]);
    assert.equal(failed, 1, lines.join('\n'));
  }
});
