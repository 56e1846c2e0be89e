/** What `fornax eval --task faces` does. */
import { evaluateWiderFace, type WiderReport } from '../eval/wider/evaluate.js';
import { widerSettings } from '../eval/wider/ground_truth.js';
import type { EvalFacesFlags } from './eval.js';
import { runLongJob } from './long_job.js';
import { count, table } from './terminal.js';

/** @returns the exit code */
export async function runEvalFaces(flags: EvalFacesFlags): Promise<number> {
  const json = flags.json ?? false;
  const result = await runLongJob({ json, whatNow: 'stopping the evaluation' }, ({ report, signal }) =>
    evaluateWiderFace({
      predictions: flags.predictions,
      groundTruth: flags.groundTruth,
      onProgress: (done, total) => {
        // Now and then, not for each of thousands of files.
        if (done % 1000 === 0 || done === total) {
          report({ type: 'data_progress', split: 'val', done, total, stage: 'Reading predictions' });
        }
      },
      signal,
    }),
  );
  process.stdout.write(json ? jsonReport(result) : textReport(result));
  return Number(process.exitCode ?? 0);
}

function jsonReport(result: WiderReport): string {
  const record: Record<string, unknown> = { type: 'evaluation', task: 'faces' };
  for (const setting of widerSettings) {
    const { averagePrecision, faces } = result[setting];
    record[setting] = { average_precision: averagePrecision, faces };
  }
  const { images, predictions, seconds } = result;
  return JSON.stringify({ ...record, images, predictions, seconds }) + '\n';
}

function textReport(result: WiderReport): string {
  const rows = widerSettings.map((setting) => {
    const { averagePrecision, faces } = result[setting];
    return [setting, averagePrecision.toFixed(5), count(faces)];
  });
  const about = `${count(result.images)} images, ${count(result.predictions)} predictions`;
  return `${about}\n${table([['WIDER FACE', 'average precision', 'faces'], ...rows], [1, 2])}\n`;
}
