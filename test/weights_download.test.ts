/** Fetching weights: resumed, checked, by one process at a time; names resolved in a folder, a cache, the network. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { AbortedError, WeightsError } from '#fornax/errors.js';
import { download } from '#fornax/weights/download.js';
import { kindOfWeights, resolveWeights } from '#fornax/weights/resolve.js';

import { testData, whyNoData } from './support/data.js';
import { temporaryFolder } from './support/image_folder.js';

const content = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) & 255));
const sha256 = createHash('sha256').update(content).digest('hex');

let root: Awaited<ReturnType<typeof temporaryFolder>>;
let server: Server;
let address: string;
let requests: IncomingMessage[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;

beforeEach(async () => {
  root = await temporaryFolder();
  requests = [];
  answer = ranged;
  server = createServer((incoming, response) => {
    requests.push(incoming);
    answer(incoming, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await root[Symbol.asyncDispose]();
});

/** A server that knows ranges. */
function ranged({ headers }: IncomingMessage, response: ServerResponse, body = content): void {
  const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  if (start >= body.length) return void response.writeHead(416).end();
  response.writeHead(headers.range ? 206 : 200, {
    'content-length': body.length - start,
    ...(headers.range ? { 'content-range': `bytes ${start}-${body.length - 1}/${body.length}` } : {}),
  });
  response.end(body.subarray(start));
}

/** Waits until so many bytes have arrived beside `a.pth`, or the connection is over. */
async function arrived(bytes: number, response: ServerResponse): Promise<void> {
  let over = false;
  response.once('close', () => (over = true));
  for (;;) {
    const part = await fs.stat(path.join(root.path, 'a.pth.part')).catch(() => null);
    if (over || (part?.size ?? 0) >= bytes) return;
    await sleep(5);
  }
}

/** Breaks the connection once so many bytes have arrived. */
function cut(after: number): typeof answer {
  return ({ headers }, response) => {
    const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    response.writeHead(headers.range ? 206 : 200, {
      'content-length': content.length - start,
      ...(headers.range ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {}),
    });
    response.write(content.subarray(start, start + after));
    void arrived(start + after, response).then(() => response.destroy());
  };
}

const fast = { retryMs: [5, 5] };

function fetchTo(name: string, options: Partial<Parameters<typeof download>[2]> = {}): Promise<void> {
  return download(`${address}/weights.pth`, path.join(root.path, name), { sha256, ...fast, ...options });
}

async function rejectsWith(promise: Promise<unknown>, reason: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof WeightsError, String(error));
    assert.match(error.message, reason);
    return true;
  });
}

describe('a download', () => {
  test('comes whole, with progress, and leaves nothing beside it', async () => {
    const seen: [number, number | null][] = [];
    await fetchTo('a.pth', { onProgress: (done, total) => seen.push([done, total]) });
    assert.deepEqual(await fs.readFile(path.join(root.path, 'a.pth')), content);
    assert.deepEqual(seen.at(-1), [content.length, content.length]);
    assert.deepEqual(await fs.readdir(root.path), ['a.pth']);
    await fetchTo('a.pth');
    assert.equal(requests.length, 1, 'what is there is not fetched again');
  });

  test('goes on where the connection broke', async () => {
    answer = (incoming, response) => (requests.length < 4 ? cut(100_000) : ranged)(incoming, response);
    await fetchTo('a.pth');
    assert.deepEqual(await fs.readFile(path.join(root.path, 'a.pth')), content);
    assert.ok(requests.length >= 3);
    assert.equal(requests[0]!.headers.range, undefined);
    assert.match(requests[1]!.headers.range!, /^bytes=[1-9]\d*-$/);
  });

  test('goes on in the next process', async () => {
    answer = ({ headers }, response) =>
      headers.range
        ? void response.writeHead(503).end()
        : cut(120_000)({ headers } as IncomingMessage, response);
    await rejectsWith(
      fetchTo('a.pth'),
      /cannot be fetched: .*503[^]*goes on where it stopped[^]*FORNAX_WEIGHTS/,
    );
    const { size } = await fs.stat(path.join(root.path, 'a.pth.part'));
    assert.ok(size > 0 && size < content.length);
    answer = ranged;
    await fetchTo('a.pth');
    assert.equal(requests.at(-1)!.headers.range, `bytes=${size}-`);
    assert.deepEqual(await fs.readFile(path.join(root.path, 'a.pth')), content);
  });

  test('begins anew where the server knows no ranges, or the beginning was of another file', async () => {
    await fs.writeFile(path.join(root.path, 'a.pth.part'), content.subarray(0, 1000));
    answer = (incoming, response) => ranged({ ...incoming, headers: {} } as IncomingMessage, response);
    await fetchTo('a.pth');
    await fs.writeFile(path.join(root.path, 'b.pth.part'), Buffer.alloc(1000));
    answer = ranged;
    const messages: string[] = [];
    await fetchTo('b.pth', { onMessage: (message) => messages.push(message) });
    assert.match(messages.join(), /from the start/);
    await fs.writeFile(path.join(root.path, 'c.pth.part'), Buffer.alloc(content.length + 5));
    await fetchTo('c.pth');
    for (const name of ['a.pth', 'b.pth', 'c.pth'])
      assert.deepEqual(await fs.readFile(path.join(root.path, name)), content);
  });

  test('of another file than expected is not kept', async () => {
    await rejectsWith(
      fetchTo('a.pth', { sha256: 'deadbeef' }),
      /not the expected file: its SHA-256 begins with/,
    );
    assert.deepEqual(await fs.readdir(root.path), []);
  });

  test('that the server refuses says so at once', async () => {
    answer = (_, response) => void response.writeHead(404).end('not here');
    await rejectsWith(fetchTo('a.pth'), /127\.0\.0\.1:\d+ answers 404/);
    assert.equal(requests.length, 1);
  });

  test('without a network says what to do', async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rejectsWith(fetchTo('a.pth'), /ECONNREFUSED[^]*HTTPS_PROXY[^]*FORNAX_WEIGHTS/);
  });

  test('can be stopped, and keeps what it has', async () => {
    const stop = new AbortController();
    answer = (incoming, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 50_000));
      void arrived(50_000, response).then(() => stop.abort());
    };
    await assert.rejects(fetchTo('a.pth', { signal: stop.signal }), AbortedError);
    assert.ok((await fs.stat(path.join(root.path, 'a.pth.part'))).size > 0);
  });

  test('is done once for several who want it', async () => {
    await Promise.all([fetchTo('a.pth'), fetchTo('a.pth'), fetchTo('a.pth')]);
    assert.equal(requests.length, 1);
  });

  test('goes through the proxy that the environment names', async () => {
    let proxied = 0;
    const proxy = createServer();
    proxy.on('connect', (incoming, socket) => {
      proxied++;
      const target = new URL(address);
      import('node:net').then(({ connect }) => {
        const onward = connect(Number(target.port), target.hostname, () => {
          socket.write('HTTP/1.1 200 OK\r\n\r\n');
          onward.pipe(socket).pipe(onward);
        });
      });
    });
    proxy.on('request', (incoming, response) => {
      proxied++;
      request(incoming.url!, { headers: incoming.headers }, (answered) => {
        response.writeHead(answered.statusCode!, answered.headers);
        answered.pipe(response);
      }).end();
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const before = { ...process.env };
    process.env.http_proxy = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    try {
      await fetchTo('a.pth');
    } finally {
      process.env = before;
      proxy.closeAllConnections();
      await new Promise((resolve) => proxy.close(resolve));
    }
    assert.equal(proxied, 1);
    assert.deepEqual(await fs.readFile(path.join(root.path, 'a.pth')), content);
  });
});

describe('what a person writes', () => {
  test('is an address, a path or a name', () => {
    assert.equal(kindOfWeights('https://example.org/a.pth'), 'url');
    for (const given of ['a.pth', 'runs/a', '~/a', './a', 'model.safetensors'])
      assert.equal(kindOfWeights(given), 'path');
    for (const given of ['default', 'imagenet1k_v1', 'test']) assert.equal(kindOfWeights(given), 'name');
  });

  test('an address needs a checksum, and is fetched once into the cache', async () => {
    const options = { cache: root.path };
    const plain = `${address}/weights.pth`;
    await rejectsWith(resolveWeights(plain, null, options), /need a checksum[^]*#sha256=/);
    const { file } = await resolveWeights(`${plain}#sha256=${sha256}`, null, options);
    assert.deepEqual(await fs.readFile(file), content);
    await resolveWeights(`${plain}#sha256=${sha256}`, null, options);
    assert.equal(requests.length, 1);
    const named = await resolveWeights(`${address}/net-${sha256.slice(0, 8)}.pth`, null, options);
    assert.equal(named.file, path.join(root.path, 'weights', `net-${sha256.slice(0, 8)}.pth`));
    await rejectsWith(resolveWeights(`${plain}#sha256=00000000`, null, options), /not the expected file/);
    // What lies in the cache may have been damaged since.
    await fs.appendFile(file, 'x');
    await rejectsWith(resolveWeights(`${plain}#sha256=${sha256}`, null, options), /not the published one/);
    for (const odd of ['https://', `${address}/%zz-${sha256}.pth`])
      await rejectsWith(resolveWeights(odd, null, options), /no valid address/);
  });

  test('a name is found where torch.hub keeps its files', { skip: whyNoData('weights') }, async () => {
    const checkpoints = path.join(root.path, 'hub', 'checkpoints');
    await fs.mkdir(checkpoints, { recursive: true });
    const file = path.join(checkpoints, 'resnet20-12fca82f.th');
    await fs.copyFile(path.join(testData('weights')!, 'resnet20-12fca82f.th'), file);
    const options = { env: { TORCH_HOME: root.path }, cache: path.join(root.path, 'cache') };
    const resolved = await resolveWeights('default', 'resnet20', options);
    assert.deepEqual([resolved.file, resolved.published!.name], [file, 'cifar10']);
    // Given by its path, it is known too.
    assert.equal((await resolveWeights(file, 'resnet20', options)).published!.name, 'cifar10');
    assert.equal((await resolveWeights(file, 'resnet18', options)).published, null);
  });

  test('a name is looked for in the folder of weights, where the checksum must be right', async () => {
    const env = { FORNAX_WEIGHTS: root.path };
    await fs.writeFile(path.join(root.path, 'resnet18-f37072fd.pth'), 'other weights');
    const options = { env, cache: path.join(root.path, 'cache') };
    await rejectsWith(
      resolveWeights('imagenet1k_v1', 'resnet18', options),
      /not the published one[^]*resnet18-f37072fd/,
    );
    await rejectsWith(
      resolveWeights('imagenet1k_v9', 'resnet50', options),
      /there are: imagenet1k_v2, imagenet1k_v1/,
    );
    await rejectsWith(resolveWeights('default', 'tiny_cnn', options), /no published weights for 'tiny_cnn'/);
    await rejectsWith(resolveWeights('default', null, options), /only architectures of the zoo/);
    await rejectsWith(resolveWeights('missing.pth', 'resnet18', options), /does not exist/);
    await rejectsWith(
      resolveWeights('default', 'retinaface_mobilenet025', options),
      /not on this machine[^]*put 'RetinaFace_mobilenet025\.pth'/,
    );
    assert.ok(!existsSync(path.join(root.path, 'cache')));
  });
});
