// Control process and gateway from nothing, by `ringgate up`, and agents for them.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { freePort } from './gateway.mjs';
import { cliBinary, grpc, memberBinary } from './packages.mjs';

const run = promisify(execFile);
const UP = 'The gateway is up';
const DEADLINE_MS = 60_000;

/** One `ringgate up` in a folder of its own. */
export class Up {
  /** Starts both processes and returns when they serve. */
  static async start() {
    const up = new Up();
    up.folder = await mkdtemp(join(tmpdir(), 'ringgate-'));
    [up.port, up.httpPort, up.controlPort] = [await freePort(), await freePort(), await freePort()];
    up.output = '';
    const local = (port) => `127.0.0.1:${port}`;
    up.process = spawn(
      cliBinary,
      [
        ...['up', '--listen', local(up.port), '--http', local(up.httpPort)],
        ...['--control-listen', local(up.controlPort), '--control-http', 'off', '--', '--cores', '0'],
      ],
      { cwd: up.folder, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    await new Promise((resolve, reject) => {
      const hear = (data) => {
        up.output += data;
        if (up.output.includes(UP)) resolve();
      };
      up.process.stdout.on('data', hear);
      up.process.stderr.on('data', hear);
      up.process.once('error', reject);
      up.process.once('exit', (code) => reject(new Error(`ringgate up ended with ${code}:\n${up.output}`)));
    });
    return up;
  }

  /** What a command says. */
  async said(...words) {
    return (await run(cliBinary, words, { cwd: this.folder, timeout: DEADLINE_MS })).stdout;
  }

  /** A credential for an agent, as gRPC credentials and as what they are made of. */
  async enroll(name) {
    const folder = name.replaceAll('/', '-');
    await this.said('enroll', name, '--out', folder);
    const [ca, key, chain] = await Promise.all(
      ['ca.pem', 'key.pem', 'chain.pem'].map((file) => readFile(join(this.folder, folder, file))),
    );
    return { name, ca, key, chain, grpc: grpc.credentials.createSsl(ca, key, chain) };
  }

  /** A member of groups in a process of its own, made of one of the libraries that the SDK's example `member` knows. */
  async member(name, library = 'openmls') {
    const token = (await this.said('join-token', 'create', name)).trim();
    const member = new Member(name, [
      ...['--url', `https://127.0.0.1:${this.port}`, '--control', `https://127.0.0.1:${this.controlPort}`],
      ...['--control-ca', join(this.folder, '.ringgate/control/ca.pem')],
      ...['--join-token', token, '--name', name, '--library', library],
    ]);
    await member.event('ready');
    return member;
  }

  /** Ends both. */
  async stop() {
    if (this.process.exitCode === null) {
      this.process.kill('SIGTERM');
      await once(this.process, 'exit');
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What waits for what comes. */
export class Inbox {
  #arrived = [];
  #waiting = [];

  constructor(name) {
    this.name = name;
  }

  /** Something came. */
  take(said) {
    const waiter = this.#waiting.findIndex(({ matches }) => matches(said));
    if (waiter < 0) this.#arrived.push(said);
    else this.#waiting.splice(waiter, 1)[0].resolve(said);
  }

  /** Nothing comes any more. */
  end(why) {
    for (const { reject } of this.#waiting) reject(new Error(`${this.name}: ${why}`));
    this.#waiting = [];
  }

  /** The first that came, or comes, for which `matches` holds. */
  async first(matches, what) {
    const index = this.#arrived.findIndex(matches);
    if (index >= 0) return this.#arrived.splice(index, 1)[0];
    let timer;
    const late = () => new Error(`${this.name}: no ${what}; unread: ${JSON.stringify(this.#arrived.slice(0, 5))}`);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ matches, resolve, reject });
      timer = setTimeout(() => reject(late()), DEADLINE_MS);
    }).finally(() => clearTimeout(timer));
  }
}

/** A process of the example `member`. */
class Member {
  #next = 1;
  #inbox;

  constructor(name, words) {
    this.name = name;
    this.#inbox = new Inbox(name);
    this.process = spawn(memberBinary, words, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.process.once('exit', (code) => this.#inbox.end(`it ended with ${code}`));
    let rest = '';
    this.process.stdout.on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      for (const line of lines) this.#inbox.take(JSON.parse(line));
    });
  }

  /** Tells it to do something; rejects with the reason where it does not work. */
  async do(what, fields = {}) {
    const id = this.#next++;
    this.process.stdin.write(`${JSON.stringify({ id, do: what, ...fields })}\n`);
    const answer = await this.#inbox.first((said) => said.re === id, `answer to ${what}`);
    if (answer.error !== undefined) throw new Error(`${this.name}: ${answer.error}`);
    return answer;
  }

  /** The next event of a kind with these fields. */
  event(kind, fields = {}) {
    const matches = (said) =>
      said.event === kind && Object.entries(fields).every(([name, value]) => said[name] === value);
    return this.#inbox.first(matches, `${kind} ${JSON.stringify(fields)}`);
  }

  /** Ends it. */
  async close() {
    if (this.process.exitCode !== null) return;
    this.process.stdin.end();
    await once(this.process, 'exit');
    assert.equal(this.process.exitCode, 0);
  }
}
