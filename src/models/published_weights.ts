/** Weights that others have published for the zoo's architectures: names, files, checksums, how they were measured. */
import { WeightsError } from '../errors.js';
import type { Preprocessing } from '../model/info.js';
import { nearest } from '../nearest.js';
import { IMAGENET_LABELS, VOC_LABELS } from './labels.js';
import { TORCHVISION_URL, TORCHVISION_WEIGHTS } from './published_table.js';

export interface PublishedWeights {
  architecture: string;
  /** `imagenet1k_v2`. Unique within the architecture. */
  name: string;
  /** Whether `default` means these. */
  isDefault: boolean;
  /** File name, as published. */
  file: string;
  /** The beginning of the file's SHA-256, hex. */
  sha256: string;
  /** Null where there is no address to fetch it from: the file must be in the weights folder. */
  url: string | null;
  /** MiB. */
  megabytes: number | null;
  /** Who published them: `torchvision`. */
  publisher: string;
  /** Published figure, 0…1. */
  metric: { name: 'top1' | 'mean_iou'; value: number } | null;
  /** How inputs were prepared when the figure was measured; null if that belongs to the task (faces). */
  preprocessing: Preprocessing | null;
  /** Resize filter of the publisher. Fornax resizes bilinearly: with bicubic weights figures differ a little. */
  interpolation: 'bilinear' | 'bicubic';
  /** Class names by index; empty where none are known. */
  labels: readonly string[];
  /** Tensors of parts that the architecture has only if asked (auxiliary classifiers). */
  ignore: readonly RegExp[];
}

const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };

const CIFAR10_LABELS = 'airplane automobile bird cat deer dog frog horse ship truck'.split(' ');

/** In the file, but in the model only with `auxLogits`. */
const AUXILIARY: Record<string, readonly RegExp[]> = {
  googlenet: [/^aux[12]\./],
  inception_v3: [/^AuxLogits\./],
};

function checksumOf(file: string): string {
  return /-([0-9a-f]{8,64})\.[a-z]+$/.exec(file)![1]!;
}

function fromTorchvision(line: string): PublishedWeights {
  const [architecture, name, file, megabytes, value, resize, crop, normalize, interpolation] = line
    .trim()
    .split(/\s+/) as [string, string, string, string, string, string, string, string, string];
  const segments = name.startsWith('coco');
  // torchvision builds these two with transform_input, which turns ImageNet's normalisation into this one.
  const half = normalize === 'half' || Object.hasOwn(AUXILIARY, architecture);
  const side = Number(crop) || Number(resize);
  return {
    architecture,
    name: name.replace('*', ''),
    isDefault: name.endsWith('*'),
    file,
    sha256: checksumOf(file),
    url: TORCHVISION_URL + file,
    megabytes: Number(megabytes),
    publisher: 'torchvision',
    metric: { name: segments ? 'mean_iou' : 'top1', value: Number((Number(value) / 100).toFixed(5)) },
    preprocessing: {
      channels: 3,
      pack_size: null,
      resize: Number(resize),
      size: [side, side],
      normalize: half ? HALF : IMAGENET,
    },
    interpolation: interpolation as 'bilinear' | 'bicubic',
    labels: segments ? VOC_LABELS : IMAGENET_LABELS,
    ignore: AUXILIARY[architecture] ?? [],
  };
}

/** Yerlan Idelbayev's ResNets for CIFAR-10. */
function fromAkamaster(file: string, error: number): PublishedWeights {
  return {
    architecture: file.slice(0, file.indexOf('-')),
    name: 'cifar10',
    isDefault: true,
    file,
    sha256: checksumOf(file),
    url: `https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/${file}`,
    megabytes: null,
    publisher: 'akamaster',
    metric: { name: 'top1', value: Number((1 - error / 100).toFixed(4)) },
    preprocessing: { channels: 3, pack_size: null, resize: 32, size: [32, 32], normalize: IMAGENET },
    interpolation: 'bilinear',
    labels: CIFAR10_LABELS,
    ignore: [],
  };
}

/** Files that are passed on without a lasting address. */
function local(
  entry: Pick<PublishedWeights, 'architecture' | 'name' | 'file' | 'sha256' | 'publisher'> &
    Partial<PublishedWeights>,
): PublishedWeights {
  return {
    isDefault: true,
    url: null,
    megabytes: null,
    metric: null,
    preprocessing: null,
    interpolation: 'bilinear',
    labels: [],
    ignore: [],
    ...entry,
  };
}

const mobilenetv1 = {
  architecture: 'mobilenetv1_025',
  publisher: 'biubug6',
  labels: IMAGENET_LABELS,
  preprocessing: { channels: 3, pack_size: null, resize: 256, size: [224, 224], normalize: IMAGENET },
} as const satisfies Partial<PublishedWeights>;

const others: readonly PublishedWeights[] = [
  fromAkamaster('resnet20-12fca82f.th', 8.27),
  fromAkamaster('resnet32-d509ac18.th', 7.37),
  fromAkamaster('resnet44-014dd654.th', 6.9),
  fromAkamaster('resnet56-4bfd9763.th', 6.61),
  fromAkamaster('resnet110-1d1ed7c2.th', 6.32),
  local({
    ...mobilenetv1,
    name: 'imagenet1k',
    file: 'mobilenetV1X0.25_pretrain.tar',
    sha256: '75c37f8d438b7c6a',
  }),
  local({
    architecture: 'retinaface_mobilenet025',
    name: 'widerface',
    file: 'RetinaFace_mobilenet025.pth',
    sha256: '2979b33ffafda5d7',
    publisher: 'biubug6',
  }),
  local({
    architecture: 'featherface_baseline',
    name: 'widerface',
    file: 'featherface__mobilenet0.25_Final.pth',
    sha256: '3271e30763c069c9',
    publisher: 'FeatherFace',
  }),
  local({
    architecture: 'featherface_eca_cbam',
    name: 'widerface',
    file: 'featherface_eca_cbam_final.pth',
    sha256: '81cdeffd35c13e21',
    publisher: 'FeatherFace',
  }),
];

let all: readonly PublishedWeights[] | null = null;

/** Everything that is published for an architecture, or for all; the default first. */
export function publishedWeights(architecture?: string): readonly PublishedWeights[] {
  all ??= [...TORCHVISION_WEIGHTS.trim().split('\n').map(fromTorchvision), ...others];
  if (architecture === undefined) return all;
  return all
    .filter((entry) => entry.architecture === architecture)
    .sort((a, b) => Number(b.isDefault) - Number(a.isDefault));
}

/**
 * The weights of that name; `default` is the publisher's best choice.
 *
 * @throws WeightsError listing those there are.
 */
export function findPublishedWeights(architecture: string, name: string): PublishedWeights {
  const known = publishedWeights(architecture);
  const wanted = name.toLowerCase();
  const found = wanted === 'default' ? known[0] : known.find((entry) => entry.name === wanted);
  if (found) return found;
  const names = known.map((entry) => entry.name);
  if (names.length === 0) {
    throw new WeightsError({
      what: `there are no published weights for '${architecture}'`,
      fix: 'give the path or the address of a file',
    });
  }
  const hint = nearest(name, names);
  throw new WeightsError({
    what: `'${architecture}' has no published weights called '${name}', and there is no such file`,
    fix: `${hint ? `did you mean '${hint}'? ` : ''}there are: ${names.join(', ')} (or default)`,
  });
}

/** For lists of models: `torchvision: imagenet1k_v2, imagenet1k_v1`; empty if nothing is published. */
export function originOfWeights(architecture: string): string {
  const known = publishedWeights(architecture);
  return known.length === 0 ? '' : `${known[0]!.publisher}: ${known.map(({ name }) => name).join(', ')}`;
}
