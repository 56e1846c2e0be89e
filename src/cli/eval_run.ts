/** What `fornax eval` does, once the addon may be loaded. */
import { evaluateModel, type EvaluationReport } from '../eval/evaluate.js';
import { toSnake } from '../config/case.js';
import type { MetricAverages } from '../native/contract.js';
import type { EvalFlags } from './eval.js';
import { runLongJob } from './long_job.js';
import { modelPath } from './model_path.js';
import { count, paint, percent, table } from './terminal.js';

/** Above this the matrix does not fit a terminal; `--json` has it all. */
const CONFUSION_CLASSES = 30;

/** @returns the exit code */
export async function runEval(model: string, flags: EvalFlags): Promise<number> {
  const json = flags.json ?? false;
  const file = modelPath(model);
  const result = await runLongJob({ json, whatNow: 'stopping the evaluation' }, ({ report, signal }) =>
    evaluateModel(file, flags.data, {
      ...(flags.split === undefined ? {} : { split: flags.split }),
      device: flags.device,
      batchSize: flags.batchSize,
      report: json ? (event) => event.type !== 'evaluation' && report(event) : report,
      signal,
    }),
  );
  process.stdout.write(json ? jsonReport(file, result, flags) : textReport(result, flags));
  return Number(process.exitCode ?? 0);
}

function jsonReport(file: string, result: EvaluationReport, flags: EvalFlags): string {
  const { confusion, ...rest } = result;
  const record = { type: 'evaluation', model: file, ...rest, ...(flags.confusion ? { confusion } : {}) };
  return JSON.stringify(toSnake(record)) + '\n';
}

function textReport(result: EvaluationReport, flags: EvalFlags): string {
  const parts = ['', averages(result), '', perClass(result)];
  if (flags.confusion) parts.push('', confusionTable(result));
  return parts.join('\n') + '\n';
}

/** The figures that are not those of the progress line. */
function averages({ macro, weighted, auroc, ece }: EvaluationReport): string {
  const row = (name: string, { precision, recall, f1 }: MetricAverages): string[] => [
    name,
    ...[precision, recall, f1].map(percent),
  ];
  const area = auroc === null ? '–' : auroc.toFixed(4);
  return [
    table(
      [['average', 'precision', 'recall', 'F1'], row('macro', macro), row('weighted', weighted)],
      [1, 2, 3],
    ),
    `AUROC ${area}  calibration error ${percent(ece)}`,
  ].join('\n');
}

/** Each class with the one that it is most often taken for. */
function perClass({ classes, confusion }: EvaluationReport): string {
  const rows = classes.map(({ label, samples, accuracy, f1 }, i) => {
    const row = confusion[i]!;
    let rival = -1;
    row.forEach((n, j) => {
      if (j !== i && n > 0 && (rival < 0 || n > row[rival]!)) rival = j;
    });
    const taken = rival < 0 ? '' : `${classes[rival]!.label} (${count(row[rival]!)})`;
    return [label, count(samples), accuracy === null ? '–' : percent(accuracy), percent(f1), taken];
  });
  return table([['class', 'images', 'accuracy', 'F1', 'most often taken for'], ...rows], [1, 2, 3]);
}

/** Rows are what the images are, columns what the model said. */
function confusionTable({ classes, confusion }: EvaluationReport): string {
  if (classes.length > CONFUSION_CLASSES) {
    return paint(`The confusion matrix of ${classes.length} classes is in the output of --json.`, 'dim');
  }
  const header = ['is \\ said', ...classes.map((_, i) => String(i))];
  const rows = confusion.map((row, i) => [`${i} ${classes[i]!.label}`, ...row.map(String)]);
  return table([header, ...rows], header.map((_, i) => i).slice(1));
}
