/** Detections as WIDER FACE's text files, which `fornax eval --task faces` reads. */
import path from 'node:path';

import { makeFolders } from '../io/folders.js';
import { writeFileAtomic } from '../io/atomic.js';
import type { FaceDetection } from './decode.js';

/**
 * Writes `<folder>/<event>/<image>.txt`: the image's name, the number of faces, then `x y width height score` in
 * pixels for each, the best first. The event is the folder that the image lies in, such as `0--Parade`.
 *
 * @returns the path of the file.
 */
export async function writeWiderText(
  folder: string,
  image: string,
  faces: readonly FaceDetection[],
): Promise<string> {
  const { dir, name } = path.parse(path.resolve(image));
  const lines = faces.map(({ box: [x1, y1, x2, y2], score }) =>
    [x1, y1, x2 - x1, y2 - y1]
      .map((value) => value.toFixed(3))
      .concat(score.toFixed(8))
      .join(' '),
  );
  const target = path.join(folder, path.basename(dir), `${name}.txt`);
  await makeFolders(path.dirname(target));
  await writeFileAtomic(target, [name, faces.length, ...lines, ''].join('\n'));
  return target;
}
