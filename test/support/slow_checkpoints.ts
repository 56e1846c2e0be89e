/** Preloaded by a training of several processes (`node --import`): rank 0's checkpoints take as long as on a slow disk. */
import { CheckpointStore } from '#fornax/train/checkpoint.js';

const seconds = Number(process.env['FORNAX_SLOW_CHECKPOINTS'] ?? 0);
if (process.env['RANK'] === '0' && seconds > 0) {
  const { save } = CheckpointStore.prototype;
  CheckpointStore.prototype.save = async function (contents) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return save.call(this, contents);
  };
}
