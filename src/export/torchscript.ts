/** The writer of TorchScript archives: source from the walk (torchscript_source.ts), compiled and saved natively. */
import { GraphError, WeightsError } from '../errors.js';
import { loadAddon } from '../native.js';
import type { NativeTensor } from '../native/contract.js';
import { checkState } from './compare.js';
import type { Exporter, ExportSource, ExportTensor, Reopened } from './format.js';
import { exportMetadata } from './metadata.js';
import { torchScriptSource } from './torchscript_source.js';

function sourceOf({ graph, constants }: ExportSource): string {
  return torchScriptSource(graph, (op) => loadAddon().operatorSchema(op), constants);
}

/** What the archive holds: constants stand in its source. */
function stateDict({ state, constants }: ExportSource): ExportTensor[] {
  return state.filter(({ name }) => !constants.has(name));
}

function unsupported(source: ExportSource): string | null {
  try {
    sourceOf(source);
    return null;
  } catch (error) {
    if (!(error instanceof GraphError)) throw error;
    return error.what + (error.where === undefined ? '' : `, at ${error.where}`);
  }
}

/** The model's own description lies in the archive as `extra/fornax.json` (`_extra_files` of torch.jit.load). */
async function write(source: ExportSource, file: string): Promise<string[]> {
  await loadAddon().writeTorchScript(file, {
    source: sourceOf(source),
    tensors: stateDict(source),
    extra: { 'fornax.json': JSON.stringify(exportMetadata(source)) },
  });
  return [];
}

class ScriptFile implements Reopened {
  readonly how = "libtorch's TorchScript";

  constructor(
    private readonly source: ExportSource,
    private readonly file: string,
  ) {}

  async forward(inputs: Record<string, NativeTensor>): Promise<Record<string, NativeTensor>> {
    const { graph } = this.source;
    const ordered = graph.inputs.map(({ name }) => inputs[name]!);
    const { outputs, state: read } = await loadAddon().runTorchScript(this.file, ordered);
    try {
      // The order of attributes in an archive is libtorch's own: parameters, then buffers.
      checkState(stateDict(this.source), read, this.file);
    } finally {
      for (const { tensor } of read) tensor.dispose();
    }
    const names = Object.keys(outputs);
    const isDict = names.length > 1 && names.some((name, i) => name !== String(i));
    return Object.fromEntries(
      graph.outputs.map(({ name }, i) => {
        const tensor = isDict ? outputs[name] : outputs[names[i]!];
        if (tensor === undefined) {
          throw new WeightsError({
            what: `the archive does not return the output '${name}'`,
            where: this.file,
          });
        }
        return [name, tensor];
      }),
    );
  }

  dispose(): void {
    // Nothing is kept between calls.
  }
}

export const torchscript: Exporter = {
  format: 'torchscript',
  extension: '.pt',
  unsupported,
  write,
  open: (source, file) => Promise.resolve(new ScriptFile(source, file)),
};
