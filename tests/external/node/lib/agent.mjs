// An agent over @grpc/grpc-js, with the .proto loaded at run time.

import assert from 'node:assert/strict';
import { join } from 'node:path';

import { grpc, protoLoader, root } from './packages.mjs';

const DEADLINE_MS = 10_000;

const definition = protoLoader.loadSync(join(root, 'proto/agp/v1/gateway.proto'), {
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { AgentGateway } = grpc.loadPackageDefinition(definition).agp.v1;

/** Each client its own connection; messages of any size. */
export const clientOptions = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
};

/** A client of the gateway's service. */
export function connect(address) {
  return new AgentGateway(address, grpc.credentials.createInsecure(), clientOptions);
}

/** The same over TLS, for who shows a credential. */
export function gatewayClient(address, credentials) {
  return new AgentGateway(address, credentials, clientOptions);
}

/** One `Open` stream. */
export class Agent {
  #arrived = [];
  #waiting = [];
  #nextId = 1;

  constructor(client, name, options = {}) {
    this.name = name;
    this.client = client;
    this.call = client.open(new grpc.Metadata(), options);
    this.status = new Promise((resolve) => this.call.on('status', resolve));
    this.call.on('data', (message) => this.#take(message));
    this.call.on('error', () => {}); // the status says the same
    this.call.on('status', (status) => {
      for (const { reject } of this.#waiting) reject(new Error(`${name}: ended with ${status.code}: ${status.details}`));
      this.#waiting = [];
    });
  }

  /** A registered agent. */
  static async open(client, name, fields = {}) {
    const agent = new Agent(client, name);
    agent.send({ register: { name, ...fields } });
    agent.registered = await agent.expect('registered');
    return agent;
  }

  #take(message) {
    const waiter = this.#waiting.findIndex(({ matches }) => matches(message));
    if (waiter < 0) this.#arrived.push(message);
    else this.#waiting.splice(waiter, 1)[0].resolve(message);
  }

  /** One AgentMessage, given by its body. */
  send(body) {
    return this.call.write(body);
  }

  /** The first message of this kind for which `matches` holds. */
  async expect(kind, matches = () => true) {
    const isIt = (message) => message.body === kind && matches(message[kind]);
    const index = this.#arrived.findIndex(isIt);
    if (index >= 0) return this.#arrived.splice(index, 1)[0][kind];
    let timer;
    const message = await new Promise((resolve, reject) => {
      this.#waiting.push({ matches: isIt, resolve, reject });
      timer = setTimeout(
        () => reject(new Error(`${this.name}: no ${kind}; unread: ${JSON.stringify(this.#arrived.slice(0, 5))}`)),
        DEADLINE_MS,
      );
    }).finally(() => clearTimeout(timer));
    return message[kind];
  }

  /** The Error on `id`, which must have this code. */
  async expectError(id, code) {
    const error = await this.expect('error', (error) => error.id === id);
    assert.equal(error.code, code, error.message);
    return error;
  }

  /** Messages that have arrived and were not asked for. */
  get unread() {
    return this.#arrived;
  }

  /** Subscribes and waits for the Ack. */
  async subscribe(pattern, fields = {}) {
    const id = this.#nextId++;
    this.send({ subscribe: { id, pattern, ...fields } });
    await this.expect('ack', (ack) => ack.id === id);
    return id;
  }

  /** Publishes, waits for the Ack, and returns the number of receivers. */
  async publishAcked(topic, payload = Buffer.alloc(0)) {
    const id = this.#nextId++;
    this.send({ publish: { topic, payload, id } });
    return (await this.expect('ack', (ack) => ack.id === id)).receivers;
  }

  /** Sends a Request and returns its id. */
  request(target, payload = Buffer.alloc(0), timeout_ms = 0) {
    const id = this.#nextId++;
    this.send({ request: { id, target, payload, timeout_ms } });
    return id;
  }

  /** An orderly end. */
  async close() {
    this.call.end();
    const status = await this.status;
    assert.equal(status.code, grpc.status.OK, status.details);
  }
}
