/** The section `train` with numbers where it may say `auto` until a run begins. */
import { ConfigError } from '../errors.js';
import { defaultRate } from './resolve.js';
import type { Config, FixedTrain } from './schema.js';

/** With this size of a batch where it says `auto`, and the rate that goes by it. */
export function withBatchSize(train: Config['train'], batchSize: number): FixedTrain {
  const lr = train.lr === 'auto' ? defaultRate(train.optimizer.name, batchSize * train.gradAccum) : train.lr;
  return { ...train, batchSize, lr };
}

/** @throws ConfigError if the batch size is still to be found (src/train/batch_size.ts). */
export function fixedTrain(train: Config['train']): FixedTrain {
  if (train.batchSize !== 'auto') return withBatchSize(train, train.batchSize);
  throw new ConfigError({
    what: 'the batch size cannot be found automatically here, only by a training in a single process',
    where: 'train.batch_size',
    fix: 'give a number',
  });
}
