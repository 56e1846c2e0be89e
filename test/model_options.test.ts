/** Every option that an architecture lists can be set, changes the model, and refuses what it says it refuses. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import type { OptionSpec } from '#fornax/models/architecture.js';
import { optionsOf } from '#fornax/models/options.js';
import { architectures, createModule } from '#fornax/models/registry.js';

/** Values other than the default: both ends of a range, every choice. */
function others(spec: OptionSpec): unknown[] {
  switch (spec.type) {
    case 'boolean':
      return [!spec.default];
    case 'choice':
      return spec.choices.filter((choice) => choice !== spec.default);
    case 'integers':
      return [[8, 16]];
    default: {
      const { min = 1, max = 2 * min + 1 } = spec;
      return [min, Math.min(max, 64)].filter((value) => value !== spec.default);
    }
  }
}

/** Values outside what the option takes. */
function wrong(spec: OptionSpec): unknown[] {
  switch (spec.type) {
    case 'boolean':
      return [1, 'true', null];
    case 'choice':
      return ['no such choice', null];
    case 'integers':
      return [[], [0], [1.5], 8];
    default:
      return ['1', NaN, Infinity, ...(spec.min === undefined ? [] : [spec.min - 1])];
  }
}

/** What tells two models apart: nodes, parameters and how these start. */
function description(name: string, side: number, options: Record<string, unknown>): string {
  const { nodes, parameters, outputs } = trace(createModule(name, options), {
    inputs: [[2, (options['inChannels'] as number | undefined) ?? 3, side, side]],
  });
  return JSON.stringify({ nodes, parameters, outputs });
}

/** Instead of the ends of the range: multiples of the side of a patch. */
const chosen: Record<string, unknown[]> = { imageSize: [64] };
/** Options without which another one changes nothing. */
const needed: Record<string, Record<string, unknown>> = { dropoutAux: { auxLogits: true } };

describe('options of architectures', () => {
  for (const architecture of architectures) {
    const { name, defaultResolution } = architecture;
    it(`of ${name}`, () => {
      const usual = description(name, defaultResolution, {});
      for (const [key, spec] of Object.entries(optionsOf(architecture))) {
        const defaults = spec.default === null ? {} : { [key]: spec.default };
        const same = description(name, defaultResolution, defaults) === usual;
        assert.ok(same, `${key} has another default`);
        for (const value of chosen[key] ?? others(spec)) {
          const changed = description(name, defaultResolution, { ...needed[key], [key]: value });
          assert.ok(changed !== usual, `${key}: ${JSON.stringify(value)} changes nothing`);
        }
        for (const value of wrong(spec)) {
          assert.throws(
            () => createModule(name, { [key]: value }),
            ArgumentError,
            `${key}: ${String(value)}`,
          );
        }
      }
    });
  }
});
