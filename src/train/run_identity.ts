/** What makes a run this run and no other: what its checkpoints are compared with, and its processes with each other. */
import { createHash } from 'node:crypto';

import { canonicalJson } from '../io/canonical_json.js';
import type { Model } from '../model.js';
import { loadAddon } from '../native.js';
import type { OpenRun } from './open_run.js';
import { comparedConfig, type ResumeIdentity } from './resume.js';
import { watched } from './stopping.js';
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
    hashes: hashesOf(options),
    stepsPerEpoch,
  };
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

/** Graph and weights: a teacher is named by its file, which may be another one by now. */
function hashOfModel(model: Model): string {
  const hash = createHash('sha256').update(model.graphHash());
  for (const { name, tensor } of model.state()) {
    const { buffer, byteOffset, byteLength } = tensor.toTypedArray();
    hash.update(name).update(new Uint8Array(buffer, byteOffset, byteLength));
    tensor.dispose();
  }
  return hash.digest('hex');
}

/** What a run is given beside its config, by the names of messages. Of metrics those that decide something. */
function hashesOf({ config, data, loss, metrics, teacher }: TrainingRunOptions): Record<string, string> {
  const { earlyStopping } = config.train;
  const deciding = new Set([config.checkpoint.monitor]);
  if (earlyStopping) deciding.add(watched(earlyStopping, config.checkpoint).monitor);
  const loader = data.loaderOptions('train', { batchSize: 1, seed: 0 });
  return {
    loss: hashOf(loss),
    preprocessing: hashOf(data.preprocessing),
    augmentation: hashOf('augment' in loader ? loader.augment : null),
    ...(teacher && { teacher: hashOfModel(teacher) }),
    ...Object.fromEntries(
      Object.entries(metrics ?? {})
        .filter(([name]) => deciding.has(name))
        .map(([name, graph]) => [`metrics.${name}`, hashOf(graph)]),
    ),
  };
}
