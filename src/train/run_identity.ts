/** What makes a run this run and no other: what its checkpoints are compared with, and its processes with each other. */
import { loadAddon } from '../native.js';
import type { OpenRun } from './open_run.js';
import { comparedConfig, type ResumeIdentity } from './resume.js';
import type { TrainingRunOptions } from './training_run_types.js';

/** What several processes must have in common, before anything is opened. */
export function fingerprintsOf({ config, data, model }: TrainingRunOptions): Record<string, string> {
  const { device: _, ...compared } = comparedConfig(config);
  return { config: JSON.stringify(compared), 'data set': data.fingerprint, model: model.graphHash() };
}

export function identityOf({
  options,
  devices,
  train,
  processes,
  stepsPerEpoch,
}: Pick<OpenRun, 'options' | 'devices' | 'train' | 'processes' | 'stepsPerEpoch'>): ResumeIdentity {
  const { config, data, model } = options;
  return {
    config: comparedConfig(config),
    computed: {
      device: devices.train.type,
      amp: devices.amp,
      threads: train.threads === 'auto' ? loadAddon().systemInfo().threads : train.threads,
      ...(processes.world > 1 && { processes: processes.world }),
    },
    dataFingerprint: data.fingerprint,
    graphHash: model.graphHash(),
    stepsPerEpoch,
  };
}
