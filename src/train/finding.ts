/** Says in words where the numbers of a step ceased to be finite. */
import type { Finding, NonFinite } from '../native/contract.js';

const kinds: Record<NonFinite['what'], string> = {
  loss: 'the loss is not finite',
  gradient: 'the gradients are not finite',
  node: 'a result is not a number',
  scale: 'the gradient scaler has skipped every step for a long time',
};

function counts({ nan, inf, elements }: Finding): string {
  const parts = [nan > 0 ? `${nan} NaN` : '', inf > 0 ? `${inf} infinite` : ''].filter((part) => part !== '');
  return `${parts.join(' and ')} of ${elements}`;
}

/** `first bad node aten::div.Tensor at features.3 (node 57), inputs finite, output 12 NaN of 4096` */
export function describeFinding(finding: Finding): string {
  const { phase, node, readers, inputs, then_nan: then } = finding;
  const outcome = then === '' ? '' : `, of which NaN came at ${then}`;
  switch (phase) {
    case 'none':
      return 'computed again, every node gives finite numbers';
    case 'parameter':
      return `the parameter ${node} is not finite: ${counts(finding)}`;
    case 'input':
      return `the batch is not finite: its \`${node}\` has ${counts(finding)}`;
    case 'forward':
    case 'loss': {
      const given = inputs === '' ? 'inputs finite' : `arguments ${inputs} not finite`;
      const place = phase === 'loss' ? ' of the loss' : '';
      return `first bad node${place} ${node}, ${given}, output ${counts(finding)}${outcome}`;
    }
    case 'backward':
      return `first bad gradient in the backward of ${readers === '' ? 'the loss' : readers}: for the result of ${node}, ${counts(finding)}${outcome}`;
    case 'gradient':
      return `first bad gradient: that of the parameter ${node}, ${counts(finding)}${outcome}`;
  }
}

/** `the loss is not finite (nan) at step 812: first bad node …` */
export function describeFault(fault: NonFinite, finding: Finding | null): string {
  const value =
    fault.what === 'loss' ? ` (${fault.value})` : fault.what === 'scale' ? ` (scale ${fault.value})` : '';
  const spoilt = fault.applied ? ', and the weights have it' : '';
  return `${kinds[fault.what]}${value} at step ${fault.step}${spoilt}${finding ? `: ${describeFinding(finding)}` : ''}`;
}

/** Places in the order in which a step computes. */
const ORDER: readonly Finding['phase'][] = [
  'parameter',
  'input',
  'forward',
  'loss',
  'backward',
  'gradient',
  'none',
];

function nodeNumber({ node }: Finding): number {
  return Number(/\(node (\d+)\)$/.exec(node)?.[1] ?? 0);
}

/** The first of the places that several processes found, each in its share of the batch. */
export function firstFinding(findings: readonly Finding[]): Finding {
  const rank = (finding: Finding): number => ORDER.indexOf(finding.phase);
  // Backward runs from the last node to the first.
  const place = (finding: Finding): number =>
    finding.phase === 'backward' ? -nodeNumber(finding) : nodeNumber(finding);
  return [...findings].sort((a, b) => rank(a) - rank(b) || place(a) - place(b))[0]!;
}
