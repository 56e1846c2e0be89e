/** Several processes on this machine that run the same script, as a launcher would start them. */
import { execFile } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * @param script in this folder, `name.js`. It finds `argument` as JSON, and prints JSON.
 * @param seconds after which a process that has not ended is killed, which is an error.
 * @returns what the processes printed, by rank.
 */
export async function runTogether<T>(
  script: string,
  world: number,
  argument: unknown,
  seconds: number,
): Promise<T[]> {
  const port = await freePort();
  const file = fileURLToPath(new URL(script, import.meta.url));
  return Promise.all(
    Array.from({ length: world }, async (_, rank) => {
      const env = {
        ...process.env,
        RANK: String(rank),
        WORLD_SIZE: String(world),
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: String(port),
      };
      const { stdout } = await promisify(execFile)(process.execPath, [file, JSON.stringify(argument)], {
        env,
        timeout: seconds * 1000,
        killSignal: 'SIGKILL',
        maxBuffer: 1 << 26,
      });
      return JSON.parse(stdout) as T;
    }),
  );
}
