/**
 * Model files: one .safetensors with the weights and, in its metadata, everything needed to run them without the
 * model's source. Files are untrusted: graph, metadata and tensors are checked against each other before the
 * native core sees any of them.
 */
import { z } from 'zod';

import { GraphError, WeightsError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { validateGraph } from '../graph/validate.js';
import { writeSafetensors, type WrittenFile } from '../io/safetensors.js';
import { escapeControlCharacters } from '../io/control_characters.js';
import { readHeader } from '../io/safetensors_header.js';
import { checkJson } from '../io/strict_json.js';
import type { FileTensor, NativeTensor, OperatorSchema } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { fornaxVersion } from '../version.js';
import { infoSchema, type ModelInfo, type Preprocessing } from './info.js';
import { MODEL_FORMAT_VERSION, upgradeMetadata, type RawMetadata } from './migrations.js';
import { schemaDifference, schemasOf, type StoredSchema } from './schemas.js';

/** Far above what a graph or a preprocessing needs, far below what exhausts a stack. */
const MAX_DEPTH = 100;

const operatorsSchema = z.record(
  z.string(),
  z.strictObject({ arguments: z.array(z.string()), returns: z.array(z.string()) }),
);

export interface ModelFileHeader {
  graph: Graph;
  info: ModelInfo;
  /** Versions of the writer. */
  torchVersion: string;
  fornaxVersion: string;
  tensors: FileTensor[];
}

/** Writes a model file, with tensors in the order of the graph's parameters. Options: those of `writeSafetensors`. */
export async function writeModelFile(
  file: string,
  graph: Graph,
  state: readonly { name: string; tensor: NativeTensor }[],
  info: ModelInfo,
  options?: { atomic?: boolean },
): Promise<WrittenFile> {
  const addon = loadAddon();
  const checked = checkInfo(info, file, "the model's");
  const metadata: RawMetadata = {
    // What Hugging Face's tools look for.
    format: 'pt',
    format_version: String(MODEL_FORMAT_VERSION),
    fornax_version: fornaxVersion(),
    torch_version: addon.systemInfo().torch_version,
  };
  for (const key of Object.keys(infoSchema.shape) as (keyof ModelInfo)[])
    if (checked[key] !== undefined) metadata[key] = JSON.stringify(checked[key]);
  metadata.graph = JSON.stringify(graph);
  metadata.operators = JSON.stringify(schemasOf(graph, (op) => addon.operatorSchema(op)));
  const tensors = state.map(({ name, tensor }) => [name, tensor] as const);
  return writeSafetensors(file, tensors, metadata, options);
}

/**
 * Reads and checks everything but the weights' values.
 *
 * @throws WeightsError for a damaged, newer or contradictory file; GraphError for a graph that is not valid.
 */
export async function readModelHeader(file: string): Promise<ModelFileHeader> {
  const { tensors, metadata } = await readHeader(file);
  return parseModelHeader(metadata, tensors, file, (op) => loadAddon().operatorSchema(op));
}

/** The part of `readModelHeader` after the file is read. `lookUp` finds the schemas of the libtorch at hand. */
function parseModelHeader(
  raw: RawMetadata,
  tensors: FileTensor[],
  where: string,
  lookUp: (op: string) => OperatorSchema | null,
): ModelFileHeader {
  const metadata = upgradeMetadata(raw, where);
  const read = (key: string): unknown => {
    const text = Object.hasOwn(metadata, key) ? metadata[key]! : undefined;
    if (text === undefined) throw new WeightsError({ what: `the model file lacks its '${key}'`, where });
    try {
      const value: unknown = JSON.parse(text);
      checkJson(text, { maxDepth: MAX_DEPTH });
      return value;
    } catch (error) {
      throw new WeightsError({
        what: escapeControlCharacters(
          `the '${key}' of the model file is not sound JSON (${(error as Error).message})`,
        ),
        where,
        cause: error,
      });
    }
  };

  const info = checkInfo(
    Object.fromEntries(
      Object.entries(infoSchema.shape)
        .filter(([key, schema]) => Object.hasOwn(metadata, key) || !schema.isOptional())
        .map(([key]) => [key, read(key)]),
    ),
    where,
    "the model file's",
  );
  const operators = operatorsSchema.safeParse(read('operators'));
  if (!operators.success)
    throw new WeightsError({ what: "the model file's 'operators' are not valid", where });

  const graph = validateGraph(read('graph'), { source: where });
  checkOperators(graph, operators.data, metadata.torch_version ?? 'unknown', where, lookUp);
  checkTensors(graph, tensors, where);
  return {
    graph,
    info,
    torchVersion: metadata.torch_version ?? 'unknown',
    fornaxVersion: metadata.fornax_version ?? 'unknown',
    tensors,
  };
}

function checkInfo(info: unknown, where: string, whose: string): ModelInfo {
  const checked = infoSchema.safeParse(info);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0]!;
  const key = escapeControlCharacters(issue.path.join('.'));
  throw new WeightsError({
    what: `${whose} '${key}' is not valid: ${escapeControlCharacters(issue.message)}`,
    where,
  });
}

function checkOperators(
  graph: Graph,
  stored: Record<string, StoredSchema>,
  torchVersion: string,
  where: string,
  lookUp: (op: string) => OperatorSchema | null,
): void {
  for (const op of new Set(graph.nodes.map((node) => node.op))) {
    const before = Object.hasOwn(stored, op) ? stored[op] : undefined;
    if (!before)
      throw new WeightsError({ what: `the model file lacks the schema of the operator '${op}'`, where });
    const present = lookUp(op);
    const difference = present ? schemaDifference(before, present) : 'it does not exist here';
    if (difference !== null) {
      throw new GraphError({
        what: escapeControlCharacters(
          `the operator '${op}' is not what it was when the model was written with libtorch ${torchVersion}: ${difference}`,
        ),
        where,
        fix: 'use the libtorch the model was written with, or write the model again',
      });
    }
  }
}

/** Every parameter of the graph is in the file with its shape and dtype, and nothing else. */
function checkTensors(graph: Graph, tensors: readonly FileTensor[], where: string): void {
  const inFile = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  for (const { name, shape, dtype } of graph.parameters) {
    const found = inFile.get(name);
    if (!found) throw new WeightsError({ what: `the model file lacks the tensor '${name}'`, where });
    inFile.delete(name);
    if (found.shape.join() !== shape.join() || found.dtype !== dtype) {
      throw new WeightsError({
        what: `the tensor '${name}' is ${found.dtype} [${found.shape.join(', ')}] in the file, but ${dtype} [${shape.join(', ')}] in its graph`,
        where,
      });
    }
  }
  const [unexpected] = inFile.keys();
  if (unexpected !== undefined) {
    throw new WeightsError({
      what: `the model file holds the tensor '${escapeControlCharacters(unexpected)}', which its graph does not`,
      where,
    });
  }
}

/**
 * The preprocessing that a file of weights states, or null if it states none (not every safetensors file is a
 * model file).
 *
 * @throws WeightsError if the file cannot be read.
 */
export async function readPreprocessing(file: string): Promise<Preprocessing | null> {
  const { metadata } = await readHeader(file);
  if (!Object.hasOwn(metadata, 'format_version')) return null;
  return (await readModelHeader(file)).info.preprocessing;
}
