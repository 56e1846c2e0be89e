/** What `fornax quickstart` does, once the addon may be loaded. */
import { join, relative } from 'node:path';
import { defineConfig } from '../config/load.js';
import { prepareShapes } from '../data/shapes.js';
import { TrainError } from '../errors.js';
import { evaluateModel } from '../eval/evaluate.js';
import { predict } from '../eval/predict.js';
import { trainJob } from '../train/job.js';
import type { EvaluationMetrics } from '../train/events.js';
import { runLongJob, type JobContext } from './long_job.js';
import type { QuickstartFlags } from './quickstart.js';
import { count, paint, percent, table } from './terminal.js';

/** Far above chance (1/6) and what a linear classifier reaches; below it something is broken. */
const EXPECTED_TOP1 = 0.95;

function quickstartConfig(images: string, device: string): ReturnType<typeof defineConfig> {
  return defineConfig({
    name: 'quickstart',
    model: { name: 'resnet20' },
    data: {
      source: 'folder',
      path: images,
      resolution: 32,
      // The shape must stay in the picture.
      augment: { crop: 'random_resized_crop', scale: [0.7, 1], ratio: [0.9, 1.1] },
    },
    train: { epochs: 6, batchSize: 64, lr: 0.1, schedule: 'one_cycle' },
    device: { train: device, eval: device },
  });
}

interface Outcome {
  model: string;
  folder: string;
  metrics: EvaluationMetrics;
  image: string;
  label: string;
  probability: number;
}

/** Null if a signal stopped the training. */
async function everything(context: JobContext, flags: QuickstartFlags): Promise<Outcome | null> {
  const { report, signal } = context;
  const step = (n: number, title: string): void =>
    report({ type: 'info', message: `[${n}/4] ${title}`, heading: true });

  step(1, 'Sample images');
  const shapes = await prepareShapes({
    signal,
    onProgress: (done, total) =>
      report({ type: 'data_progress', stage: 'Drawing shapes', split: 'all', done, total }),
  });
  const what = `${count(shapes.count)} images of ${shapes.classes.length} shapes`;
  report({ type: 'info', message: `${what}: ${shapes.folder}` });

  step(2, 'Training');
  const config = quickstartConfig(shapes.folder, flags.device);
  const force = flags.force ?? false;
  const trained = await trainJob(config, { report, signal, force, resume: force ? false : 'auto' });
  if (trained.interrupted) return null;
  const model = trained.modelPath!;

  step(3, 'Evaluation, from the model file alone');
  const metrics = await evaluateModel(model, shapes.folder, { device: flags.device, report, signal });

  step(4, 'Prediction');
  const image = join(shapes.folder, 'val', 'star', '00000.jpg');
  let best = { label: '', probability: 0 };
  for await (const { predictions } of predict(model, [image], { device: flags.device, topk: 1, signal })) {
    if (predictions[0]) best = predictions[0];
  }
  report({ type: 'info', message: `${image}: ${best.label} ${percent(best.probability)}` });
  return { model, folder: trained.folder, metrics, image, label: best.label, probability: best.probability };
}

/** @returns the exit code */
export async function runQuickstart(flags: QuickstartFlags): Promise<number> {
  const json = flags.json ?? false;
  const options = { json, whatNow: 'finishing the step and writing a checkpoint' };
  const outcome = await runLongJob(options, (context) => everything(context, flags));
  if (outcome === null) return Number(process.exitCode ?? 1);
  const { top1, samples } = { ...outcome.metrics, top1: outcome.metrics.top1 ?? 0 };
  if (top1 < EXPECTED_TOP1) {
    throw new TrainError({
      what: `the model reached a top-1 of only ${percent(top1)} on ${samples} images; ${percent(EXPECTED_TOP1)} is the least it should`,
      where: outcome.folder,
      fix: 'look at `fornax doctor`; if it finds nothing, this is a bug',
    });
  }
  process.stdout.write(json ? jsonSummary(outcome) : textSummary(outcome));
  return 0;
}

function jsonSummary({ model, folder, metrics, image, label, probability }: Outcome): string {
  const { top1, top5, loss } = metrics;
  const record = { type: 'quickstart', model, folder, top1, top5, loss, image, label, probability };
  return JSON.stringify(record) + '\n';
}

function textSummary({ model, folder, metrics, image }: Outcome): string {
  const near = (path: string): string => {
    const below = relative('.', path);
    return below.startsWith('..') ? path : below;
  };
  const made = table([
    [near(model), 'the model: weights, graph, labels, preprocessing'],
    [near(join(folder, 'events.jsonl')), 'what happened, step by step'],
    [near(join(folder, 'summary.json')), 'the figures'],
    [near(join(folder, 'checkpoints')), 'what a run can be resumed from'],
  ]);
  return `
${paint(`Everything works: top-1 ${percent(metrics.top1 ?? 0)}.`, ['bold', 'green'])} What was made:
${made.replace(/^/gm, '  ')}
Next:
  fornax predict --model ${near(model)} ${image}
  fornax train --data DIR    # your own images, one folder per class
`;
}
