/** CUDA graphs of a run: asked for, told of, counted. The native half is native/train/recording/step_capture.h. */
import { ConfigError } from '../errors.js';
import type { AnyLoaderOptions, StepsEvent } from '../native/contract.js';
import type { OpenRun } from './open_run.js';
import type { RunFeature } from './run_features.js';

/** Steps of this process that were repeated from a graph, and all of them. */
interface Counted {
  repeated: number;
  steps: number;
}

const countsOf = new WeakMap<OpenRun, Counted>();

export const cudaGraphsFeature: RunFeature = {
  prepare({ train, devices, session }) {
    if (devices.train.type === 'cuda') session.cuda_graphs = train.cudaGraphs;
    else if (train.cudaGraphs === 'on') {
      throw new ConfigError({
        what: 'CUDA graphs need a GPU, and this training runs on the CPU',
        where: 'train.cuda_graphs',
        fix: 'use auto or off, or train on cuda',
      });
    }
  },
  attach(run) {
    if (!run.devices.train.device.startsWith('cuda')) return;
    const counted: Counted = { repeated: 0, steps: 0 };
    countsOf.set(run, counted);
    run.hooks.add({ onEnd: () => summarise(run, counted) });
  },
};

/** Of each event of the native session. */
export function countRepeated(run: OpenRun, { losses, repeated = 0, declined }: StepsEvent): void {
  if (declined !== undefined) {
    run.options.report({ type: 'info', message: `CUDA graphs are not used: ${declined}` });
  }
  const counted = countsOf.get(run);
  if (!counted) return;
  counted.repeated += repeated;
  counted.steps += losses.length;
}

function summarise(run: OpenRun, { repeated, steps }: Counted): void {
  if (repeated === 0) return;
  const message = `CUDA graphs: ${repeated} of ${steps} steps were repeated from a graph`;
  run.options.report({ type: 'info', message });
}

/** Batches for a GPU lie in page-locked memory, from which copies run beside the steps. */
export function forDevice<Options extends AnyLoaderOptions>(options: Options, device: string): Options {
  return device.startsWith('cuda') && 'shards' in options ? { ...options, pin: true } : options;
}
