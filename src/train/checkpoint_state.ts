/** state.json of a checkpoint: the books of a run, what it must be compared with, and checksums. */
import { z } from 'zod';

export const STATE_VERSION = 1;

/** JSON has no NaN: what is not finite is written as null. */
const maybeFinite = z
  .number()
  .nullable()
  .transform((value) => value ?? NaN);

const bestSchema = z.object({ step: z.int(), epoch: z.int(), value: z.number() });
const epochRecordSchema = z.object({
  epoch: z.int(),
  step: z.int(),
  /** NaN: no step of the epoch had a finite one. */
  loss: maybeFinite,
  lr: z.number(),
  evaluation: z
    .object({
      loss: z.number().nullable(),
      top1: z.number().nullable(),
      top5: z.number().nullable(),
      samples: z.int(),
      metrics: z.record(z.string(), z.number().nullable()).optional(),
    })
    .nullable(),
});

/** state.json without its checksums. Keys are snake_case, as in every file. */
const stateSchema = z.object({
  version: z.literal(STATE_VERSION),
  /** Optimizer steps done. */
  step: z.int().min(0),
  /** Completed epochs (trained and evaluated), and optimizer steps done in the one that is running. */
  epoch: z.int().min(0),
  epoch_step: z.int().min(0),
  steps_per_epoch: z.int().min(1),
  /** Sum of the finite losses of the running epoch's steps, and how many these are (left out: all of them). */
  epoch_loss_sum: z.number(),
  epoch_losses: z.int().min(0).optional(),
  /** Steps of the run that a gradient scaler has skipped; left out: there is none. */
  skipped_steps: z.int().min(0).optional(),
  /** Every course of this run has a checkpoint here, however it is interrupted. Left out: if `epoch_step` is 0. */
  regular: z.boolean().optional(),
  /** Samples of these steps, and how long they took. */
  epoch_samples: z.int().min(0).default(0),
  epoch_seconds: z.number().min(0).default(0),
  best: bestSchema.nullable(),
  history: z.array(epochRecordSchema),
  /** Wall-clock seconds of the run so far, over all its parts. */
  seconds: z.number().min(0).default(0),
  /** The resolved options of the run, to compare with on resume. */
  config: z.record(z.string(), z.unknown()),
  /** Where and how the run was computed so far: another way is sound, but not the same to the last bit. */
  computed: z.object({
    device: z.string(),
    amp: z.enum(['off', 'bf16', 'fp16']),
    threads: z.int(),
    /** How many shared the batches; left out: one. */
    processes: z.int().min(1).optional(),
  }),
  data_fingerprint: z.string(),
  graph_hash: z.string(),
  /** Of what a run is given beside its config: loss, preprocessing, …. Left out by older versions: not compared. */
  hashes: z.record(z.string(), z.string()).optional(),
  /** What features of the run remember, by their keys (`RunState`). */
  parts: z.record(z.string(), z.unknown()).default({}),
  /** Bytes of events.jsonl that belong to this checkpoint; the rest is cut off on resume. */
  log_bytes: z.int().min(0),
  /** What else the writer of the log needs to go on. */
  log_state: z.unknown(),
  created: z.string(),
});
/** state.json as it lies on the disk. */
export const fileSchema = z.object({
  sha256: z.string(),
  state: stateSchema,
  files: z.record(z.string(), z.object({ sha256: z.string(), bytes: z.int() })),
});

export type CheckpointState = z.infer<typeof stateSchema>;
export type EpochRecord = z.infer<typeof epochRecordSchema>;
export type BestRecord = z.infer<typeof bestSchema>;
