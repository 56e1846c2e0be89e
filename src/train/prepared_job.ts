/** What every process of a job prepares in the same way: data, model, teacher and loss. */
import path from 'node:path';

import type { Config } from '../config/schema.js';
import { AbortedError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import type { Model } from '../model.js';
import { pretrainedPreprocessing } from '../weights/pretrained.js';
import { buildModel, defaultResolution } from './build_model.js';
import { MODEL_FILE, type Checkpoint } from './checkpoint.js';
import type { ImageTrainData } from './data.js';
import type { Report } from './events.js';
import type { TrainJobOptions } from './job_types.js';
import { findPretrained } from './pretrained.js';
import { checkTeacher, openTeacher } from './teacher.js';
import { prepareTrainData } from './train_data.js';
import { labelled, trainLoss } from './train_loss.js';

export class PreparedJob {
  private constructor(
    readonly data: ImageTrainData,
    readonly model: Model,
    readonly teacher: Model | null,
    readonly loss: Graph,
  ) {}

  /**
   * @param checkpoint to go on from: its model stands in for what the config names as pretrained.
   * @param onData called when all files are decoded and fetched.
   * @throws AbortedError, ConfigError, DataError, WeightsError.
   */
  static async prepare(
    config: Config,
    checkpoint: Checkpoint | null,
    { signal, data: changed }: Pick<TrainJobOptions, 'signal' | 'data'>,
    report: Report,
    onData?: () => Promise<unknown>,
  ): Promise<PreparedJob> {
    const pretrained = checkpoint
      ? { file: path.join(checkpoint.path, MODEL_FILE), published: null }
      : await findPretrained(config.model, report, signal);
    const teacher = await openTeacher(config.train);
    try {
      const prepared = await prepareTrainData(config.data, {
        defaultResolution: defaultResolution(config),
        seed: config.train.seed,
        pretrained: pretrained && (await pretrainedPreprocessing(pretrained)),
        report,
        signal,
      });
      const data = changed?.(prepared) ?? prepared;
      if (signal?.aborted) throw new AbortedError('stopped before the first step');
      await onData?.();
      if (teacher) checkTeacher(teacher, data);
      const model = await buildModel(config, data, checkpoint ? null : pretrained, report);
      try {
        const loss = trainLoss(model.graph, config.train, labelled(data.classes, teacher));
        return new PreparedJob(data, model, teacher, loss);
      } catch (error) {
        model.dispose();
        throw error;
      }
    } catch (error) {
      teacher?.dispose();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.model.dispose();
    this.teacher?.dispose();
  }
}
