/** Fornax's side of a case: the model, its session as a training run would open it, and batches. */
import { fixedTrain } from '#fornax/config/fixed_train.js';
import { defineConfig } from '#fornax/config/load.js';
import type { Config } from '#fornax/config/schema.js';
import { Processes } from '#fornax/dist/processes.js';
import { crossEntropy, MSELoss, traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import type { Graph } from '#fornax/graph/format.js';
import type { NativeLoader, NativeTensor, NativeTrain, TrainOptions } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Linear, ReLU, Sequential } from '#fornax/nn/index.js';
import type { TrainData } from '#fornax/train/data.js';
import { labelsFeature } from '#fornax/train/check_labels.js';
import { chooseDevices } from '#fornax/train/run_devices.js';
import { RUN_FEATURES, type Opening } from '#fornax/train/run_features.js';
import { RunHooks } from '#fornax/train/run_hooks.js';
import { RunState } from '#fornax/train/run_state.js';
import { trainOptions } from '#fornax/train/train_options.js';
import { BATCHES, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, type TrainCase } from './train_case.js';

/** Of the runs that are opened here; nothing depends on it but schedules that are not used. */
export const STEPS_PER_EPOCH = 1000;

/** What a config with these settings would do; everything else is at its default. */
export function configOf(setting: TrainCase, variant: string): Config {
  return defineConfig({
    data: { source: 'shapes' },
    device: { train: setting.device, eval: 'cpu' },
    train: {
      batchSize: setting.shape[0]!,
      lr: LEARNING_RATE[setting.optimizer],
      optimizer:
        setting.optimizer === 'sgd' ? { name: 'sgd', momentum: MOMENTUM } : { name: setting.optimizer },
      weightDecay: WEIGHT_DECAY,
      schedule: { name: 'constant' },
      amp: variant === 'fp32' ? 'off' : 'auto',
      threads: setting.device === 'cpu' ? setting.threads : 'auto',
    },
  });
}

export function makeModel({ model, shape, classes }: TrainCase): Model {
  if (model !== 'head') return Model.create(model, { numClasses: classes, inputs: [[...shape]] });
  const layers = new Sequential(new Linear(shape[1]!, 256), new ReLU(), new Linear(256, classes));
  return Model.create(layers, { inputs: [[...shape]], name: 'head' });
}

function lossOf(setting: TrainCase, model: Model): Graph {
  if (setting.loss === 'cross_entropy') return crossEntropy();
  return traceLoss(new MSELoss(), [model.graph.outputs[0]!.name, 'target']);
}

/**
 * Batches come from memory, so that there are no data; features of a run may want to know their size. Vectors are
 * fields of a script, as where only the head of a model is trained.
 */
function dataOf(setting: TrainCase): TrainData {
  const [rows, channels, height = 1, width = 1] = setting.shape;
  const data = {
    classes: [],
    trainSamples: rows! * STEPS_PER_EPOCH,
    evalSamples: null,
    fingerprint: '',
  };
  if (setting.shape.length === 2) {
    const [fields] = makeBatches(setting);
    return {
      ...data,
      preprocessing: null,
      loaderOptions: (_phase, { batchSize, seed }) => ({
        fields: fields!,
        batch_size: batchSize,
        shuffle: true,
        seed,
      }),
    };
  }
  return {
    ...data,
    preprocessing: {
      channels: channels === 1 ? 1 : 3,
      pack_size: null,
      resize: height,
      size: [height, width],
      normalize: null,
    },
    loaderOptions: () => {
      throw new Error('the benchmark has no loader');
    },
  };
}

export interface OpenedSide {
  session: NativeTrain;
  /** What a checkpoint would remember beside weights and optimizer. */
  state: RunState;
}

/** Opens the session as `OpenRun` does, features of runs included. */
export async function openSession(
  setting: TrainCase,
  config: Config,
  model: Model,
  { variant, saved = {} }: { variant: string; saved?: Record<string, unknown> },
): Promise<OpenedSide> {
  const devices = chooseDevices(config);
  const loss = lossOf(setting, model);
  const state = new RunState(saved);
  const session: TrainOptions = trainOptions(model.graph, config.train, {
    device: devices.train.device,
    amp: devices.amp,
    loss,
    stepsPerEpoch: STEPS_PER_EPOCH,
    normalize: null,
  });
  if (variant === 'no_graphs') session.cuda_graphs = 'off';
  const opening: Opening = {
    options: { model, data: dataOf(setting), config, loss, store: null, report },
    train: fixedTrain(config.train),
    devices,
    processes: Processes.alone,
    loader: { batches: STEPS_PER_EPOCH } as NativeLoader,
    stepsPerEpoch: STEPS_PER_EPOCH,
    state,
    hooks: new RunHooks(),
    resumed: false,
    extended: false,
    session,
  };
  // Labels are looked at in data of a run; these are drawn.
  for (const feature of RUN_FEATURES) if (feature !== labelsFeature) await feature.prepare?.(opening);
  return { session: new (loadAddon().TrainSession)(model.native, session), state };
}

/** What the run would say about its settings. */
function report(event: { type: string; message?: string }): void {
  if (event.message) process.stderr.write(`  ${event.message.replaceAll('\n', '\n  ')}\n`);
}

export function makeBatches({ shape, classes, loss, device }: TrainCase): Record<string, NativeTensor>[] {
  const { Tensor } = loadAddon();
  const placed = (tensor: NativeTensor): NativeTensor =>
    device === 'cpu' ? tensor : tensor.to({ device: 'cuda:0' });
  const random = (sizes: readonly number[], value: () => number): NativeTensor => {
    const count = sizes.reduce((product, n) => product * n, 1);
    return placed(Tensor.fromTypedArray(Float32Array.from({ length: count }, value), [...sizes]));
  };
  const [rows, , ...side] = shape;
  return Array.from({ length: BATCHES }, (): Record<string, NativeTensor> => {
    const image = random(shape, () => 2 * Math.random() - 1);
    if (loss === 'mse') return { image, target: random([rows!, classes, ...side], Math.random) };
    const label = BigInt64Array.from({ length: rows! }, () => BigInt(Math.floor(Math.random() * classes)));
    return { image, label: placed(Tensor.fromTypedArray(label, [rows!])) };
  });
}
