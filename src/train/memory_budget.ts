/** The memory budget of a device, which all trainings of a process have in common. */
import { formatSize } from '../config/size.js';
import { ConfigError, type DeviceError } from '../errors.js';
import { loadAddon } from '../native.js';

/** Trainings that are open now: where, and with which budget. */
const open = new Map<object, { device: string; budget: number | null }>();

/** @throws ConfigError for a budget that the device or the allocator cannot keep. */
function setBudget(device: string, budget: number | null): void {
  try {
    loadAddon().setMemoryBudget(device, budget);
  } catch (error) {
    const { what, fix } = error as DeviceError;
    throw new ConfigError({ what, where: 'memory.budget', ...(fix ? { fix } : {}), cause: error });
  }
}

const show = (budget: number | null): string => (budget === null ? 'none' : formatSize(budget));

/**
 * Says that a training with this budget begins. It holds from `setClaimedBudget` on.
 *
 * @param owner by which `releaseBudget` knows the training.
 * @throws ConfigError if another one is under way on this device with another budget: one of them would lose its own.
 */
export function claimBudget(owner: object, device: string, budget: number | null): void {
  for (const other of open.values()) {
    if (other.device !== device || other.budget === budget) continue;
    throw new ConfigError({
      what: `another training of this process is under way on ${device} with the memory budget ${show(other.budget)}, and this one has ${show(budget)}`,
      where: 'memory.budget',
      fix: 'give both the same budget, or train one after the other, or in processes of their own',
    });
  }
  open.set(owner, { device, budget });
}

/** Enforces the budget that a training has claimed. */
export function setClaimedBudget(owner: object): void {
  const { device, budget } = open.get(owner)!;
  setBudget(device, budget);
}

/** Lifts the limit after the last training on the device; without effect for an owner that has claimed nothing. */
export function releaseBudget(owner: object): void {
  const ended = open.get(owner);
  if (!ended) return;
  open.delete(owner);
  if ([...open.values()].some(({ device }) => device === ended.device)) return;
  setBudget(ended.device, null);
}

/**
 * Sets a limit for the time of a search, before the training that it is for.
 *
 * @param budget of that training.
 * @returns what ends it.
 * @throws ConfigError while another training is under way on the device: it would have to keep within the limit; and
 *   where the allocator keeps no limit.
 */
export function limitSearch(device: string, limit: number, budget: number | null): () => void {
  const owner = {};
  if ([...open.values()].some((other) => other.device === device)) {
    throw new ConfigError({
      what: `another training of this process is under way on ${device}, and a batch size can only be found while there is none`,
      where: 'train.batch_size',
      fix: 'give a number, or train one after the other, or in processes of their own',
    });
  }
  claimBudget(owner, device, budget);
  try {
    loadAddon().setMemoryBudget(device, limit);
  } catch (error) {
    open.delete(owner);
    throw new ConfigError({
      what: `the batch size cannot be found automatically: ${(error as DeviceError).what}`,
      where: 'train.batch_size',
      fix: 'give a number, or unset FORNAX_CPU_ALLOCATOR',
      cause: error,
    });
  }
  return () => releaseBudget(owner);
}
