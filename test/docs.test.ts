/**
 * Runs the examples of docs/api.md. What an example prints must be what it says: the text behind `// →`, in order.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { promises as fs, readFileSync } from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

import { temporaryFolder } from './support/image_folder.js';

const page = readFileSync(new URL('../../../docs/api.md', import.meta.url), 'utf8');

interface Example {
  /** Heading above it and its number on the page. */
  name: string;
  code: string;
  expected: string[];
}

function examples(): Example[] {
  const found: Example[] = [];
  let heading = '';
  for (const match of page.matchAll(/^#+ (.+)$|^```ts\n([\s\S]*?)^```$/gm)) {
    if (match[1] !== undefined) heading = match[1];
    const code = match[2];
    if (code === undefined) continue;
    const expected = [...code.matchAll(/\/\/ → (.*)$/gm)].map((line) => line[1]!);
    found.push({ name: `${found.length + 1}. ${heading}`, code, expected });
  }
  return found;
}

let root: Awaited<ReturnType<typeof temporaryFolder>>;
/** Inside the package, so that `fornax` means this package. */
const folder = fileURLToPath(new URL(`./docs-examples-${process.pid}/`, import.meta.url));

before(async () => {
  root = await temporaryFolder();
  await fs.mkdir(folder, { recursive: true });
});
after(async () => {
  await root[Symbol.asyncDispose]();
  await fs.rm(folder, { recursive: true, force: true });
});

async function run(example: Example, index: number): Promise<string[]> {
  const { outputText } = ts.transpileModule(example.code, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  });
  const file = path.join(folder, `${index}.mjs`);
  await fs.writeFile(file, outputText);
  const cwd = path.join(root.path, String(index));
  await fs.mkdir(cwd);
  const child = spawn(process.execPath, [file], {
    cwd,
    env: { ...process.env, FORNAX_CACHE: path.join(root.path, 'cache'), NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = new Promise((resolve) => child.once('exit', resolve));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exit]);
  assert.equal(code, 0, `${example.name} ended with ${String(code)}:\n${stderr}`);
  return stdout.trimEnd().split('\n');
}

describe('docs/api.md', () => {
  const all = examples();
  test('has examples', () => assert.ok(all.length >= 10));
  for (const [index, example] of all.entries()) {
    test(example.name, async () => {
      assert.ok(example.expected.length > 0, 'an example without an expected line proves nothing');
      assert.deepEqual(await run(example, index), example.expected);
    });
  }
});
