/** Going on from a chosen checkpoint, and starting from another run's weights. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { overridesOf } from '#fornax/cli/train.js';
import { ConfigError, TrainError } from '#fornax/errors.js';
import { fileSha256 } from '#fornax/io/safetensors.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { checkResumable } from '#fornax/train/resume.js';

import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns({ checkpoint: { keep: 10 }, train: { schedule: 'constant' } });
const { config, run, checkpoint: checkpointOf } = tiny;

/** The weights of a model file, without the provenance around them. */
const weightsOf = (folder: string): Promise<string> => fileSha256(path.join(folder, 'optimizer.safetensors'));

test('a run goes on from an older checkpoint of its own; newer ones are set aside', async () => {
  const straight = await run(config('straight'));
  await run(config('branch', { train: { epochs: 2 } }));
  await assert.rejects(
    run(config('branch'), { resumeFrom: checkpointOf('branch', 8), resume: true }),
    ConfigError,
  );
  const { outcome, events } = await run(config('branch'), { resumeFrom: checkpointOf('branch', 8) });
  assert.equal(events.find(({ type }) => type === 'resumed')?.type, 'resumed');
  assert.equal(outcome.steps, 24);
  assert.ok(existsSync(`${checkpointOf('branch', 16)}.superseded`));
  assert.equal(await weightsOf(checkpointOf('branch', 24)), await weightsOf(checkpointOf('straight', 24)));
  assert.deepEqual(outcome.metrics, straight.outcome.metrics);
  // The log is that of one run: every step once.
  const log = await fs.readFile(path.join(outcome.folder, 'events.jsonl'), 'utf8');
  const steps = [...log.matchAll(/"type":"epoch".*?"step":(\d+)/g)].map(([, step]) => Number(step));
  assert.deepEqual(steps, [8, 16, 24]);
});

test('a new run goes on from a checkpoint of another one', async () => {
  await run(config('origin'));
  const { outcome } = await run(config('fork'), { resumeFrom: checkpointOf('origin', 16) });
  assert.equal(outcome.steps, 24);
  assert.equal(await weightsOf(checkpointOf('fork', 24)), await weightsOf(checkpointOf('origin', 24)));
  // The origin is as it was, and a run that was begun does not take over another one's checkpoint.
  assert.deepEqual(
    (await new CheckpointStore(path.dirname(checkpointOf('origin', 0))).list()).map(({ step }) => step),
    [24, 16, 8],
  );
  await assert.rejects(
    run(config('fork'), { resumeFrom: checkpointOf('origin', 8) }),
    (error) => error instanceof TrainError && /of another run.*--name/s.test(error.message),
  );
});

test('the best of another run is not the best of a new one, which has no checkpoint of it', async () => {
  // The loss falls, and the first epoch counts as the best.
  const checkpoint = { keep: 2, monitor: 'loss', mode: 'max' } as const;
  await run(config('source', { checkpoint, train: { epochs: 2 } }));
  const { outcome } = await run(config('further', { checkpoint, train: { epochs: 5 } }), {
    resumeFrom: checkpointOf('source', 16),
  });
  const { best, history, weights } = JSON.parse(
    await fs.readFile(path.join(outcome.folder, 'summary.json'), 'utf8'),
  ) as {
    best: { epoch: number; value: number };
    history: { epoch: number; evaluation: { loss: number } }[];
    weights: { epoch: number };
  };
  const losses = history.map(({ evaluation }) => evaluation.loss);
  assert.equal(losses.length, 5);
  assert.equal(Math.max(...losses), Math.max(...losses.slice(0, 2)), 'the source was better');
  const own = Math.max(...losses.slice(2));
  assert.deepEqual(best, { ...best, epoch: losses.indexOf(own) + 1, value: own });
  assert.equal(weights.epoch, best.epoch);
});

test('what is no checkpoint, or one of another model, is refused', async () => {
  await assert.rejects(
    run(config('none'), { resumeFrom: path.join(tiny.root, 'nowhere') }),
    (error) => error instanceof TrainError && /there is no such checkpoint.*step-/s.test(error.message),
  );
  await run(config('other', { train: { epochs: 1 } }));
  const near = (given: string, what: RegExp): Promise<void> =>
    assert.rejects(run(config('none'), { resumeFrom: given }), (error) => {
      assert.ok(error instanceof TrainError);
      assert.match(error.what, what);
      assert.match(error.fix!, /there are step-00000008$/);
      return true;
    });
  await near(checkpointOf('other', 4), /no such checkpoint/);
  await near(tiny.folder('other'), /the folder of a run/);
  await near(path.join(checkpointOf('other', 8), '..'), /not the folder of a checkpoint/);
  await assert.rejects(
    run(config('mismatch', { train: { lr: 0.5 } }), { resumeFrom: checkpointOf('other', 8) }),
    (error) => error instanceof TrainError && /train\.lr: 0\.05 → 0\.5/.test(error.message),
  );
});

test('--init-from takes the weights of a run, a checkpoint or a file', async () => {
  const { outcome } = await run(config('source', { train: { epochs: 1 } }));
  const pretrained = (given: string): unknown => overridesOf({ initFrom: given })[0]?.value;
  assert.equal(pretrained(outcome.folder), outcome.modelPath);
  assert.equal(
    pretrained(checkpointOf('source', 8)),
    path.join(checkpointOf('source', 8), 'model.safetensors'),
  );
  assert.equal(pretrained('weights.pth'), 'weights.pth');
  // A fresh training: its first step is the first.
  const started = config('started', {
    model: { name: 'tiny_cnn', pretrained: pretrained(outcome.folder) as string },
    train: { epochs: 1, lr: 1e-12 },
  });
  const { outcome: tuned, events } = await run(started);
  assert.equal((events.find(({ type }) => type === 'start') as { firstStep: number }).firstStep, 0);
  assert.deepEqual(tuned.metrics!.top1, outcome.metrics!.top1);
});

test('a run does not go on with other images, nor with a model that became another one', async () => {
  const moved = path.join(tiny.root, 'moved');
  const data = { path: moved, cache: path.join(tiny.root, 'cache'), resolution: 24 };
  await fs.cp(tiny.images, moved, { recursive: true });
  const { outcome } = await run(config('moved', { data, train: { epochs: 1 } }));
  await fs.copyFile(path.join(moved, 'val', 'red', '0.png'), path.join(moved, 'train', 'red', 'more.png'));
  await assert.rejects(run(config('moved', { data }), { resume: true }), (error) => {
    assert.ok(error instanceof TrainError);
    assert.match(
      error.message,
      /because it changed:\n {2}- data: the training images are others \(\w{12} → \w{12}\)/,
    );
    return true;
  });
  // A later version of Fornax may trace an architecture in another way.
  const [entry] = await new CheckpointStore(path.join(outcome.folder, 'checkpoints')).list();
  const checkpoint = await new CheckpointStore(path.join(outcome.folder, 'checkpoints')).load(entry!.path);
  const { state } = checkpoint;
  const now = {
    config: state.config,
    computed: state.computed,
    dataFingerprint: state.data_fingerprint,
    graphHash: state.graph_hash,
    stepsPerEpoch: state.steps_per_epoch,
  };
  checkResumable(checkpoint, now, assert.fail);
  assert.throws(
    () => checkResumable(checkpoint, { ...now, graphHash: 'f'.repeat(64) }, assert.fail),
    (error) =>
      error instanceof TrainError &&
      /- model: its graph is another one \(\w{12} → f{12}\)/.test(error.message),
  );
  assert.throws(
    () => checkResumable(checkpoint, { ...now, stepsPerEpoch: 3 }, assert.fail),
    (error) => error instanceof TrainError && /- steps per epoch: 8 → 3/.test(error.message),
  );
});
