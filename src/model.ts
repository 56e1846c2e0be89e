/** The public model: a traced graph with its weights, and what is known about it. */
import { createHash } from 'node:crypto';

import { GuardError } from './errors.js';
import type { Graph } from './graph/format.js';
import { formatSummary } from './graph/format_summary.js';
import { summarize, type Summary } from './graph/summary.js';
import { trace } from './graph/trace.js';
import { canonicalJson } from './io/canonical_json.js';
import { createParts } from './model/create.js';
import { createPretrained } from './model/create_pretrained.js';
import { readModelHeader, writeModelFile } from './model/file.js';
import { normalizeOf, type ModelInfo } from './model/info.js';
import { loadedGuardError, nameInputs, specsOf } from './model/inputs.js';
import { lossAndGradients, type LossAndGradientsOptions } from './model/loss_and_gradients.js';
import { mayUpdate, modesOf } from './model/modes.js';
import { Sessions } from './model/sessions.js';
import { unwrap, wrap } from './model/tensors.js';
import type {
  CreateOptions,
  ForwardOptions,
  LossAndGradients,
  PretrainedModelOptions,
  StateEntry,
} from './model/types.js';
import type { OptionsOf } from './models/registry.js';
import type { InferenceOptions, NativeGraph, NativeInference, NativeTensor } from './native/contract.js';
import { loadAddon } from './native.js';
import type { Module } from './nn/index.js';
import { Tensor } from './tensor.js';
import { loadWeightsInto, type LoadWeightsOptions, type LoadWeightsReport } from './weights/load.js';

/** A model. Make one with `Model.create` or `Model.load`; free its memory with `dispose()` or `using`. */
export class Model {
  private readonly sessions: Sessions;
  private hash: string | null = null;

  private constructor(
    /** The graph as data. Replaced when the model is traced again for another size. */
    public graph: Graph,
    /** The handle of the native core; sessions are made from it. */
    readonly native: NativeGraph,
    public info: ModelInfo,
    private readonly source: Module | null,
  ) {
    this.sessions = new Sessions(native);
  }

  /**
   * Traces a module, or a model of the zoo by name, and draws its weights.
   *
   * @throws ConfigError for an unknown name, GraphError for a module that cannot be traced.
   */
  static create<Name extends string>(source: Module | Name, options?: CreateOptions<OptionsOf<Name>>): Model;
  static create(source: Module | string, options: CreateOptions = {}): Model {
    const { graph, native, info, module } = createParts(source, options);
    return new Model(graph, native, info, module);
  }

  /**
   * `create`, then weights that somebody has trained: from a file, from an address with its checksum, or by the
   * name under which they were published (`imagenet1k_v2`; default: the publisher's best). A name resolves in
   * the folder that FORNAX_WEIGHTS names, in the cache, or by a download. Labels and preprocessing of published
   * weights become the model's, unless given. The classifier stays as it was drawn if `numClasses` differs from
   * the file's; that and everything else that was done is passed to `onMessage`.
   *
   * @throws WeightsError if the weights cannot be found, fetched or read, or if they do not fit (listing names
   *   and shapes); `strict: false` loads what fits.
   */
  static async pretrained<Name extends string>(
    source: Module | Name,
    options?: PretrainedModelOptions<OptionsOf<Name>>,
  ): Promise<Model>;
  static async pretrained(source: Module | string, options: PretrainedModelOptions = {}): Promise<Model> {
    return createPretrained(source, options, (from, how) => Model.create(from, how));
  }

  /**
   * Loads a model file. Needs no source of the model, and trusts nothing in the file.
   *
   * @throws WeightsError if the file is missing, damaged or of a newer version; GraphError if its graph is not
   *   valid or uses operators that files may not use.
   */
  static async load(file: string): Promise<Model> {
    const header = await readModelHeader(file);
    const native = new (loadAddon().Graph)(header.graph, { trusted: false });
    try {
      await native.loadFile(file, header.tensors);
      return new Model(header.graph, native, header.info, null);
    } catch (error) {
      native.dispose();
      throw error;
    }
  }

  /**
   * Writes the model to a self-describing file, atomically.
   *
   * @param changes replace parts of `info` in the file.
   * @returns SHA-256 of the file.
   */
  async save(file: string, changes: Partial<ModelInfo> = {}): Promise<string> {
    const info = { ...this.info, ...changes };
    return (await writeModelFile(file, this.graph, this.native.state(), info)).sha256;
  }

  /**
   * Runs the model. A single tensor feeds the first input; uint8 images [N, H, W, C] are normalised as the
   * model's preprocessing says. In train mode batch norm updates its running statistics.
   *
   * If the input violates a guard (a size the trace was specialised for), the model is traced again from its
   * source and goes on; a loaded model has none.
   *
   * @returns outputs by name (`output` for a model that returns one tensor) and tapped modules by path.
   * @throws GuardError naming the guard, for a loaded model; ExecutionError naming the node; ArgumentError.
   */
  async forward(
    inputs: Tensor | readonly Tensor[] | Record<string, Tensor>,
    options: ForwardOptions = {},
  ): Promise<Record<string, Tensor>> {
    const named = nameInputs(
      inputs,
      this.graph.inputs.map(({ name }) => name),
    );
    const { taps, outputs, seed, device, threads } = options;
    const normalize = normalizeOf(this.info.preprocessing);
    const session: InferenceOptions = {
      device: device ?? 'cpu',
      ...(threads === undefined ? {} : { threads }),
      ...(normalize ? { normalize } : {}),
    };
    const run = {
      modes: modesOf(options.mode ?? 'eval', options.modes),
      ...(taps ? { taps } : {}),
      ...(outputs ? { outputs } : {}),
      ...(seed === undefined ? {} : { seed }),
    };
    const tensors = unwrap(named);
    const work = (native: NativeInference): Promise<Record<string, NativeTensor>> => {
      // A guard may stand behind a batch norm: found there, the statistics would be updated twice.
      if (this.graph.guards.length > 0 && mayUpdate(run.modes)) this.checkGuards(named);
      return native.forward(tensors, run);
    };
    try {
      return wrap(await this.sessions.shared(session, work));
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      if (!this.source) throw loadedGuardError(error, this.info.inputs);
    }
    return wrap(await this.sessions.afterChange(session, () => this.retrace(named), work));
  }

  /** @throws GuardError before anything is computed. Other faults of the inputs are for the run to report. */
  private checkGuards(inputs: Record<string, Tensor>): void {
    try {
      this.native.inferShapes(specsOf(inputs, this.info.inputs));
    } catch (error) {
      if (error instanceof GuardError) throw error;
    }
  }

  /** Traces the source again with the shapes of these inputs; weights stay. */
  private retrace(inputs: Record<string, Tensor>): void {
    const specs = specsOf(inputs, this.info.inputs);
    const graph = trace(this.source!, { inputs: specs });
    this.native.replaceGraph(graph);
    this.graph = graph;
    this.info = { ...this.info, inputs: specs };
    this.hash = null;
  }

  /** The state dict in PyTorch's order and names. The tensors share the model's memory. */
  state(): StateEntry[] {
    return this.native.state().map(({ name, kind, tensor }) => ({ name, kind, tensor: new Tensor(tensor) }));
  }

  /**
   * Copies values into the state.
   *
   * @param options.strict default true: names and shapes must match exactly; false: what fits is loaded.
   * @returns names that were missing, not expected, or of another shape.
   * @throws WeightsError listing them, if strict.
   */
  loadState(
    entries: Record<string, Tensor> | ReadonlyMap<string, Tensor>,
    options: { strict?: boolean } = {},
  ): { missing: string[]; unexpected: string[]; mismatched: string[] } {
    const record = entries instanceof Map ? (Object.fromEntries(entries) as Record<string, Tensor>) : entries;
    const report = this.native.loadState(unwrap(record as Record<string, Tensor>), options);
    this.changed();
    return report;
  }

  /**
   * `loadState` from a file: safetensors (a model file or any other), `.pth`/`.pt`/`.tar`/`.th` of torch.save in
   * either form, or a TorchScript archive. Nothing in it is executed. Dicts around the state dict are looked
   * into, prefixes such as `module.` taken off, names of other publications (timm) translated; `notes` of the
   * report say what was done. Waits for runs of `forward` under way. The bytes are read straight into the model.
   *
   * @param options.strict default true: names and shapes must match exactly; false: what fits is loaded.
   * @param options.replaceHead leave the classifier as it is if only its number of classes differs.
   * @param options.key the entry of a checkpoint that holds the weights (`model_ema`), instead of looking for it.
   * @throws WeightsError if the file is damaged or hostile, if nothing in it fits, or, if strict, listing what
   *   is missing, not expected, or of another shape. The model is unchanged then.
   */
  async loadWeights(file: string, options: LoadWeightsOptions = {}): Promise<LoadWeightsReport> {
    return this.sessions.whileIdle(() => loadWeightsInto(this.native, this.graph.parameters, file, options));
  }

  /** Tells the model that its weights were changed from outside (by a training session). */
  changed(): void {
    this.sessions.markStale();
  }

  /** Figures of every module for inputs of the given shapes (default: those it was traced with). */
  describe(...shapes: readonly number[][]): Summary {
    const inputs = this.info.inputs.map((spec, i) => ({ shape: shapes[i] ?? spec.shape, dtype: spec.dtype }));
    const infos = this.native.inferShapes(inputs);
    return summarize(
      this.graph,
      infos,
      inputs.map(({ shape }) => shape),
    );
  }

  /** `describe` as a table: path, output shape, parameters, multiply-adds. */
  summary(...shapes: readonly number[][]): string {
    return formatSummary(this.describe(...shapes));
  }

  /** Number of trainable values. */
  get parameterCount(): number {
    return this.graph.parameters
      .filter(({ kind }) => kind === 'parameter')
      .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  }

  /** SHA-256 of the graph: equal for models that compute the same, whatever their weights. */
  graphHash(): string {
    this.hash ??= createHash('sha256').update(canonicalJson(this.graph)).digest('hex');
    return this.hash;
  }

  /**
   * Loss and gradients of one batch, without changing the weights.
   *
   * @param batch the model's inputs and what the loss needs (`label`, int64 [N]).
   * @param options.loss a traced loss; default cross entropy over `output` and `label`.
   * @param options.mode default `train` (batch norm updates its running statistics).
   */
  async lossAndGradients(
    batch: Record<string, Tensor>,
    options: LossAndGradientsOptions = {},
  ): Promise<LossAndGradients> {
    return lossAndGradients(this, batch, options);
  }

  get disposed(): boolean {
    return this.native.disposed;
  }

  dispose(): void {
    this.sessions.dispose();
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
