/** What every installation error must say. */
import assert from 'node:assert/strict';
import { InstallError } from '#fornax/errors.js';

export function install(...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof InstallError, `not an InstallError: ${String(error)}`);
    assert.ok(error.fix, 'an installation error must say what to do');
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}
