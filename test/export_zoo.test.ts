/**
 * Every architecture has a form in every format: those that walk the graph are asked for each, and one of each family
 * is written, read again and compared. `npm run conformance:export` does that for all (docs/export.md has the result).
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { freeDimensions } from '#fornax/export/dimensions.js';
import { exporters } from '#fornax/export/exporters.js';
import { exportFormats, type ExportSource } from '#fornax/export/format.js';
import { lower } from '#fornax/export/lower.js';
import { trace } from '#fornax/graph/trace.js';
import { architectures, createModule, findArchitecture } from '#fornax/models/registry.js';
import { Tensor } from '#fornax/tensor.js';

import { sweepOne } from './conformance/export_sweep.js';

/** As exportSource makes it, but with weights that nobody has written, and nothing here reads. */
function sourceOf(name: string, side: number): ExportSource {
  const shape = [1, 3, side, side];
  const graph = trace(createModule(name, { numClasses: 5 }), { inputs: [{ name: 'image', shape }] });
  const lowered = lower(graph);
  const input = { name: 'image', shape, dtype: 'float32' as const };
  const [dims] = freeDimensions(lowered, [input]);
  const info = {
    name,
    task: 'classification',
    labels: [],
    inputs: [input],
    preprocessing: null,
    provenance: {},
    metrics: {},
  };
  return {
    graph: lowered,
    state: lowered.parameters.map(({ name: entry, kind, shape: dims, dtype }) => ({
      name: entry,
      kind,
      tensor: Tensor.call('aten::empty.memory_format', dims, { dtype })[0]!.native,
    })),
    constants: new Set(),
    inputs: [{ ...input, dims: dims! }],
    guards: [],
    info,
    original: { graph, info },
  };
}

describe('every architecture has a form in every format', () => {
  for (const { name, defaultResolution } of architectures) {
    it(name, () => {
      const source = sourceOf(name, defaultResolution);
      assert.equal(source.inputs[0]!.dims[0], 'batch');
      for (const format of exportFormats) {
        assert.equal(exporters[format].unsupported(source), null, format);
      }
      for (const { tensor } of source.state) tensor.dispose();
    });
  }
});

describe('written, read again and compared', () => {
  const names = [
    'tiny_cnn',
    'resnet20',
    'vgg11_bn_cifar',
    'squeezenet1_1',
    'mobilenetv1_025',
    'mobilenet_v2',
    'mobilenet_v3_small',
    'efficientnet_b0',
    'shufflenet_v2_x0_5',
    'mnasnet0_5',
    'regnet_y_400mf',
    'unet_tiny',
    'lraspp_mobilenet_v3_large',
    'retinaface_mobilenet025',
    'featherface_eca_cbam',
  ];
  for (const name of names) {
    it(name, async () => {
      const row = await sweepOne(findArchitecture(name), exportFormats);
      for (const format of exportFormats)
        assert.equal(typeof row.formats[format], 'number', String(row.formats[format]));
    });
  }
});
