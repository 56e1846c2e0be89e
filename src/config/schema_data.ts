/** The section `data` of a config. */
import { z } from 'zod';
import { auto, path, positiveInt, share } from './schema_values.js';

const augment = z
  .strictObject({
    crop: z
      .enum(['auto', 'random_resized_crop', 'random_crop', 'resize_crop', 'none'])
      .default('auto')
      .describe(
        'How a training image comes to its size. `random_resized_crop`: a random part, scaled; `random_crop`: zero padding, then a random window of the input size (CIFAR; of larger images it shows a part); `resize_crop`: scaled, then the centre; `none`: images have the size already. `auto`: `random_crop` where all images have exactly the input size and that is at most 64 pixels, else `random_resized_crop`, for input sizes of at most 64 pixels with at least half of the area (`scale` starts at 0.5).',
      ),
    scale: z
      .tuple([z.number().gt(0).max(1), z.number().gt(0).max(1)])
      .default([0.08, 1])
      .describe('`random_resized_crop`: smallest and largest share of the area.'),
    ratio: z
      .tuple([z.number().gt(0), z.number().gt(0)])
      .default([0.75, 1.3333])
      .describe('`random_resized_crop`: smallest and largest width / height.'),
    padding: z.int().min(0).max(512).default(4).describe('`random_crop`: pixels of padding on every side.'),
    hflip: share.default(0.5).describe('Probability of a horizontal flip.'),
  })
  .describe('Random changes to training images, made by the loader. Evaluation never uses them.');

const statistics = z.strictObject({
  mean: z.array(z.number()).min(1).max(3).describe('Per channel, for pixels scaled to 0…1.'),
  std: z.array(z.number().gt(0)).min(1).max(3).describe('Per channel, for pixels scaled to 0…1.'),
});

export const dataSchema = z
  .strictObject({
    source: z
      .enum(['auto', 'folder', 'idx', 'shapes'])
      .default('auto')
      .describe(
        'Kind of data. `folder`: `<class>/<image>` folders; `idx`: the four files of MNIST or Fashion-MNIST, gzip or not; `shapes`: the generated sample set. `auto`: seen from what lies at `path`.',
      ),
    path: path
      .nullable()
      .default(null)
      .describe(
        'Folder of the data, relative to the working directory. May be left out for `idx` (where Debian’s package dataset-fashion-mnist puts it) and `shapes` (in the cache).',
      ),
    train: path
      .default('train')
      .describe(
        'Folder of the training images inside `path`. Where it does not exist, `path` itself holds the classes.',
      ),
    val: path
      .nullable()
      .default('auto')
      .describe(
        'Folder of the validation images inside `path`. `auto`: `val`, `valid`, `validation` or `test` if there is one, else a share of the training images. `null`: always a share.',
      ),
    val_fraction: z
      .number()
      .min(0)
      .lt(1)
      .default(0.1)
      .describe('Share of the training images held out, per class, where there is no validation folder.'),
    resolution: z
      .union([auto, z.int().min(8).max(4096), z.tuple([z.int().min(8).max(4096), z.int().min(8).max(4096)])])
      .default('auto')
      .describe(
        'Input size in pixels: one number, or `[height, width]`. `auto`: the size the model was made for.',
      ),
    channels: z
      .union([auto, z.literal(1), z.literal(3)])
      .default('auto')
      .describe('1: grayscale, 3: RGB. `auto`: 1 for `idx`, else 3.'),
    pack: z
      .enum(['auto', 'resized', 'original'])
      .default('auto')
      .describe(
        'How decoded images are kept in the pack: scaled down to twice the resolution, or at full size. `auto`: full size where the images are small and fit in 4 GiB, else scaled down.',
      ),
    on_broken: z
      .enum(['skip', 'fail'])
      .default('skip')
      .describe('Images that cannot be decoded: listed and left out, or an error.'),
    normalize: z
      .union([z.enum(['auto', 'imagenet', 'cifar10', 'fashion_mnist', 'half', 'none']), statistics])
      .default('auto')
      .describe(
        'Mean and standard deviation taken off the pixels, by name or as numbers (`half`: 0.5 and 0.5). `auto`: those of `model.pretrained` if it has any, else `imagenet` for colour and `half` for grayscale.',
      ),
    workers: z
      .union([auto, z.int().min(1).max(256)])
      .default('auto')
      .describe('Threads that assemble batches. They never change what is delivered.'),
    cache: path
      .nullable()
      .default(null)
      .describe('Folder for packs. `null`: `$FORNAX_CACHE`, else `~/.cache/fornax`.'),
    limit: positiveInt
      .nullable()
      .default(null)
      .describe('At most this many training images, chosen by `train.seed` (for a quick trial).'),
    augment: augment.prefault({}),
  })
  .describe('Where the images come from and how they are prepared.');
