import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { scanFolder } from '#fornax/data/folder.js';
import { openFolder } from '#fornax/data/folder_layout.js';
import { byCodePoint } from '#fornax/data/source.js';
import { ConfigError, DataError } from '#fornax/errors.js';
import { testData, whyNoData } from './support/data.js';
import { classFolder, plainFile, put, temporaryFolder } from './support/images.js';

const image = await plainFile(4, 4, [1, 2, 3]);

function ids(split: { labels: Int32Array; id(i: number): string }): string[] {
  return Array.from(split.labels, (label, i) => `${label} ${split.id(i)}`);
}

test('classes are the sorted folder names, files sorted within, as torchvision numbers them', async () => {
  const root = temporaryFolder();
  for (const name of ['b/2.jpg', 'b/10.jpg', 'B/x.png', 'a b/1.webp', 'é/1.jpeg']) put(root, name, image);
  const split = await scanFolder(root);
  assert.deepEqual(split.classes, ['B', 'a b', 'b', 'é']);
  assert.deepEqual(ids(split), ['0 B/x.png', '1 a b/1.webp', '2 b/10.jpg', '2 b/2.jpg', '3 é/1.jpeg']);
});

test('strings are ordered by code point, not by UTF-16 unit', () => {
  // U+FF5E stands before U+1F600 in Python, but its UTF-16 unit is larger than a surrogate.
  assert.deepEqual(['😀', '～', 'z', 'a'].sort(byCodePoint), ['a', 'z', '～', '😀']);
  assert.ok(byCodePoint('ab', 'abc') < 0);
  assert.equal(byCodePoint('same', 'same'), 0);
});

test('extensions count in any case, nested folders belong to the class, hidden names do not count', async () => {
  const root = temporaryFolder();
  const names = ['cat/A.JPG', 'cat/deep/er/b.Jpeg', 'cat/deep.x/a.PNG', 'cat/z.WebP', 'dog/1.png'];
  const others = [
    'cat/.hidden.jpg',
    'cat/.git/x.jpg',
    '.cache/x.jpg',
    'cat/notes.txt',
    'cat/jpg',
    'readme.md',
  ];
  for (const name of [...names, ...others]) put(root, name, image);
  const split = await scanFolder(root);
  // torchvision walks folder by folder in the order of their paths.
  const expected = ['cat/A.JPG', 'cat/z.WebP', 'cat/deep/er/b.Jpeg', 'cat/deep.x/a.PNG', 'dog/1.png'];
  assert.deepEqual(split.classes, ['cat', 'dog']);
  assert.deepEqual(
    ids(split).map((id) => id.slice(2)),
    expected.sort((a, b) => byCodePoint(path.dirname(a), path.dirname(b)) || byCodePoint(a, b)),
  );
});

test('symbolic links to files and folders are followed, loops end', async () => {
  const root = temporaryFolder();
  const elsewhere = temporaryFolder();
  put(elsewhere, 'one.png', image);
  put(root, 'a/own.png', image);
  symlinkSync(path.join(elsewhere, 'one.png'), path.join(root, 'a', 'link.png'));
  symlinkSync(elsewhere, path.join(root, 'b'));
  symlinkSync('..', path.join(root, 'a', 'loop'));
  const split = await scanFolder(root);
  assert.deepEqual(split.classes, ['a', 'b']);
  const found = ids(split).map((id) => id.slice(2));
  assert.ok(found.includes('a/link.png') && found.includes('a/own.png') && found.includes('b/one.png'));
  assert.ok(found.length < 20);
});

test('a link that points nowhere stays listed, so that packing reports it', async () => {
  const root = temporaryFolder();
  put(root, 'a/1.png', image);
  symlinkSync('gone.png', path.join(root, 'a', '2.png'));
  assert.equal((await scanFolder(root)).labels.length, 2);
});

test('a class folder without images is an error, in a validation folder a warning', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'train'), { a: 2, b: 2 });
  await classFolder(path.join(root, 'val'), { a: 1 });
  mkdirSync(path.join(root, 'val', 'b'));
  const source = await openFolder(root);
  assert.equal(source.val!.labels.length, 1);
  assert.ok(source.warnings.some((warning) => /val has no image of 'b'/.test(warning)));
  mkdirSync(path.join(root, 'train', 'c'));
  await assert.rejects(openFolder(root), (error: unknown) => {
    assert.ok(error instanceof DataError);
    assert.match(error.what, /no image in the class folder 'c'/);
    return true;
  });
});

test('a class whose name could command a terminal is refused', async () => {
  const root = temporaryFolder();
  mkdirSync(path.join(root, '\u001b[2Jcat'));
  await assert.rejects(
    scanFolder(root),
    (error) => error instanceof DataError && /u001b\[2Jcat" holds control characters/.test(error.what),
  );
});

test('images of other kinds are counted in a warning', async () => {
  const root = temporaryFolder();
  put(root, 'a/1.png', image);
  put(root, 'a/2.bmp', 'BM');
  put(root, 'a/3.BMP', 'BM');
  const warnings: string[] = [];
  await scanFolder(root, { warnings });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /2 \.bmp files were ignored/);
});

test('missing, flat and empty folders say what the layout is', async () => {
  const root = temporaryFolder();
  await assert.rejects(openFolder(path.join(root, 'nowhere')), /does not exist/);
  await assert.rejects(openFolder(root), /no class folders/);
  put(root, '1.png', image);
  await assert.rejects(openFolder(root), /not in a folder per class/);
  await assert.rejects(openFolder(path.join(root, '1.png')), /is no folder/);
  const other = temporaryFolder();
  put(other, 'a/1.tif', 'II*');
  await assert.rejects(openFolder(other), /no JPEG, PNG or WebP image \(but 1 \.tif\)/);
});

test('train with val, valid, validation or test is recognised', async () => {
  for (const name of ['val', 'valid', 'validation', 'test']) {
    const root = temporaryFolder();
    await classFolder(path.join(root, 'train'), { a: 2, b: 1 });
    await classFolder(path.join(root, name), { a: 1, b: 1 });
    const source = await openFolder(root);
    assert.equal(source.train.labels.length, 3);
    assert.equal(source.val!.location, path.join(root, name));
    assert.equal(source.test, null);
  }
});

test('val goes before test, which is then the test split; names can be given', async () => {
  const root = temporaryFolder();
  for (const name of ['train', 'val', 'test', 'extra'])
    await classFolder(path.join(root, name), { a: 2, b: 2 });
  const found = await openFolder(root);
  assert.deepEqual([found.val!.name, found.test!.name], ['val', 'test']);
  const named = await openFolder(root, { valSplit: 'extra', trainSplit: 'val' });
  assert.equal(path.basename(named.train.location), 'val');
  assert.equal(path.basename(named.val!.location), 'extra');
  assert.equal((await openFolder(root, { valSplit: null })).val, null);
  await assert.rejects(openFolder(root, { valSplit: 'nothing' }), (error: unknown) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.what, /data\.val is 'nothing'/);
    assert.match(error.fix!, /extra/);
    return true;
  });
});

test('a folder named train that holds images is a class', async () => {
  const root = temporaryFolder();
  await classFolder(root, { bus: 2, car: 2, train: 2 });
  const source = await openFolder(root);
  assert.deepEqual(source.classes, ['bus', 'car', 'train']);
  assert.equal(source.val, null);
});

test('val and test without train is an error rather than two classes', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'val'), { a: 1 });
  await classFolder(path.join(root, 'test'), { a: 1 });
  await assert.rejects(openFolder(root), /no train\//);
});

test('validation labels follow the training classes, unknown classes are an error', async () => {
  const root = temporaryFolder();
  await classFolder(path.join(root, 'train'), { a: 1, b: 1, c: 1 });
  await classFolder(path.join(root, 'val'), { c: 1 });
  const source = await openFolder(root);
  assert.deepEqual([...source.val!.labels], [2]);
  await classFolder(path.join(root, 'val'), { d: 1 });
  await assert.rejects(openFolder(root), /the folders 'd' are no classes/);
});

test('identity changes with names, sizes and times; contentId not with times', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 2, b: 2 });
  const before = await scanFolder(root);
  assert.equal((await scanFolder(root)).identity, before.identity);
  const file = path.join(root, 'a', '000.png');
  utimesSync(file, new Date(), new Date(Date.now() + 5000));
  const touched = await scanFolder(root);
  assert.notEqual(touched.identity, before.identity);
  assert.equal(touched.contentId, before.contentId);
  put(root, 'a/more.png', image);
  assert.notEqual((await scanFolder(root)).contentId, before.contentId);
});

test('needs data cifar10-jpeg: its layout is recognised', { skip: whyNoData('cifar10-jpeg') }, async () => {
  const source = await openFolder(testData('cifar10-jpeg')!);
  assert.deepEqual(
    [source.classes.length, source.train.labels.length, source.val!.labels.length],
    [10, 50_000, 10_000],
  );
  assert.equal(path.basename(source.val!.location), 'test');
  assert.equal(source.train.id(0).split('/')[0], 'airplane');
});
