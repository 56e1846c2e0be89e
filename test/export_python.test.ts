/** What we write is opened by the programs it is written for: PyTorch and safetensors for Python. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { difference, sameBits } from '#fornax/export/compare.js';
import { exportModel } from '#fornax/export/export_model.js';
import { pth, safetensors } from '#fornax/export/weights.js';
import { exportSource } from '#fornax/export/source.js';
import { readSafetensors, writeSafetensors } from '#fornax/io/safetensors.js';
import { Model } from '#fornax/model.js';
import { Buffer as StateBuffer, Module, Parameter, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { dtypes } from '#fornax/graph/dtypes.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder } from './support/image_folder.js';
import { needsPython, python } from './support/python.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

/** Opens a state dict and writes it again by safetensors for Python. */
const again = `
import json, sys, torch
from safetensors.torch import load_file, save_file
source, target = sys.argv[1:]
if source.endswith(".pth"):
    import zipfile
    assert zipfile.ZipFile(source).testzip() is None
    state = torch.load(source, weights_only=True)
else:
    state = load_file(source)
save_file({k: v.contiguous() for k, v in state.items()}, target)
print(json.dumps({"type": type(state).__name__, "names": list(state), "grads": [v.requires_grad for v in state.values()],
                  "shapes": [list(v.shape) for v in state.values()]}))
`;

/** Every dtype, a scalar, an empty tensor, names that no identifier could be. */
class Everything extends Module {
  readonly weight = new Parameter([2, 3]);
  constructor() {
    super();
    const own = this as unknown as Record<string, StateBuffer>;
    for (const dtype of dtypes)
      own[`of_${dtype}`] = new StateBuffer([3], { kind: 'constant', value: 1 }, dtype);
    own['scalar'] = new StateBuffer([], { kind: 'constant', value: 7 }, 'int64');
    own['empty'] = new StateBuffer([0, 4]);
    own['größe "1"'] = new StateBuffer([1]);
  }
  forward(x: Symbolic): Symbolic {
    return x.add(this.weight);
  }
}

test(
  '.pth and safetensors open in Python with identical tensors, of every dtype',
  { skip: needsPython('torch', 'safetensors') },
  async () => {
    using model = Model.create(new Everything(), { inputs: [[2, 3]], seed: 5 });
    const { source, release } = exportSource({
      graph: model.graph,
      state: model.native.state(),
      info: model.info,
    });
    for (const exporter of [pth, safetensors]) {
      const file = path.join(root.path, `all${exporter.extension}`);
      const copy = path.join(root.path, 'copy.safetensors');
      await exporter.write(source, file, file);
      const read = python<{ type: string; names: string[]; grads: boolean[]; shapes: number[][] }>(again, [
        file,
        copy,
      ]);
      const { tensors } = await readSafetensors(copy);
      const state = model.state();
      assert.equal(tensors.size, state.length);
      for (const { name, tensor } of state) {
        assert.ok(sameBits(tensor, new Tensor(tensors.get(name)!)), `${exporter.format} ${name}`);
      }
      assert.deepEqual(
        read.grads,
        state.map(() => false),
      );
      // safetensors sorts by alignment; a .pth keeps the order of the state dict.
      if (exporter === pth) {
        assert.equal(read.type, 'OrderedDict');
        assert.deepEqual(
          read.names,
          state.map(({ name }) => name),
        );
      }
    }
    release();
  },
);

/** Runs any number of archives: importing torch takes seconds. */
const runScript = `
import json, sys, torch
from safetensors.torch import load_file, save_file
answers = []
for folder in sys.argv[1:]:
    extra = {"fornax.json": ""}
    model = torch.jit.load(folder + "/model.pt", _extra_files=extra)
    training = model.training
    model.eval()
    given = load_file(folder + "/inputs.safetensors")
    try:
        with torch.no_grad():
            result = model(*[given[k] for k in sorted(given)])
    except Exception as error:
        answers.append({"error": str(error)})
        continue
    kind = type(result).__name__
    if isinstance(result, torch.Tensor):
        result = {"output": result}
    elif isinstance(result, tuple):
        result = {f"output_{i}": t for i, t in enumerate(result)}
    save_file({k: v.contiguous() for k, v in result.items()}, folder + "/outputs.safetensors")
    answers.append({"names": sorted(model.state_dict()), "kind": kind, "training": training,
                    "parameters": sorted(n for n, p in model.named_parameters() if p.requires_grad),
                    "described": json.loads(extra["fornax.json"])["name"]})
print(json.dumps(answers))
`;

interface ScriptRun {
  names: string[];
  kind: string;
  training: boolean;
  parameters: string[];
  described: string;
}

/** Exports to `<folder>/model.pt`, with the input that Python shall give it beside. */
async function scriptFolder(model: Model, shape: readonly number[]): Promise<{ folder: string; x: Tensor }> {
  const folder = path.join(root.path, model.info.name);
  await exportModel(model, { format: 'torchscript', out: folder, name: 'model' });
  const x = Tensor.call('aten::randn', [...shape])[0]!;
  await writeSafetensors(path.join(folder, 'inputs.safetensors'), [['image', x.native]], {});
  return { folder, x };
}

const scripts = [
  { name: 'resnet20', options: {}, shape: [3, 3, 32, 32], kind: 'Tensor' },
  { name: 'mobilenet_v3_small', options: { numClasses: 7 }, shape: [2, 3, 160, 192], kind: 'Tensor' },
  // Names that are no identifiers: `block1-0`.
  { name: 'regnet_x_400mf', options: { numClasses: 7 }, shape: [2, 3, 64, 64], kind: 'Tensor' },
  { name: 'googlenet', options: { numClasses: 7 }, shape: [2, 3, 224, 224], kind: 'Tensor' },
  { name: 'retinaface_mobilenet025', options: {}, shape: [1, 3, 64, 96], kind: 'dict' },
];

test(
  'TorchScript opens in PyTorch with our names and answers; for a size it does not hold for, with an error',
  { skip: needsPython('torch', 'safetensors') },
  async () => {
    const models = scripts.map(({ name, options }) => Model.create(name, { ...options, seed: 1 }));
    const swin = Model.create('swin_t', { numClasses: 3, inputs: [[1, 3, 64, 64]] });
    const made: { folder: string; x: Tensor }[] = [];
    for (const [i, model] of models.entries()) made.push(await scriptFolder(model, scripts[i]!.shape));
    const otherSize = await scriptFolder(swin, [1, 3, 62, 62]);
    const runs = python<(ScriptRun & { error?: string })[]>(runScript, [
      ...made.map(({ folder }) => folder),
      otherSize.folder,
    ]);
    assert.match(runs.pop()!.error!, /exported for other sizes/);
    for (const [i, model] of models.entries()) {
      const { name, kind } = scripts[i]!;
      const run = runs[i]!;
      assert.equal(run.error, undefined, name);
      const state = model.state();
      const sorted = (entries: typeof state): string[] => entries.map((entry) => entry.name).sort();
      assert.deepEqual(run.names, sorted(state));
      assert.deepEqual(run.parameters, sorted(state.filter((entry) => entry.kind === 'parameter')));
      assert.equal(run.kind, kind);
      assert.equal(run.training, false);
      assert.equal(run.described, name);
      const { folder, x } = made[i]!;
      const expected = await model.forward(x);
      const { tensors } = await readSafetensors(path.join(folder, 'outputs.safetensors'));
      for (const [output, reference] of Object.entries(expected)) {
        const { relative } = difference(output, reference, new Tensor(tensors.get(output)!));
        assert.ok(relative <= 1e-5, `${name} ${output}: ${relative}`);
      }
    }
    for (const model of [...models, swin]) model.dispose();
  },
);
