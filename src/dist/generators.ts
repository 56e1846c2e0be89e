/** Every process draws its own dropout masks; a checkpoint holds the generators of all of them. */
import type { NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { Processes } from './processes.js';

/** As `TrainSession.snapshot()` calls it. */
const OWN = 'generator';
const ofRank = (rank: number): string => `rank${rank}/${OWN}`;
const OTHERS = /^rank\d+\/generator$/;

/** Adds to rank 0's snapshot the generators of the others. All processes call it with their own. */
export async function gatherGenerators(
  processes: Processes,
  snapshot: Record<string, NativeTensor>,
): Promise<void> {
  if (processes.world === 1) return;
  const own = snapshot[OWN]!.toTypedArray() as Uint8Array;
  const all = await processes.gather(Buffer.from(own).toString('base64'));
  if (!processes.leads) return;
  for (const [rank, text] of all.entries()) {
    if (rank === 0) continue;
    const state = new Uint8Array(Buffer.from(text, 'base64'));
    snapshot[ofRank(rank)] = loadAddon().Tensor.fromTypedArray(state, [state.length]);
  }
}

/** Of a checkpoint's tensors those of this process, with its own generator; what is of others is disposed. */
export function ownSnapshot(
  processes: Processes,
  saved: Record<string, NativeTensor>,
): Record<string, NativeTensor> {
  const mine = ofRank(processes.rank) in saved ? ofRank(processes.rank) : OWN;
  const snapshot: Record<string, NativeTensor> = {};
  for (const [name, tensor] of Object.entries(saved)) {
    if (name === mine) snapshot[OWN] = tensor;
    else if (name === OWN || OTHERS.test(name)) tensor.dispose();
    else snapshot[name] = tensor;
  }
  return snapshot;
}
