/** Rules of `train.mixup` and `train.cutmix`. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

/** Losses that take shares of the classes; `distillation` looks at no labels. */
const TAKE_SHARES = ['cross_entropy', 'bce', 'focal', 'distillation'];

export function checkMixing({ train }: z.output<typeof configSchema>, refuse: Refuse): void {
  checkUnused(train, refuse);
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

/** Keys that would have no effect. */
function checkUnused(train: z.output<typeof configSchema>['train'], refuse: Refuse): void {
  const { mixup, cutmix, mix_epochs: mixEpochs, epochs } = train;
  const given = {
    mix_prob: train.mix_prob !== 1,
    mix_switch_prob: train.mix_switch_prob !== 0.5,
    mix_epochs: mixEpochs !== null,
  };
  for (const [key, isGiven] of Object.entries(given)) {
    if (!isGiven) continue;
    if (mixup === 0 && cutmix === 0) {
      refuse(['train', key], 'nothing is mixed', 'give train.mixup or train.cutmix, or leave it out', 'key');
    } else if (key === 'mix_switch_prob' && (mixup === 0 || cutmix === 0)) {
      refuse(
        ['train', key],
        'there is nothing to switch to',
        'give both mixup and cutmix, or leave it out',
        'key',
      );
    }
  }
  if (mixEpochs !== null && mixEpochs > epochs) {
    refuse(['train', 'mix_epochs'], `expected at most train.epochs (${epochs}), got ${mixEpochs}`);
  }
}
