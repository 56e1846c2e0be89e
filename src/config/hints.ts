/** The nearest valid spelling of what somebody wrote. */
import { nearest } from '../nearest.js';
import { allKeys } from './json_schema.js';

/** What other trainers call a key. */
const synonyms: Record<string, string> = {
  learning_rate: 'train.lr',
  wd: 'train.weight_decay',
  num_epochs: 'train.epochs',
  max_epochs: 'train.epochs',
  scheduler: 'train.schedule',
  criterion: 'train.loss',
  loss_fn: 'train.loss',
  optim: 'train.optimizer',
  mixed_precision: 'train.amp',
  gradient_accumulation_steps: 'train.grad_accum',
  grad_clip: 'train.clip_norm',
  image_size: 'data.resolution',
  img_size: 'data.resolution',
  imgsz: 'data.resolution',
  num_workers: 'data.workers',
  dataset: 'data',
  arch: 'model.name',
  output_dir: 'run.dir',
};

/** For an unknown key in the map at `path`: a sibling spelt alike, or the place where the key belongs. */
export function nearestKey(
  key: string,
  path: readonly string[],
  siblings: readonly string[],
): string | undefined {
  const close = nearest(key, siblings);
  const everywhere = allKeys();
  const elsewhere =
    everywhere.find((full) => full.at(-1) === key) ??
    (Object.hasOwn(synonyms, key) ? synonyms[key]!.split('.') : undefined);
  if (elsewhere) {
    // A sibling of another optimizer or schedule.
    if (elsewhere.join('.') === [...path, key].join('.')) return `valid keys here: ${siblings.join(', ')}`;
    const name = elsewhere.join('.');
    const inside = elsewhere.slice(0, -1).join('.');
    return inside === path.join('.') ? `did you mean "${elsewhere.at(-1)}"?` : `did you mean "${name}"?`;
  }
  if (close) return `did you mean "${close}"?`;
  const far = nearest(
    key,
    everywhere.map((full) => full.at(-1)!),
  );
  const place = far === undefined ? undefined : everywhere.find((full) => full.at(-1) === far);
  if (place) return `did you mean "${place.join('.')}"?`;
  return siblings.length > 0 ? `valid keys: ${siblings.join(', ')}` : undefined;
}
