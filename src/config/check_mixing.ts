/** Rules of `train.mixup` and `train.cutmix`. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

/** Losses that take shares of the classes; `distillation` looks at no labels. */
const TAKE_SHARES = ['cross_entropy', 'bce', 'focal', 'distillation'];

export function checkMixing({ train }: z.output<typeof configSchema>, refuse: Refuse): void {
  if (train.mixup === 0 && train.cutmix === 0) return;
  const key = train.mixup > 0 ? 'mixup' : 'cutmix';
  for (const loss of train.loss) {
    if (!TAKE_SHARES.includes(loss.name)) {
      refuse(
        ['train', key],
        `the loss ${loss.name} compares with no labels that could be mixed`,
        `leave ${key} out, or use the loss cross_entropy, bce or focal`,
      );
    } else if ('ignore_index' in loss && loss.ignore_index !== null) {
      refuse(
        ['train', key],
        `the loss ${loss.name} cannot ignore a label (ignore_index) that is mixed with another`,
        `leave ${key} or ignore_index out`,
      );
    }
  }
}
