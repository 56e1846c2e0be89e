/** One of several processes that train on points of which one has NaN: prints what came of it as JSON. */
import { findPlace } from '#fornax/dist/place.js';
import { Processes } from '#fornax/dist/processes.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { memoryData, type Sample } from '#fornax/train/memory_data.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';
import { TrainerPlan, type TrainerOptions } from '#fornax/train/trainer_options.js';
import { TrainingRun } from '#fornax/train/training_run.js';

import { pointModel, pointSamples, weightsOf } from './points.js';

export interface NanTraining {
  folder: string;
  train: NonNullable<TrainerOptions['train']>;
  /** Samples; an even number of steps' worth for each process. */
  samples: number;
  /** The sample that is spoilt. */
  bad: number;
  /** As on a GPU: losses are looked at some steps later, and a flag keeps everything as it was. */
  late: boolean;
}

export interface NanOutcome {
  error: string | null;
  faults: { step: number; action: string; to: number | null; node: string | null }[];
  /** Of the steps of every epoch. */
  losses: (number | null)[];
  weights: string;
}

function* samples({ samples: count, bad }: NanTraining): Generator<Sample> {
  let i = 0;
  for (const sample of pointSamples(count)) {
    const left = Float32Array.from(sample['left'] as Float32Array);
    if (i++ === bad) left[2] = NaN;
    yield { ...sample, left };
  }
}

const training = JSON.parse(process.argv[2]!) as NanTraining;
const lateFeature: RunFeature = {
  prepare({ session }) {
    session.tape = true;
  },
};
if (training.late) (RUN_FEATURES as RunFeature[]).push(lateFeature);

using processes = await Processes.connect(findPlace(), 'cpu', 60);
using model = pointModel();
using data = await memoryData({ train: samples(training) });
const checkpoint = { everySteps: 4 };
const plan = new TrainerPlan({ model, data, device: 'cpu', train: training.train, checkpoint });
const result: NanOutcome = { error: null, faults: [], losses: [], weights: '' };
const run = new TrainingRun({
  model,
  data,
  config: plan.config,
  loss: plan.lossGraph(null),
  store: new CheckpointStore(training.folder),
  processes,
  report: (event) => {
    if (event.type !== 'not_finite') return;
    const { step, action, to, node } = event;
    result.faults.push({ step, action, to, node });
  },
});
try {
  const { history } = await run.run(null);
  result.losses = history.map(({ loss }) => loss);
} catch (error) {
  result.error = (error as Error).message;
}
result.weights = weightsOf(model);
process.stdout.write(JSON.stringify(result));
