/** What a module for one kind of golden file provides. */
import type { Comparison } from './comparison.js';
import type { Fields } from './fields.js';

/** This case asks for something that Fornax does not do (yet): the case counts as unknown. */
export class Unsupported extends Error {
  constructor(what: string) {
    super(what);
    this.name = 'Unsupported';
  }
}

export interface GoldenCase {
  /** As `--only` knows it; a part before a slash selects a whole block. */
  name: string;
  /** Where the case lies in the file: every field below it must have been read when `run` returns. */
  fields: Fields;
  /** @throws Unsupported, MalformedGolden, or any error of Fornax: all but the first are a failure */
  run(comparison: Comparison): Promise<void>;
}

/**
 * The cases of a file, in order. Reads all of the file's own fields; those of a case are read by its `run`.
 * @throws MalformedGolden
 */
export type Kind = (golden: Fields) => GoldenCase[];
