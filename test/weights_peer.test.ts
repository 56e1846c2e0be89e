/** What other programs write is read with their values, and computes what it does there. Needs a Python. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import { Tensor } from '#fornax/tensor.js';
import { readWeights } from '#fornax/weights/read_weights.js';

import { temporaryFolder } from './support/image_folder.js';
import { needsPython, python } from './support/python.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

/** Name → flat list of values, read natively. */
async function valuesOf(file: string): Promise<Record<string, number[]>> {
  const { tensors } = await readWeights(file);
  const handles = await loadAddon().readTensors(file, tensors);
  return Object.fromEntries(
    tensors.map(({ name }, i) => [name, Array.from(handles[i]!.toTypedArray() as Float32Array, Number)]),
  );
}

const PEER = `
import sys, json, argparse, collections, pathlib, torch, numpy
folder = sys.argv[1]
torch.manual_seed(0)
base = torch.randn(4, 6)
state = collections.OrderedDict(
    plain=base, transposed=base.t(), part=base[1:, ::2], expanded=base[0].expand(3, 6), scalar=torch.tensor(3),
    empty=torch.zeros(0, 4), f16=base.half(), bf16=base.bfloat16(), f64=base.double(), u8=torch.arange(5, dtype=torch.uint8),
    flags=torch.tensor([True, False]), parameter=torch.nn.Parameter(base), last=base.reshape(1, 4, 2, 3).to(memory_format=torch.channels_last))
files = []
def save(name, value, **options):
    torch.save(value, f'{folder}/{name}', **options)
    files.append(name)
for protocol in (2, 3, 4, 5):
    save(f'zip{protocol}.pth', state, pickle_protocol=protocol)
    save(f'legacy{protocol}.pth', state, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
save('checkpoint.pth', {
    'model': state, 'optimizer': optimizer.state_dict(), 'epoch': 3, 'best': numpy.float64(0.5), 'rng': torch.get_rng_state(),
    'args': argparse.Namespace(path=pathlib.Path('x'), array=numpy.zeros(3), sizes={1, 2}),
    'scheduler': torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict()})
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, value in state.items():
            self.register_buffer(name, value.detach().clone())
    def forward(self, x):
        return x + self.plain.sum()
torch.jit.trace(Net(), torch.ones(1)).save(f'{folder}/script.pt')
files.append('script.pt')
print(json.dumps({'files': files, 'values': {k: v.detach().double().flatten().tolist() for k, v in state.items()}}))
`;

test(
  'whatever PyTorch writes is read with equal values',
  { skip: needsPython('torch', 'numpy') },
  async () => {
    const folder = path.join(root.path, 'peer');
    await fs.mkdir(folder);
    const { files, values } = python<{ files: string[]; values: Record<string, number[]> }>(PEER, [folder]);
    assert.equal(files.length, 10);
    for (const name of files) {
      const read = await valuesOf(path.join(folder, name));
      assert.deepEqual(Object.keys(read).sort(), Object.keys(values).sort(), name);
      for (const [key, expected] of Object.entries(values))
        assert.deepEqual(read[key], expected, `${name}: ${key}`);
    }
  },
);

const TIMM = `
import sys, json, torch, timm
torch.manual_seed(0)
model = timm.create_model('resnet18', num_classes=5).eval()
swin = timm.create_model('swin_tiny_patch4_window7_224', num_classes=5).eval()
x = torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)
results = {}
for name, net in (('resnet18', model), ('swin_t', swin)):
    torch.save({'state_dict': net.state_dict()}, f'{sys.argv[1]}/{name}.pth')
    with torch.no_grad():
        results[name] = net(x)[0].tolist()
print(json.dumps(results))
`;

test("timm's weights give timm's outputs", { skip: needsPython('torch', 'timm') }, async () => {
  const expected = python<Record<string, number[]>>(TIMM, [root.path]);
  const x = Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => -1 + (2 * i) / (3 * 224 * 224 - 1));
  for (const [name, outputs] of Object.entries(expected)) {
    using model = Model.create(name, { numClasses: 5 });
    await model.loadWeights(path.join(root.path, `${name}.pth`));
    const { output } = await model.forward(Tensor.from(x, [1, 3, 224, 224]));
    for (const [i, value] of (output!.toArray() as number[][])[0]!.entries())
      assert.ok(
        Math.abs(value - outputs[i]!) < 1e-4 * Math.max(1, Math.abs(outputs[i]!)),
        `${name}: ${value} against ${outputs[i]}`,
      );
  }
});
