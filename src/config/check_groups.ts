/** Rules of `train.groups`. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

export function checkGroups({ train }: z.output<typeof configSchema>, refuse: Refuse): void {
  for (const [i, { lr_scale: scale, weight_decay: decay, frozen }] of train.groups.entries()) {
    if (scale !== null || decay !== null || frozen !== null) continue;
    refuse(
      ['train', 'groups', i],
      'sets nothing for the parameters that it matches',
      'give it lr_scale, weight_decay or frozen, or leave it out',
    );
  }
}
