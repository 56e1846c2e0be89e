/**
 * Every entry of every golden file against Fornax. What is run is compared with the keys of the file, so that no entry
 * stays out unseen. One at a time: the largest models take 2 GB.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { whyNoData } from './support/data.js';
import { conform, entriesOf, goldenFiles, goldenFolder, passedOf } from './support/golden.js';

const { known, waiting } = goldenFiles();
const noData = whyNoData('weights') || whyNoData('wider');
/** Entries that need published weights or photographs, which are not part of the sources. */
const needsData = (file: string, entry: string): boolean =>
  file === 'faces.json' && !/^training\/(priors|match|quirks)|FeatherFace_CBAM_filled$/.test(entry);

test('the golden files are those of the kinds that can be run', () => {
  const expected = ['faces', 'losses', 'metrics', 'segmentation', 'torchvision', 'training'];
  const names = known.map((name) => name.replace('.json', ''));
  assert.deepEqual(
    expected.filter((name) => !names.includes(name)),
    [],
  );
  assert.equal(entriesOf('torchvision.json').length, 25);
});

for (const file of waiting) test(file, { skip: 'no module for its kind yet (test/conformance/kinds.ts)' });

for (const file of known) {
  describe(file, () => {
    const entries = entriesOf(file);
    const ran: string[] = [];
    for (const entry of entries) {
      test(entry, { skip: needsData(file, entry) && noData }, async () => {
        const outcome = await conform(join(goldenFolder, file), [entry]);
        const { passed, failed, unknown, lines } = outcome;
        assert.deepEqual({ passed, failed, unknown }, { passed: 1, failed: 0, unknown: 0 }, lines.join('\n'));
        ran.push(...passedOf(outcome));
      });
    }
    test('has no entry that was not run', () => {
      const expected = entries.filter((entry) => !(noData && needsData(file, entry)));
      assert.deepEqual(ran, expected);
    });
  });
}
