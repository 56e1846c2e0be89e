/**
 * Image folders, `<class>/<file>`: the classes are the sorted names of the folders, the order of the images is
 * torchvision's (`ImageFolder`), so that labels and indices agree between the two.
 */
import { createHash } from 'node:crypto';
import { readdirSync, realpathSync, statSync, type Dirent } from 'node:fs';
import { setImmediate as breathe } from 'node:timers/promises';
import path from 'node:path';

import { AbortedError, DataError } from '../errors.js';
import { hasControlCharacters } from '../io/control_characters.js';
import { decodeImage, imageSize } from './decode.js';
import { byCodePoint, type SplitSource } from './source.js';

/** Extensions of images, in any case. What a file is in truth is seen when it is decoded. */
const IMAGE = /\.(jpe?g|png|webp)$/i;
/** Images of kinds that are not read: worth a warning, since people expect them to count. */
const OTHER_IMAGE = /\.(bmp|gif|tiff?|heic|heif|avif|jp2|ppm|pgm)$/i;
const ESTIMATE_SAMPLES = 200;

export interface ScanOptions {
  /** Classes in the order of the labels; default: the folder's own, sorted. */
  classes?: readonly string[];
  /** Name of the split. */
  name?: string;
  /** A class folder without an image is an error unless this is given (it is a warning then). */
  allowEmpty?: boolean;
  signal?: AbortSignal | undefined;
  /** Receives remarks. */
  warnings?: string[];
}

interface FoundFile {
  id: string;
  bytes: number;
  mtimeMs: number;
}

/** Names of the visible subfolders, symbolic links to folders among them, sorted. */
export function subfolders(folder: string): string[] {
  return readEntries(folder)
    .filter((entry) => !entry.name.startsWith('.') && isFolder(folder, entry))
    .map((entry) => entry.name)
    .sort(byCodePoint);
}

/** Whether any image lies directly in `folder`. */
export function holdsImages(folder: string): boolean {
  return readEntries(folder).some(
    (entry) => !entry.name.startsWith('.') && IMAGE.test(entry.name) && !isFolder(folder, entry),
  );
}

/**
 * Lists the images of a folder of classes.
 *
 * @throws DataError if there are no classes, a class without images, or a class that `classes` does not hold.
 */
export async function scanFolder(folder: string, options: ScanOptions = {}): Promise<SplitSource> {
  const location = path.resolve(folder);
  const found = subfolders(location);
  if (found.length === 0) throw noClasses(location);
  const strange = found.find(hasControlCharacters);
  if (strange !== undefined) {
    throw new DataError({
      what: `the name of the class folder ${JSON.stringify(strange)} holds control characters`,
      where: location,
      fix: 'rename it: class names are printed and stored in the model file',
    });
  }
  const classes = options.classes ?? found;
  const index = new Map(classes.map((name, i) => [name, i]));
  const unknown = found.filter((name) => !index.has(name));
  if (unknown.length > 0) {
    throw new DataError({
      what: `the folders ${quote(unknown)} are no classes of the training data or the model`,
      where: location,
      fix: `the classes are ${quote(classes)}; rename or remove the others`,
    });
  }

  const files: FoundFile[] = [];
  const labels: number[] = [];
  const empty: string[] = [];
  const ignored = new Map<string, number>();
  for (const name of found) {
    if (options.signal?.aborted) throw new AbortedError('stopped while listing images');
    const before = files.length;
    await collect(location, name, files, ignored);
    if (files.length === before) empty.push(name);
    const label = index.get(name)!;
    while (labels.length < files.length) labels.push(label);
    await breathe();
  }
  if (files.length === 0) throw noImages(location, ignored);
  if (empty.length > 0 && !options.allowEmpty) {
    throw new DataError({
      what: `no image in the class ${empty.length === 1 ? 'folder' : 'folders'} ${quote(empty)}`,
      where: location,
      fix: 'add JPEG, PNG or WebP files, or remove the folder',
    });
  }
  const missing = classes.filter((name) => !found.includes(name) || empty.includes(name));
  if (missing.length > 0) options.warnings?.push(`${location} has no image of ${quote(missing)}`);
  for (const [extension, count] of ignored) {
    options.warnings?.push(
      `${location}: ${count} ${extension} ${count === 1 ? 'file was' : 'files were'} ignored (JPEG, PNG and WebP are read)`,
    );
  }
  return new FolderSplit(
    options.name ?? path.basename(location),
    location,
    [...classes],
    files,
    Int32Array.from(labels),
  );
}

class FolderSplit implements SplitSource {
  readonly identity: string;
  readonly contentId: string;
  readonly folder: string;

  constructor(
    readonly name: string,
    readonly location: string,
    readonly classes: readonly string[],
    private readonly files: FoundFile[],
    readonly labels: Int32Array,
  ) {
    this.folder = location;
    const identity = createHash('sha256').update(`folder\n${realpathSync(location)}\n`);
    const content = createHash('sha256').update('folder\n');
    for (const { id, bytes, mtimeMs } of files) {
      identity.update(`${id}\0${bytes}\0${mtimeMs}\n`);
      content.update(`${id}\0${bytes}\n`);
    }
    this.identity = identity.digest('hex');
    this.contentId = content.digest('hex');
  }

  id(i: number): string {
    return this.files[i]!.id;
  }

  read(i: number, settings: { channels: 1 | 3; shorterSide: number | null }) {
    const file = this.files[i]!;
    return decodeImage(path.join(this.location, file.id), settings.channels, {
      shorterSide: settings.shorterSide ?? undefined,
      fileBytes: file.bytes,
    });
  }

  async sampleSizes(): Promise<{ height: number; width: number }[]> {
    const n = this.files.length;
    const count = Math.min(n, ESTIMATE_SAMPLES);
    const sizes = await Promise.all(
      Array.from({ length: count }, async (_, k) => {
        const file = this.files[Math.floor((k * n) / count)]!;
        // A broken file says nothing about the size of the others; packing reports it.
        return imageSize(path.join(this.location, file.id)).catch(() => null);
      }),
    );
    return sizes.filter((size) => size !== null);
  }
}

/** All images below `root/top`, folder by folder in the order of their paths, as torchvision walks. */
async function collect(
  root: string,
  top: string,
  files: FoundFile[],
  ignored: Map<string, number>,
): Promise<void> {
  const groups: { folder: string; names: string[] }[] = [];
  const visit = (folder: string, above: readonly string[]): void => {
    const real = realpathSync(path.join(root, folder));
    if (above.includes(real)) return; // a link to a folder above: everything in it is already listed
    const names: string[] = [];
    for (const entry of readEntries(path.join(root, folder))) {
      if (entry.name.startsWith('.')) continue;
      if (isFolder(path.join(root, folder), entry)) visit(`${folder}/${entry.name}`, [...above, real]);
      else if (IMAGE.test(entry.name)) names.push(entry.name);
      else if (OTHER_IMAGE.test(entry.name)) {
        const extension = path.extname(entry.name).toLowerCase();
        ignored.set(extension, (ignored.get(extension) ?? 0) + 1);
      }
    }
    groups.push({ folder, names: names.sort(byCodePoint) });
  };
  visit(top, []);
  groups.sort((a, b) => byCodePoint(a.folder, b.folder));
  let seen = 0;
  for (const { folder, names } of groups) {
    for (const name of names) {
      const id = `${folder}/${name}`;
      const stat = statSync(path.join(root, id), { throwIfNoEntry: false });
      // A dangling link stays in the list, so that it is reported as broken rather than lost.
      files.push({ id, bytes: stat?.size ?? 0, mtimeMs: stat?.mtimeMs ?? 0 });
      if (++seen % 5000 === 0) await breathe();
    }
  }
}

function readEntries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new DataError({
      what:
        code === 'ENOENT'
          ? 'the data folder does not exist'
          : code === 'ENOTDIR'
            ? 'the data path is no folder'
            : `the folder cannot be read: ${(error as Error).message}`,
      where: folder,
      fix: 'give the folder that holds one subfolder of images per class',
      cause: error,
    });
  }
}

function isFolder(parent: string, entry: Dirent): boolean {
  if (entry.isDirectory()) return true;
  if (!entry.isSymbolicLink()) return false;
  return statSync(path.join(parent, entry.name), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function noClasses(location: string): DataError {
  const loose = holdsImages(location);
  return new DataError({
    what: loose
      ? 'the images lie directly in the data folder, not in a folder per class'
      : 'no class folders',
    where: location,
    fix: 'the layout is <class>/<image>, or train/<class>/<image> and val/<class>/<image>',
  });
}

function noImages(location: string, ignored: Map<string, number>): DataError {
  const others = [...ignored].map(([extension, count]) => `${count} ${extension}`).join(', ');
  return new DataError({
    what: `no JPEG, PNG or WebP image${others ? ` (but ${others})` : ''}`,
    where: location,
    fix: 'the layout is <class>/<image>; convert other kinds of images first',
  });
}

/** `'a', 'b', … (12)` for messages. */
export function quote(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => `'${name}'`);
  return names.length > 8 ? `${shown.join(', ')}, … (${names.length})` : shown.join(', ');
}
