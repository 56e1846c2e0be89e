/** Every architecture of the zoo has the parameters and the state dict of its origin. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { architectures, createModule } from '#fornax/models/registry.js';

interface Published {
  name: string;
  parameters: number;
  /** SHA-256 of the names and shapes of the state dict; see published_models.py. */
  state: string;
  source: string;
  options?: Record<string, unknown>;
}

const { models: published } = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/published_models.json', import.meta.url), 'utf8'),
) as { models: Published[] };

/** Architectures without an origin whose code could say more. */
const own: Record<string, string> = {
  tiny_cnn: 'defined here, for tests and first steps',
  unet: 'the paper has no padding and no batch norm; counted by hand below',
  unet_tiny: 'as unet',
};

/** Of a U-Net: two 3×3 convolutions with batch norm each in a level, 2×2 transposed convolutions on the way up. */
function unetParameters(widths: readonly number[], classes: number): number {
  const level = (from: number, to: number): number => 9 * from * to + 2 * to + 9 * to * to + 2 * to;
  let count = widths[0]! * classes + classes;
  for (const [i, width] of [...widths, 2 * widths.at(-1)!].entries()) {
    count += level(i === 0 ? 3 : widths[i - 1]!, width);
    if (i > 0)
      count += 4 * width * widths[i - 1]! + widths[i - 1]! + level(2 * widths[i - 1]!, widths[i - 1]!);
  }
  return count;
}

function parametersOf(name: string, options?: Record<string, unknown>): number {
  const parameters = [...createModule(name, options).parameters()];
  return parameters.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0);
}

describe('published models', () => {
  for (const { name, options = {}, parameters, state, source } of published) {
    it(`${[name, ...Object.keys(options)].join(' with ')} is that of ${source}`, () => {
      const module = createModule(name, options);
      const entries = [...module.namedState()].map(({ name: key, tensor }) => [key, tensor.dims]);
      assert.equal(parametersOf(name, options), parameters);
      assert.equal(createHash('sha256').update(JSON.stringify(entries)).digest('hex'), state);
    });
  }

  it('are compared for every architecture that is not our own', () => {
    const compared = new Set(published.map(({ name }) => name));
    const missing = architectures.filter(({ name }) => !compared.has(name) && !Object.hasOwn(own, name));
    assert.deepEqual(
      missing.map(({ name }) => name),
      [],
      'add them to test/fixtures/published_models.py, or to the list of our own with the reason',
    );
  });

  it('agree with a count by hand for the U-Nets', () => {
    assert.equal(parametersOf('unet', { numClasses: 12 }), unetParameters([16, 32, 64, 128], 12));
    assert.equal(parametersOf('unet_tiny', { numClasses: 3 }), unetParameters([8, 16, 32, 64], 3));
    assert.ok(unetParameters([8, 16, 32, 64], 21) < 5e6);
  });

  it('have names of their own', () => {
    const names = architectures.map(({ name }) => name);
    assert.deepEqual(names, [...new Set(names)]);
    for (const name of Object.keys(own)) assert.ok(names.includes(name), name);
  });
});
