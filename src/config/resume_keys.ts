/**
 * For every key of the config: whether a run may be resumed with another value. A key stands for all that is below
 * it. test/resume_keys.test.ts fails for a key of the schema that is not in this list.
 */

/**
 * `compared`: it decides what the run computes, another value is refused. `free`: where things run and lie, how
 * often something is measured or kept, how long to train.
 */
export type ResumeClass = 'compared' | 'free';

export const RESUME_KEYS: Readonly<Record<string, ResumeClass>> = {
  name: 'free',
  'model.name': 'compared',
  'model.options': 'compared',
  'model.num_classes': 'compared',
  // Only say where the first weights came from; a checkpoint has its own.
  'model.pretrained': 'free',
  'model.weights_dir': 'free',
  'model.pretrained_strict': 'free',
  'data.source': 'compared',
  // Which images there are is compared by the fingerprint of the data set.
  'data.path': 'free',
  'data.train': 'compared',
  'data.val': 'compared',
  'data.val_fraction': 'compared',
  'data.resolution': 'compared',
  'data.channels': 'compared',
  'data.pack': 'free',
  'data.on_broken': 'free',
  'data.normalize': 'compared',
  'data.workers': 'free',
  'data.cache': 'free',
  'data.limit': 'compared',
  'data.augment': 'compared',
  // Another number gives a warning where the schedule follows it.
  'train.epochs': 'free',
  'train.batch_size': 'compared',
  'train.lr': 'compared',
  'train.optimizer': 'compared',
  'train.weight_decay': 'compared',
  'train.decay_norm_and_bias': 'compared',
  'train.layer_decay': 'compared',
  'train.head_lr': 'compared',
  'train.groups': 'compared',
  'train.schedule': 'compared',
  'train.loss': 'compared',
  'train.label_smoothing': 'compared',
  'train.aux_weight': 'compared',
  // What `auto` came to is compared, with a warning.
  'train.amp': 'compared',
  'train.precision': 'compared',
  'train.channels_last': 'compared',
  'train.deterministic': 'free',
  'train.cudnn_benchmark': 'free',
  'train.cuda_graphs': 'free',
  'train.tf32': 'compared',
  'train.flush_denormal': 'compared',
  // Another number gives a warning.
  'train.threads': 'free',
  'train.seed': 'compared',
  'train.grad_accum': 'compared',
  'train.clip_norm': 'compared',
  'train.clip_value': 'compared',
  'train.ema': 'compared',
  'train.swa': 'compared',
  // A run that was stopped may go on with another policy.
  'train.nan_watch': 'free',
  'train.mixup': 'compared',
  'train.cutmix': 'compared',
  'train.mix_prob': 'compared',
  'train.mix_switch_prob': 'compared',
  'train.mix_epochs': 'compared',
  'train.bn_recompute': 'compared',
  'train.sync_batch_norm': 'compared',
  'train.early_stopping': 'free',
  'train.max_time': 'free',
  'train.frozen': 'compared',
  device: 'free',
  // What has been halved is in the checkpoint.
  memory: 'free',
  dist: 'free',
  // But for `every_epochs` where the schedule counts evaluations (src/train/resume.ts).
  eval: 'free',
  'checkpoint.every_epochs': 'free',
  'checkpoint.every_minutes': 'free',
  'checkpoint.every_steps': 'free',
  'checkpoint.keep': 'free',
  'checkpoint.keep_best': 'free',
  'checkpoint.keep_every_epochs': 'free',
  // They decide which of the epochs so far was the best.
  'checkpoint.monitor': 'compared',
  'checkpoint.mode': 'compared',
  run: 'free',
};

/** The class of a key by its dotted path, or of the nearest one above it; undefined for one that is not in the list. */
export function resumeClass(path: string): ResumeClass | undefined {
  for (let at = path; at !== ''; at = at.slice(0, Math.max(0, at.lastIndexOf('.')))) {
    const found = Object.hasOwn(RESUME_KEYS, at) ? RESUME_KEYS[at] : undefined;
    if (found) return found;
  }
  return undefined;
}
