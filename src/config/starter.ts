/** The config that `fornax init` writes: few keys, each with why it has this value for this folder. */
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { stringify } from 'yaml';
import { openFolder } from '../data/folder_layout.js';
import { ConfigError, DataError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import { loadConfig } from './load.js';

/** What was found in the folder. */
export interface Survey {
  path: string;
  classes: number;
  trainImages: number;
  /** Null where there is no folder for validation. */
  valImages: number | null;
  /** Images of the largest class over those of the smallest. */
  imbalance: number;
  /** Middle of the widths and of the heights of a sample. */
  median: { width: number; height: number };
}

function middle(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Lists the folder and reads the headers of a spread of its images. @throws DataError if it holds no classes or no readable image */
export async function surveyFolder(dir: string): Promise<Survey> {
  const source = await openFolder(dir);
  const { train, val } = source;
  const perClass = new Array<number>(source.classes.length).fill(0);
  for (const label of train.labels) perClass[label]!++;
  const sizes = await train.sampleSizes();
  if (sizes.length === 0) {
    throw new DataError({
      what: `${train.labels.length} image files, but not one of those looked at can be read`,
      where: dir,
      fix: `\`fornax data pack ${dir}\` names each with its reason; JPEG, PNG and WebP are read`,
    });
  }
  return {
    path: dir,
    classes: source.classes.length,
    trainImages: train.labels.length,
    valImages: (val ?? source.test)?.labels.length ?? null,
    imbalance: Math.max(...perClass) / Math.max(1, Math.min(...perClass)),
    median: { width: middle(sizes.map((s) => s.width)), height: middle(sizes.map((s) => s.height)) },
  };
}

interface Choice {
  model: string;
  resolution: number;
  batchSize: number;
  epochs: number;
  /** Why, for the comments. */
  why: { model: string; resolution: string; epochs: string };
}

/** Small images get a CIFAR network at 32²; others a ResNet-18 at no more than their own size. */
export function chooseSettings(survey: Survey): Choice {
  const { median } = survey;
  const shorter = Math.min(median.width, median.height);
  const small = shorter <= 48;
  const resolution = small ? 32 : shorter < 112 ? 64 : shorter < 192 ? 128 : 224;
  const batchSize = survey.trainImages >= 2000 ? (small ? 128 : 64) : survey.trainImages >= 256 ? 32 : 16;
  // About 6,000 steps, within reason: fewer images need more passes.
  const epochs = Math.min(
    100,
    Math.max(10, Math.round((6000 * batchSize) / Math.max(1, survey.trainImages) / 10) * 10),
  );
  return {
    model: small ? 'resnet20' : 'resnet18',
    resolution,
    batchSize,
    epochs,
    why: {
      model: small ? 'made for small images' : 'a good first choice; resnet34 and resnet50 are larger',
      resolution: `the images are mostly about ${median.width}×${median.height}`,
      epochs: `${Math.ceil(survey.trainImages / batchSize)} steps each`,
    },
  };
}

export function starterYaml(survey: Survey): string {
  const choice = chooseSettings(survey);
  const scalar = (value: string): string => stringify(value).trimEnd();
  const validation =
    survey.valImages === null
      ? `  val_fraction: 0.1       # there is no validation folder: a tenth of each class is held out`
      : `  val: auto               # found: ${survey.valImages} images`;
  return `# ${survey.classes} classes, ${survey.trainImages} training images. Every key: docs/config.md, or \`fornax config show\`.
${survey.imbalance >= 4 ? `# The largest class has ${survey.imbalance.toFixed(0)} times the images of the smallest: look at the per-class figures.\n` : ''}
model:
  name: ${choice.model.padEnd(16)}  # ${choice.why.model} (\`fornax models\`)
  # pretrained: runs/other/model.safetensors   # start from these weights instead of random ones

data:
  path: ${scalar(survey.path)}
${validation}
  resolution: ${String(choice.resolution).padEnd(10)}  # ${choice.why.resolution}
  augment:
    hflip: 0.5            # 0 where left and right differ (digits, letters, road signs)

train:
  epochs: ${String(choice.epochs).padEnd(14)}  # ${choice.why.epochs}
  batch_size: ${String(choice.batchSize).padEnd(10)}  # halve it if the GPU runs out of memory
  lr: auto                # follows batch_size
  optimizer: sgd          # or adamw
  schedule: { name: cosine, warmup_epochs: 1 }
  label_smoothing: 0.1
  amp: auto               # mixed precision, where it is faster

device: auto              # or cpu, cuda:1, { train: cuda, eval: cpu }

run:
  dir: runs
  existing: skip          # a finished run is not trained again without --force
`;
}

/**
 * Surveys `dir` and writes a config for it.
 * @throws DataError for a folder without classes or without a readable image, ConfigError if `out` exists and `force` is not given
 */
export async function writeStarterConfig(
  dir: string,
  out: string,
  options: { force?: boolean } = {},
): Promise<{ survey: Survey; file: string }> {
  if (existsSync(out) && !options.force) {
    throw new ConfigError({
      what: 'The file exists already',
      where: out,
      fix: 'name another with --out, or give --force',
    });
  }
  // A path below the working directory stays relative, so that the config can be shared.
  const below = relative('.', resolve(dir));
  const survey = await surveyFolder(dir);
  survey.path = below === '' ? '.' : below.startsWith('..') ? resolve(dir) : below;
  await writeFileAtomic(out, starterYaml(survey));
  loadConfig({ files: [out] });
  return { survey, file: out };
}
