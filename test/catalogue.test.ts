/** The checked-in figures of the zoo: current, and equal to what torchvision publishes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { catalogue } from '#fornax/models/catalogue.js';
import { architectures, findArchitecture } from '#fornax/models/registry.js';
import { allCosts, catalogueSource, modelDocs, type Cost } from '../scripts/model_catalogue.js';

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

interface Published {
  name: string;
  /** 1e9 multiply-accumulates by resolution, with three decimals. */
  gmacs?: Record<string, number>;
}

describe('the catalogue of models', () => {
  let costs: Map<string, Cost>;
  before(() => {
    costs = allCosts();
  });

  it('is current (otherwise run `npm run catalogue`)', async () => {
    assert.deepEqual(catalogue, Object.fromEntries(costs));
    assert.equal(read('src/models/catalogue.ts'), await catalogueSource(costs));
    assert.equal(read('docs/models.md'), await modelDocs(costs));
  });

  it('has all architectures, at least 90', () => {
    assert.deepEqual(
      Object.keys(catalogue),
      architectures.map(({ name }) => name),
    );
    assert.ok(architectures.length >= 90);
  });

  const { models } = JSON.parse(read('test/fixtures/published_models.json')) as { models: Published[] };
  for (const { name, gmacs } of models) {
    if (gmacs === undefined) continue;
    it(`counts the multiply-accumulates of ${name} as torchvision does`, () => {
      const published = gmacs[String(findArchitecture(name).defaultResolution)];
      assert.ok(published !== undefined, 'published weights are of another resolution');
      assert.ok(Math.abs(costs.get(name)!.macs / 1e9 - published) < 6e-4);
    });
  }
});
