/** Every architecture takes any number of classes and channels, and any size that it was not made for. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GuardError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import { summarizeStateless } from '#fornax/graph/stateless.js';
import type { Summary } from '#fornax/graph/summary.js';
import { trace } from '#fornax/graph/trace.js';
import type { Architecture } from '#fornax/models/architecture.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import type { Module } from '#fornax/nn/index.js';

/** Smaller ones for the networks made for 32²; the last is neither square nor even. */
// prettier-ignore
const large = [[224, 224], [256, 256], [320, 320], [512, 512], [301, 257]];
// prettier-ignore
const small = [[32, 32], [64, 64], [45, 33], ...large];
const classes = 7;

/** The outputs for an image, from a trace for another size where its guards allow, else from a new one. */
function outputs(module: Module, graph: Graph, image: number[]): Summary['outputs'] {
  try {
    return summarizeStateless(graph, [image]).outputs;
  } catch (error) {
    if (!(error instanceof GuardError)) throw error;
    return summarizeStateless(trace(module, { inputs: [image] }), [image]).outputs;
  }
}

function check({ task }: Architecture, found: Summary['outputs'], [height, width]: number[]): void {
  const shapes = found.map(({ shape }) => shape);
  if (task === 'classification') assert.deepEqual(shapes, [[2, classes]]);
  else if (task === 'segmentation') for (const s of shapes) assert.deepEqual(s, [2, classes, height, width]);
  else {
    // Strides 8, 16 and 32 with two anchors each; boxes, scores and ten landmark coordinates.
    const anchors = [8, 16, 32].map((stride) => 2 * Math.ceil(height! / stride) * Math.ceil(width! / stride));
    const count = anchors.reduce((a, b) => a + b, 0);
    assert.deepEqual(
      shapes.map((s) => s.slice(0, 2)),
      shapes.map(() => [2, count]),
    );
  }
}

describe('any resolution', () => {
  for (const architecture of architectures) {
    const { name, defaultResolution: side } = architecture;
    it(`of ${name}, with ${classes} classes and one channel`, () => {
      const module = createModule(name, { numClasses: classes, inChannels: 1 });
      const graph = trace(module, { inputs: [[2, 1, side, side]] });
      const attends = /^(vit|swin)_/.test(name);
      if (architecture.task === 'classification' && !attends) {
        assert.deepEqual(graph.guards, [], 'one trace serves every size');
      }
      for (const size of side <= 64 ? small : large) {
        check(architecture, outputs(module, graph, [2, 1, ...size]), size);
      }
    });
  }
});
