/** Small native graphs, traced or written by hand, and tensors to run them on. */
import assert from 'node:assert/strict';
import type { Graph, GraphNode } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import type { Module } from '#fornax/nn/index.js';

const addon = loadAddon();

export function tensor(values: number[], shape: number[]): NativeTensor {
  return addon.Tensor.fromTypedArray(Float32Array.from(values), shape);
}

export function values(result: NativeTensor | undefined): number[] {
  assert.ok(result);
  return Array.from(result.toTypedArray() as Float32Array);
}

export function ramp(shape: number[]): NativeTensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Array.from({ length: count }, (_, i) => Math.sin(i)),
    shape,
  );
}

/** The module traced with an input `x` of this shape, and its weights drawn. */
export function nativeGraph(module: Module, shape: number[]): NativeGraph {
  const graph = trace(module, { inputs: [{ name: 'x', shape }] });
  const native = new addon.Graph(graph, { trusted: true });
  native.initialize(3);
  return native;
}

/** A graph of hand-written nodes over one input in slot 0; the last node's first slot is the output. */
export function graphOf(nodes: GraphNode[], slots: number, extra: Partial<Graph> = {}): Graph {
  const last = nodes.at(-1)?.outs[0] ?? 0;
  return {
    format_version: 1,
    slots,
    inputs: [{ name: 'x', slot: 0 }],
    outputs: [{ name: 'output', slot: last }],
    parameters: [],
    nodes,
    guards: [],
    ...extra,
  };
}

export const relu = (from: number, to: number): GraphNode => ({
  op: 'aten::relu',
  path: `relu${to}`,
  args: [{ slot: from }],
  outs: [to],
});
