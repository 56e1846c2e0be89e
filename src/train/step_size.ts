/** Warns where a step cannot take as many images as are configured, which its learning rate may go by. */
import type { RunFeature } from './run_features.js';

export const stepSizeFeature: RunFeature = {
  prepare({ options, train, processes, resumed }) {
    const { data, report, epochLimit } = options;
    const configured = train.batchSize * train.gradAccum * processes.world;
    // Of a dry run, or one that was begun, nobody wants to hear it (again).
    if (configured <= data.trainSamples || resumed || epochLimit !== undefined) return;
    report({
      type: 'warning',
      message:
        `a step takes the ${data.trainSamples} images that there are, not ${configured} (train.batch_size × ` +
        `train.grad_accum${processes.world > 1 ? ' × processes' : ''}), and a learning rate of auto goes by the latter`,
    });
  },
};
