/** Kind `faces`: face detectors, run by their original code. */
import { faceCasesOfModels } from './faces_models.js';
import { pipelineCases } from './faces_pipeline.js';
import { faceSettings } from './faces_settings.js';
import { trainingCases } from './faces_training.js';
import type { Fields } from './fields.js';
import type { GoldenCase } from './kind.js';

export function faces(golden: Fields): GoldenCase[] {
  const source = golden.child('source');
  const repositories = source.map('repositories');
  for (const fields of [source, repositories]) {
    for (const key of fields.keys()) if (key !== 'repositories') fields.note(key);
  }
  // Each object is adopted once: two views of it would each count their own unread fields.
  const children = (key: string): Map<string, Fields> => {
    const map = golden.map(key);
    return new Map(map.keys().map((name) => [name, map.child(name)]));
  };
  const settings = faceSettings(golden);
  const file = { golden, settings, models: children('models'), images: children('pipeline') };
  return [...faceCasesOfModels(file), ...trainingCases(file), ...pipelineCases(file)];
}
