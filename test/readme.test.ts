/** What the README shows is what happens. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, promises as fs, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { fornax } from './support/cli.js';
import { temporaryFolder } from './support/image_folder.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const readme = readFileSync(path.join(root, 'README.md'), 'utf8');

function block(language: string, containing: string): string {
  for (const [, found, text] of readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)) {
    if (found === language && text!.includes(containing)) return text!;
  }
  throw new Error(`the README has no ${language} block with ${containing}`);
}

describe('the README', () => {
  let scratch: Awaited<ReturnType<typeof temporaryFolder>>;
  /** Inside the package, so that `fornax` means this package. */
  const scripts = fileURLToPath(new URL('./readme-examples/', import.meta.url));
  before(async () => {
    scratch = await temporaryFolder();
    await fs.mkdir(scripts, { recursive: true });
  });
  after(async () => {
    await scratch[Symbol.asyncDispose]();
    await fs.rm(scripts, { recursive: true, force: true });
  });

  it('links to files that exist', () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map(([, link]) => link!);
    assert.ok(links.length >= 6);
    for (const link of links) assert.ok(existsSync(path.join(root, link)), link);
  });

  it('shows a bad config’s errors as they are', async () => {
    await fs.writeFile(
      path.join(scratch.path, 'config.yaml'),
      'data:\n  path: photos\nmodel:\n  name: resnet18\ntrain:\n  batch_sise: 32\n  lr: fast\n',
    );
    const { stderr } = await fornax(['train', 'config.yaml'], { cwd: scratch.path });
    assert.equal(stderr, block('', 'problems in the config'));
  });

  it('has a script that runs', async () => {
    const script = path.join(scripts, 'script.mjs');
    await fs.writeFile(script, block('js', 'class Net extends nn.Module'));
    await fs.mkdir(path.join(scratch.path, 'holiday'));
    await sharp({ create: { width: 50, height: 40, channels: 3, background: 'teal' } })
      .jpeg()
      .toFile(path.join(scratch.path, 'holiday', 'sea.jpg'));
    const { stdout } = await promisify(execFile)(process.execPath, [script], {
      cwd: scratch.path,
      env: { ...process.env, FORNAX_CACHE: path.join(scratch.path, 'cache') },
    });
    assert.match(stdout, /^ *head +linear /m);
    assert.match(stdout, /^epoch 5: loss \d\.\d{3}$/m);
    assert.match(stdout, /^holiday\/sea\.jpg (circle|cross|ring|square|star|triangle)$/m);
    assert.ok(existsSync(path.join(scratch.path, 'net.safetensors')));
  });
});
