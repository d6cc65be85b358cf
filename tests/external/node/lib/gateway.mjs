// The real gateway as a child process.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { gatewayBinary } from './packages.mjs';

const DEADLINE_MS = 10_000;
const RESIDUE = [
  'sessions',
  'detached_sessions',
  'subscriptions',
  'requests',
  'streams',
  'introductions',
  'channels',
  'queued_bytes',
];

/** A port of 127.0.0.1 that nothing uses at the moment. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** One running `ringgate-dataplane`. */
export class Gateway {
  /** Starts it and returns when it is ready. */
  static async start(cores = '0') {
    const gateway = new Gateway();
    gateway.port = await freePort();
    gateway.httpPort = await freePort();
    gateway.output = '';
    gateway.process = spawn(
      gatewayBinary,
      [
        ...['--profile', 'development', '--cores', cores],
        ...['--listen', `127.0.0.1:${gateway.port}`, '--http', `127.0.0.1:${gateway.httpPort}`],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [gateway.process.stdout, gateway.process.stderr]) {
      stream.on('data', (data) => (gateway.output += data));
    }
    await gateway.until(async () => {
      assert.equal(gateway.process.exitCode, null, `the gateway ended at start:\n${gateway.output}`);
      return (await gateway.get('/readyz').catch(() => undefined))?.ok;
    }, 'the gateway is ready');
    return gateway;
  }

  /** host:port of the data listener. */
  get address() {
    return `127.0.0.1:${this.port}`;
  }

  /** A path of the HTTP endpoint. */
  get(path) {
    return fetch(`http://127.0.0.1:${this.httpPort}${path}`);
  }

  /** The gauges of all cores. */
  async stats() {
    return (await (await this.get('/stats')).json()).total;
  }

  /** Asks until `condition` holds; fails naming `what` at the bound. */
  async until(condition, what) {
    const end = Date.now() + DEADLINE_MS;
    while (!(await condition())) {
      assert.ok(Date.now() < end, `not within ${DEADLINE_MS} ms: ${what}`);
      await pause(10);
    }
  }

  /** Waits until nothing of any agent is left. */
  async untilNoResidue() {
    let stats;
    await this.until(
      async () => {
        stats = await this.stats();
        return RESIDUE.every((name) => stats[name] === 0);
      },
      'no residue',
    ).catch((error) => assert.fail(`${error.message}: ${JSON.stringify(stats)}`));
  }

  /** Ends it. */
  async stop() {
    if (this.process.exitCode !== null) return;
    this.process.kill('SIGKILL');
    await once(this.process, 'exit');
  }
}
