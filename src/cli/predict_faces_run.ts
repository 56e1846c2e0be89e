/** What `fornax predict` does with a face detector. */
import { predictFaces, type FaceDetection, type FacePrediction } from '../detect/index.js';
import { runLongJob } from './long_job.js';
import type { PredictFlags } from './predict.js';
import { errorRecord } from './print_error.js';
import { count, paint, percent } from './terminal.js';

/** @returns how many images could not be read */
export async function runPredictFaces(
  model: string,
  files: readonly string[],
  flags: PredictFlags,
): Promise<number> {
  const { confidence, nms, maxSide, device } = flags;
  const json = flags.json ?? false;
  let failed = 0;
  await runLongJob({ json, whatNow: 'stopping after this image' }, async ({ report, signal }) => {
    const predictions = predictFaces(model, files, {
      ...{ confidence, nms, device, signal },
      ...(maxSide === undefined ? {} : { maxSide }),
      ...(flags.draw ? { output: flags.out } : {}),
      ...(flags.wider === undefined ? {} : { wider: flags.wider }),
      ...(json ? { report } : {}),
    });
    for await (const prediction of predictions) {
      if (prediction.error) failed++;
      process.stdout.write((json ? jsonLine(prediction) : line(prediction)) + '\n');
    }
  });
  return failed;
}

/** Hundredths of a pixel are far below what a detector knows. */
function rounded({ box, score, landmarks }: FaceDetection): FaceDetection {
  const pixels = (value: number): number => Math.round(value * 1000) / 1000;
  return {
    box: box.map(pixels) as FaceDetection['box'],
    score: Math.round(score * 1e6) / 1e6,
    landmarks: landmarks.map(([x, y]) => [pixels(x), pixels(y)]),
  };
}

function jsonLine({ path, faces, output, error }: FacePrediction): string {
  return JSON.stringify({
    type: 'prediction',
    path,
    faces: faces.map(rounded),
    output,
    ...(error ? { error: errorRecord(error) } : {}),
  });
}

function line({ path, faces, output, error }: FacePrediction): string {
  if (error) return `${path}  ${paint('not read:', 'red')} ${error.what}`;
  const [best] = faces;
  const found =
    faces.length === 0 ? 'no face' : `${count(faces.length)} face${faces.length === 1 ? '' : 's'}`;
  const score = best ? paint(`  best ${percent(best.score)}`, 'dim') : '';
  return `${path}  ${paint(found, 'bold')}${score}${output === null ? '' : `  → ${output}`}`;
}
