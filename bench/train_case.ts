/** The steps that `npm run bench:train` measures. All sides get such a case as JSON. */
import { ArgumentError } from '#fornax/errors.js';

export interface TrainCase {
  /** By which `--only` names it. */
  id: string;
  /** As the table shows it. */
  name: string;
  /** Of the zoo; `head`: two linear layers. */
  model: string;
  /** Of one batch of inputs: [N, C, H, W], or [N, features]. */
  shape: readonly number[];
  classes: number;
  optimizer: 'sgd' | 'adamw';
  /** `mse`: over maps of the size of the image. */
  loss: 'cross_entropy' | 'mse';
  device: 'cpu' | 'cuda';
  threads: number;
  /** Whether writing and reading checkpoints is measured, too. */
  checkpoints: boolean;
}

/** Batches that a side goes through in turn, so that it does not train on one alone. */
export const BATCHES = 4;
export const LEARNING_RATE = { sgd: 0.01, adamw: 1e-4 };
export const MOMENTUM = 0.9;
export const WEIGHT_DECAY = 1e-4;

/** A side of the comparison: Fornax in one of its settings, or PyTorch in one of its. */
export interface Variant {
  id: string;
  /** Head of its column. */
  title: string;
  side: 'fornax' | 'peer';
}

const cpuVariants = [
  { id: 'fornax', title: 'Fornax', side: 'fornax' },
  { id: 'fp32', title: 'Fornax, fp32 only', side: 'fornax' },
  { id: 'eager', title: 'eager', side: 'peer' },
  { id: 'amp', title: 'eager bf16', side: 'peer' },
  { id: 'compile', title: 'torch.compile', side: 'peer' },
] as const satisfies Variant[];

/** On a GPU everything is in mixed precision. */
const cudaVariants = [
  { id: 'fornax', title: 'Fornax', side: 'fornax' },
  { id: 'no_graphs', title: 'Fornax, no CUDA graphs', side: 'fornax' },
  { id: 'amp', title: 'eager bf16', side: 'peer' },
  { id: 'compile_amp', title: 'torch.compile bf16', side: 'peer' },
] as const satisfies Variant[];

export function variantsOn(device: TrainCase['device']): readonly Variant[] {
  return device === 'cpu' ? cpuVariants : cudaVariants;
}

/** The peer that the geometric mean is over: plain PyTorch. */
export function baselineOn(device: TrainCase['device']): string {
  return device === 'cpu' ? 'eager' : 'amp';
}

export function trainCases(device: TrainCase['device'], threads: number): TrainCase[] {
  const common = { device, threads, checkpoints: false };
  const classifier = { ...common, classes: 1000, optimizer: 'sgd', loss: 'cross_entropy' } as const;
  if (device === 'cuda') {
    return [
      {
        ...classifier,
        id: 'resnet50',
        name: 'resnet50, b256, 224², SGD',
        model: 'resnet50',
        shape: [256, 3, 224, 224],
      },
    ];
  }
  return [
    {
      ...classifier,
      id: 'resnet18',
      name: 'resnet18, b64, 64², SGD',
      model: 'resnet18',
      shape: [64, 3, 64, 64],
      checkpoints: true,
    },
    {
      ...classifier,
      id: 'mobilenet_v2',
      name: 'mobilenet_v2, b32, 96², SGD',
      model: 'mobilenet_v2',
      shape: [32, 3, 96, 96],
      checkpoints: true,
    },
    {
      ...classifier,
      id: 'efficientnet_b0',
      name: 'efficientnet_b0, b32, 96², SGD',
      model: 'efficientnet_b0',
      shape: [32, 3, 96, 96],
    },
    {
      ...common,
      id: 'unet',
      name: 'U-Net 16/32/64/128, b8, 128², MSE, AdamW',
      model: 'unet',
      shape: [8, 3, 128, 128],
      classes: 21,
      optimizer: 'adamw',
      loss: 'mse',
    },
    {
      ...common,
      id: 'head',
      name: 'head 1280→256→ReLU→100, b128, AdamW',
      model: 'head',
      shape: [128, 1280],
      classes: 100,
      optimizer: 'adamw',
      loss: 'cross_entropy',
    },
  ];
}

/** @throws ArgumentError for a name that no case has */
export function selectCases(cases: TrainCase[], names: readonly string[] | null): TrainCase[] {
  if (names === null) return cases;
  const unknown = names.filter((name) => !cases.some(({ id }) => id === name));
  if (unknown.length > 0) {
    throw new ArgumentError({
      what: `no case is named ${unknown.join(', ')}`,
      fix: `the cases are ${cases.map(({ id }) => id).join(', ')}`,
    });
  }
  return cases.filter(({ id }) => names.includes(id));
}
