/** The training steps that are measured. Both sides get such a case as JSON. */

export interface StepCase {
  /** As the table shows it. */
  name: string;
  model: 'resnet18' | 'tiny_cnn' | 'head';
  /** Of one batch of inputs. */
  shape: readonly number[];
  classes: number;
  optimizer: 'sgd' | 'adamw';
  /** Channels-last weights and activations (where there are images). */
  channelsLast: boolean;
  threads: number;
  /** Of PyTorch's optimizer: `fused` as Fornax's is, or what PyTorch takes on a CPU by itself. */
  peerOptimizer: 'fused' | 'default';
  /** Fornax's time over PyTorch's that is asked for. */
  target: number;
}

/** Batches that the sides go through in turn, so that they do not train on one alone. */
export const BATCHES = 8;
export const LEARNING_RATE = { sgd: 0.01, adamw: 1e-4 };
export const MOMENTUM = 0.9;

export function stepCases(threads: number, channelsLast: boolean): StepCase[] {
  const layout = channelsLast ? 'channels-last' : 'contiguous';
  const common = { threads, channelsLast };
  const small = { ...common, target: 0.7 };
  const cnn = {
    ...small,
    model: 'tiny_cnn',
    shape: [128, 3, 32, 32],
    classes: 10,
    optimizer: 'sgd',
  } as const;
  const head = { ...small, model: 'head', shape: [128, 1280], classes: 100, optimizer: 'adamw' } as const;
  return [
    {
      ...common,
      name: `resnet18, b64, 64², SGD, ${layout}`,
      model: 'resnet18',
      shape: [64, 3, 64, 64],
      classes: 1000,
      optimizer: 'sgd',
      peerOptimizer: 'fused',
      target: 1,
    },
    { ...cnn, name: `tiny CNN, b128, 32², SGD, ${layout}`, peerOptimizer: 'fused' },
    { ...cnn, name: `the same, PyTorch's default optimizer loop`, peerOptimizer: 'default' },
    { ...head, name: 'head 1280→256→ReLU→100, b128, AdamW', peerOptimizer: 'fused' },
    { ...head, name: `the same, PyTorch's default optimizer loop`, peerOptimizer: 'default' },
  ];
}
