/** Which loss an evaluation computes. */
import type { Graph } from '../graph/format.js';
import { crossEntropy, CrossEntropyLoss, weightedSum } from '../losses/index.js';
import { PACK_FIELDS, type TrainData } from './data.js';

/** The output that is compared with labels: the only one that is not auxiliary, or the one called `output`. */
function mainOutput(model: Graph): string | null {
  const own = model.outputs.filter(({ auxiliary }) => !auxiliary);
  return (own.length === 1 ? own[0] : own.find(({ name }) => name === 'output'))?.name ?? null;
}

/**
 * For classifiers the plain cross entropy, whatever the training uses, so that figures of different runs can be
 * compared; for data without classes the loss of the training. Null for a loss that needs a teacher, which an
 * evaluation does not have.
 */
export function evaluationLoss(
  model: Graph,
  data: Pick<TrainData, 'classes' | 'fields'>,
  training: Graph | null,
): Graph | null {
  const { fields = PACK_FIELDS } = data;
  if (data.classes.length > 0 && fields.includes('label')) {
    const main = mainOutput(model);
    if (main === null || main === 'output') return crossEntropy();
    return weightedSum([{ loss: new CrossEntropyLoss(), inputs: [main, 'label'] }]);
  }
  if (training === null) return null;
  const known = new Set([...model.outputs.map(({ name }) => name), ...fields]);
  return training.inputs.every(({ name }) => known.has(name)) ? training : null;
}
