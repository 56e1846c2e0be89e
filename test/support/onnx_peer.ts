/** ONNX Runtime and onnx.checker, in the Python that FORNAX_PEER_PYTHON names. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';

/** The script is no TypeScript: it lies in the sources. */
const script = fileURLToPath(new URL('../../../../test/support/run_onnx.py', import.meta.url));

let reason: string | false | undefined;

/** For node:test's `skip`: why there is no ONNX Runtime, or false. */
export function whyNoOnnxRuntime(): string | false {
  reason ??= ((): string | false => {
    const python = process.env.FORNAX_PEER_PYTHON;
    if (!python) return 'needs ONNX Runtime: FORNAX_PEER_PYTHON names no Python';
    const { status } = spawnSync(python, ['-c', 'import numpy, onnx, onnxruntime']);
    return status === 0 ? false : `${python} has no onnx and onnxruntime`;
  })();
  return reason;
}

type Answer = {
  runs: Record<string, { shape: number[]; dtype: string }>[];
  metadata: Record<string, string>;
  bytes: number;
};

/** One Python for many files: it takes seconds to start. */
export class OnnxRuntime {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor() {
    this.child = spawn(process.env.FORNAX_PEER_PYTHON!, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  /**
   * Checks `file` and runs it on each set of inputs; scratch files are made beside it.
   * @throws Error with what onnx.checker or ONNX Runtime says
   */
  async run(
    file: string,
    runs: readonly Record<string, NativeTensor>[],
  ): Promise<{ outputs: Record<string, NativeTensor>[]; metadata: Record<string, string> }> {
    const scratch: string[] = [];
    const jobs = runs.map((inputs, i) =>
      Object.fromEntries(
        Object.entries(inputs).map(([name, tensor]) => {
          const raw = `${file}.in.${i}.${name}.bin`;
          writeFileSync(raw, tensor.toTypedArray() as Uint8Array);
          scratch.push(raw);
          return [name, { file: raw, dtype: tensor.dtype, shape: tensor.shape }];
        }),
      ),
    );
    this.child.stdin!.write(`${JSON.stringify({ file, runs: jobs, out: `${file}.out` })}\n`);
    const line = await this.lines.next();
    scratch.forEach((raw) => rmSync(raw));
    if (line.done) throw new Error('the Python process has ended');
    const answer = JSON.parse(line.value) as Answer | { error: string };
    if ('error' in answer) throw new Error(answer.error);
    const outputs = answer.runs.map((results, i) =>
      Object.fromEntries(
        Object.entries(results).map(([name, { shape, dtype }]) => {
          const raw = `${file}.out.${i}.${name}.bin`;
          const bytes = readFileSync(raw);
          rmSync(raw);
          if (dtype !== 'float32') throw new Error(`the output ${name} is ${dtype}`);
          const values = new Float32Array(
            bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
          );
          return [name, loadAddon().Tensor.fromTypedArray(values, shape)];
        }),
      ),
    );
    return { outputs, metadata: answer.metadata };
  }

  close(): void {
    this.child.stdin!.end();
  }
}
