/** Deterministic mode and what it has to do with cuDNN's benchmark. */
import type { Config } from '../config/schema.js';
import type { TrainOptions } from '../native/contract.js';

type Settings = Pick<Config['train'], 'deterministic' | 'cudnnBenchmark'>;

/** Whether cuDNN times its algorithms: what it then chooses may differ from run to run. */
export function cudnnBenchmark({ deterministic, cudnnBenchmark: setting }: Settings): boolean {
  return setting === 'auto' ? !deterministic : setting;
}

/**
 * Settings of the whole process. What has no meaning on a device is not asked for, so that sessions of one process
 * contradict each other only where it matters.
 */
export function processOptions(
  train: Settings,
  device: string,
): Pick<TrainOptions, 'deterministic' | 'cudnn_benchmark'> {
  const cuda = device.startsWith('cuda');
  return {
    ...(train.deterministic && { deterministic: true }),
    ...(cuda && { cudnn_benchmark: cudnnBenchmark(train) }),
  };
}
