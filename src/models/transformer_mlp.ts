/** The two linear layers of a transformer's block, as vit.ts and swin.ts share them (torchvision.ops.MLP). */
import { Dropout, GELU, init, Linear, Sequential } from '../nn/index.js';
import type { OptionSpec } from './architecture.js';

/** [..., C] → [..., C] by way of `hidden` channels: children 0 and 3 have weights. */
export class TransformerMlp extends Sequential {
  constructor(channels: number, hidden: number, dropout: number) {
    const [expand, project] = [new Linear(channels, hidden), new Linear(hidden, channels)];
    super(expand, new GELU(), new Dropout(dropout), project, new Dropout(dropout));
    for (const { weight, bias } of [expand, project]) {
      init.xavierUniform(weight);
      init.normal(bias!, 0, 1e-6);
    }
  }
}

const probability = (description: string, value = 0): OptionSpec => ({
  type: 'number',
  default: value,
  min: 0,
  max: 1,
  description,
});

export const transformerOptions = {
  dropout: probability('Probability of dropout after every linear layer of a block.'),
  attentionDropout: probability('Probability of dropout of attention weights.'),
} satisfies Record<string, OptionSpec>;

/** The option of networks whose residual branches are dropped, the last ones with probability `value`. */
export function stochasticDepthOption(value: number): { stochasticDepth: OptionSpec } {
  return {
    stochasticDepth: probability(
      'Probability with which the last residual branch is dropped; it grows linearly from 0.',
      value,
    ),
  };
}
