/**
 * Older model files are brought up to date one version at a time, on their raw metadata, before anything else
 * looks at it. A change of the format adds an entry here and a file to test/fixtures.
 */
import { WeightsError } from '../errors.js';

/** Version of the metadata (and, with it, of the layout) of model files. */
export const MODEL_FORMAT_VERSION = 1;

export type RawMetadata = Record<string, string>;
/** By the version it starts from: takes that version's metadata to the next one's. */
export type Migrations = Readonly<Record<number, (metadata: RawMetadata) => RawMetadata>>;

/** There is only one version so far. */
export const migrations: Migrations = {};

/**
 * @param where the file, for errors.
 * @throws WeightsError for a version that is newer than `current`, unknown, or not there (a weights file).
 */
export function upgradeMetadata(
  metadata: RawMetadata,
  where: string,
  steps: Migrations = migrations,
  current = MODEL_FORMAT_VERSION,
): RawMetadata {
  const text = Object.hasOwn(metadata, 'format_version') ? metadata.format_version! : undefined;
  if (text === undefined) {
    throw new WeightsError({
      what: 'this file holds weights, but no model: it has no graph in its metadata',
      where,
      fix: 'create the model from its source and load these weights into it (model.loadWeights)',
    });
  }
  const version = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (!(version >= 1)) {
    throw new WeightsError({ what: `'${text.slice(0, 40)}' is no version of the model format`, where });
  }
  if (version > current) {
    throw new WeightsError({
      what: `the model file has format version ${version}; this Fornax reads versions up to ${current}`,
      where,
      fix: 'update Fornax, or write the model again with this version',
    });
  }
  let upgraded = metadata;
  for (let from = version; from < current; from++) {
    const step = steps[from];
    if (!step)
      throw new WeightsError({ what: `model files of version ${from} can no longer be read`, where });
    upgraded = { ...step(upgraded), format_version: String(from + 1) };
  }
  return upgraded;
}
