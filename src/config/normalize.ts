/** Named pixel statistics, for pixels scaled to 0…1. */
import type { Normalize } from '../native/contract.js';
import type { Config } from './schema.js';

export const normalizePresets: Record<string, Normalize> = {
  imagenet: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  cifar10: { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] },
  fashion_mnist: { mean: [0.286], std: [0.353] },
  half: { mean: [0.5], std: [0.5] },
  none: { mean: [0], std: [1] },
};

/**
 * The statistics to use, one per channel; a single value is repeated, three become their average for grayscale.
 * @param setting `data.normalize`
 * @param channels 1 or 3
 * @param pretrained what the pretrained model file says, for `auto`
 */
export function resolveNormalize(
  setting: Config['data']['normalize'],
  channels: number,
  pretrained?: Normalize | null,
): Normalize {
  const chosen =
    typeof setting !== 'string'
      ? setting
      : setting === 'auto'
        ? (pretrained ?? normalizePresets[channels === 3 ? 'imagenet' : 'half']!)
        : normalizePresets[setting]!;
  const fit = (values: number[]): number[] =>
    values.length === channels
      ? [...values]
      : values.length === 1
        ? new Array<number>(channels).fill(values[0]!)
        : new Array<number>(channels).fill(values.reduce((sum, value) => sum + value, 0) / values.length);
  return { mean: fit(chosen.mean), std: fit(chosen.std) };
}
