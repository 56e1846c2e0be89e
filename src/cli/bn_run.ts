/** What `fornax bn` does, once the addon may be loaded. */
import { existsSync } from 'node:fs';
import { UsageError } from '../errors.js';
import { evaluateModel } from '../eval/evaluate.js';
import { recomputeModel } from '../eval/recompute.js';
import { Model } from '../model.js';
import type { BnFlags } from './bn.js';
import { runLongJob } from './long_job.js';
import { modelPath } from './model_path.js';
import { count, percent } from './terminal.js';

/** @returns the exit code */
export async function runBn(name: string, flags: BnFlags): Promise<number> {
  const json = flags.json ?? false;
  const file = modelPath(name);
  const output = flags.output ?? file.replace(/(\.safetensors)?$/, '-bn.safetensors');
  if (existsSync(output)) {
    throw new UsageError({
      what: `there is a file already: ${output}`,
      fix: 'name another one with --output, or remove it',
    });
  }
  const { device, batchSize, batches, split } = flags;
  const result = await runLongJob({ json, whatNow: 'stopping' }, async ({ report, signal }) => {
    using model = await Model.load(file);
    const quiet = { device, batchSize, signal };
    const before = await evaluateModel(model, flags.data, quiet);
    const recomputed = await recomputeModel(model, flags.data, {
      device,
      batchSize,
      batches,
      report,
      signal,
      ...(split === undefined ? {} : { split }),
    });
    const after = await evaluateModel(model, flags.data, quiet);
    await model.save(output, { metrics: { loss: after.loss, top1: after.top1, top5: after.top5 } });
    return { recomputed, before, after };
  });
  const { recomputed, before, after } = result;
  const record = { type: 'bn', model: output, ...recomputed, before: before.top1, after: after.top1 };
  const text =
    `${count(recomputed.layers)} layers over ${count(recomputed.samples)} images: ` +
    `top-1 ${percent(before.top1)} before, ${percent(after.top1)} after\nWritten to ${output}`;
  process.stdout.write((json ? JSON.stringify(record) : text) + '\n');
  return Number(process.exitCode ?? 0);
}
