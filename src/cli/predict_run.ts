/** What `fornax predict` does, once the addon may be loaded. */
import { errorRecord } from './print_error.js';
import { findImages } from '../data/find_images.js';
import { predict, type Prediction } from '../eval/predict.js';
import { readModelHeader } from '../model/file.js';
import { runLongJob } from './long_job.js';
import { modelPath, newestModel } from './model_path.js';
import type { PredictFlags } from './predict.js';
import { paint, percent } from './terminal.js';

/** @returns the exit code: 1 if an image could not be read */
export async function runPredict(images: string[], flags: PredictFlags): Promise<number> {
  const json = flags.json ?? false;
  const model = flags.model === undefined ? newestModel() : modelPath(flags.model);
  if (flags.model === undefined) process.stderr.write(`Using the newest model: ${model}\n`);
  const files = await findImages(images);
  if ((await readModelHeader(model)).info.task === 'detection') {
    const { runPredictFaces } = await import('./predict_faces_run.js');
    return exitCode(await runPredictFaces(model, files, flags), json);
  }
  const rows = new PredictionRows(files);
  let failed = 0;
  await runLongJob({ json, whatNow: 'stopping after this batch' }, async ({ report, signal }) => {
    const options = { topk: flags.top, device: flags.device, batchSize: flags.batchSize, signal };
    for await (const prediction of predict(model, files, { ...options, ...(json ? { report } : {}) })) {
      if (prediction.error) failed++;
      process.stdout.write((json ? jsonLine(prediction) : rows.line(prediction)) + '\n');
    }
  });
  return exitCode(failed, json);
}

function exitCode(failed: number, json: boolean): number {
  if (failed > 0 && !json) process.stderr.write(`${failed} image(s) could not be read.\n`);
  return Number(process.exitCode ?? (failed > 0 ? 1 : 0));
}

function jsonLine({ path, predictions, error }: Prediction): string {
  return JSON.stringify({
    type: 'prediction',
    path,
    predictions,
    ...(error ? { error: errorRecord(error) } : {}),
  });
}

/** One line an image, in columns, as they come. */
class PredictionRows {
  private readonly pathWidth: number;
  private labelWidth = 8;

  constructor(files: readonly string[]) {
    // Not Math.max(...files): there may be more files than a call may have arguments.
    this.pathWidth = Math.min(
      60,
      files.reduce((most, file) => Math.max(most, file.length), 0),
    );
  }

  line({ path, predictions, error }: Prediction): string {
    const file = path.padEnd(this.pathWidth);
    if (error) return `${file}  ${paint('not read:', 'red')} ${error.what}`;
    for (const { label } of predictions) this.labelWidth = Math.max(this.labelWidth, label.length);
    const cells = predictions.map(
      ({ label, probability }) => `${label.padEnd(this.labelWidth)} ${percent(probability).padStart(7)}`,
    );
    const [best, ...others] = cells;
    return [file, paint(best ?? '', 'bold'), ...others.map((cell) => paint(cell, 'dim'))].join('  ');
  }
}
