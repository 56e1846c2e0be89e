/** What `fornax models get` does: published weights become a model file. */
import { existsSync } from 'node:fs';

import { UsageError } from '../errors.js';
import { Model } from '../model.js';
import { findArchitecture } from '../models/registry.js';
import { everyTenth } from '../weights/download.js';
import { runLongJob } from './long_job.js';
import type { GetFlags } from './models.js';

export async function getModel(name: string, flags: GetFlags): Promise<void> {
  const { defaultResolution: side } = findArchitecture(name);
  const file = flags.out ?? `${name}.safetensors`;
  if (existsSync(file) && !flags.force) {
    throw new UsageError({ what: `${file} is there already`, fix: 'use --force to replace it, or --out' });
  }
  const json = flags.json ?? false;
  await runLongJob({ json, whatNow: 'stopping; what was fetched is kept' }, async ({ report, signal }) => {
    const say = (message: string): void => report({ type: 'info', message });
    using model = await Model.pretrained(name, {
      weights: flags.weights,
      folder: flags.weightsDir ?? null,
      strict: flags.strict,
      unstrict: '--no-strict',
      onMessage: say,
      onProgress: everyTenth((text) => say(`Weights: ${text}`)),
      signal,
    });
    const sha256 = await model.save(file);
    const { labels, preprocessing } = model.info;
    const size = preprocessing?.size ?? [side, side];
    if (json) {
      const record = {
        type: 'model_file',
        path: file,
        sha256,
        name,
        weights: flags.weights,
        classes: labels.length,
      };
      process.stdout.write(JSON.stringify(record) + '\n');
    } else {
      const takers = preprocessing
        ? '`fornax predict --model`, `eval` and `export` take it.'
        : '`fornax export` takes it; `predict` and `eval` do not: nothing is known of how images become its input.';
      const classes = labels.length > 0 ? `, ${labels.length} classes` : '';
      process.stdout.write(`Wrote ${file}: ${name} for ${size.join('×')} pixels${classes}. ${takers}\n`);
    }
  });
}
