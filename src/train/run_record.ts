/** What a run writes into its folder beside checkpoints and the model: its log, its config, what timing decided. */
import type { Model } from '../model.js';
import { decidedBatchSize } from './batch_size.js';
import type { Checkpoint, CheckpointStore } from './checkpoint.js';
import { writeDecisions } from './decisions.js';
import type { CheckpointEvent, DoneEvent, Report } from './events.js';
import type { RunFolder } from './run_folder.js';
import { RunLog, type RunLogState } from './run_log.js';
import type { TrainingRun } from './training_run.js';
import type { RunConfig } from './training_run_types.js';

export class RunRecord {
  private readonly log: RunLog;
  /** To go on from, if it is of this folder: the log of another run stays there. */
  private readonly own: Checkpoint | null;
  private run: TrainingRun | null = null;

  /**
   * @param checkpoint to go on from.
   * @param listener is told what is logged.
   */
  constructor(
    private readonly folder: RunFolder,
    private readonly store: CheckpointStore,
    checkpoint: Checkpoint | null,
    private readonly listener: Report,
  ) {
    this.log = new RunLog(
      (record) => folder.append(record),
      (step) => this.run!.learningRate(step),
    );
    this.own = checkpoint !== null && store.owns(checkpoint) ? checkpoint : null;
    if (this.own) this.log.state = this.own.state.log_state as RunLogState;
  }

  /** The run whose learning rates are logged; before its first step. */
  follow(run: TrainingRun): void {
    this.run = run;
  }

  readonly report: Report = (event) => {
    this.log.write(event);
    this.listener(event);
  };

  /** Logs a checkpoint that is about to be written. */
  readonly logPosition = ({
    step,
    epoch,
    reason,
  }: CheckpointEvent): { bytes: number; state: RunLogState } => {
    this.log.checkpoint(step, epoch, reason);
    return { bytes: this.folder.commitLog(), state: this.log.state };
  };

  /**
   * Makes the folder this run's. What an earlier training left is touched only here, when nothing stands in the way of
   * this one: a mistyped path costs nothing.
   *
   * @param given the settings; `config`: those of the run, with the batch size that was found.
   * @param decided see `TrainingRunOptions.onReady`.
   */
  async begin(
    { given, config, model }: { given: RunConfig; config: RunConfig; model: Model },
    decided: Record<string, unknown>,
  ): Promise<void> {
    const newer = this.own ? await this.store.setAsideNewerThan(this.own) : [];
    this.folder.openLog(this.own?.state.log_bytes ?? 0);
    if (newer.length > 0) {
      const message = `Newer checkpoints of this run were set aside: ${newer.join(', ')}`;
      this.report({ type: 'info', message });
    }
    await this.folder.writeConfig(config);
    const all = { ...decided, ...decidedBatchSize(given, config) };
    await writeDecisions(this.folder.paths.decisions, all, { config, model });
  }

  /** Logs the end, right before the model file is written. */
  readonly done = (event: DoneEvent): void => {
    this.log.done(event);
    this.folder.commitLog();
  };
}
