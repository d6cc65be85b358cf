// One test's place on a shared gateway.

import { Agent, connect } from './agent.mjs';

let scenes = 0;

export class Scene {
  #clients = [];
  #agents = [];

  constructor(gateway) {
    this.gateway = gateway;
    this.namespace = `node${process.pid}n${++scenes}`;
  }

  /** An agent name of this scene. */
  name(service, instance = '1') {
    return `acme/${this.namespace}/${service}/${instance}`;
  }

  /** A topic or pattern of this scene. */
  topic(tail) {
    return `${this.namespace}/${tail}`;
  }

  /** A client with a connection of its own. */
  connect() {
    const client = connect(this.gateway.address);
    this.#clients.push(client);
    return client;
  }

  /** A registered agent on a connection of its own. */
  async agent(service, fields = {}) {
    const agent = await Agent.open(this.connect(), this.name(service), fields);
    this.#agents.push(agent);
    return agent;
  }

  /** Ends everything, and checks that nothing is left. */
  async close() {
    for (const agent of this.#agents) agent.call.end();
    await Promise.all(this.#agents.map((agent) => agent.status));
    for (const client of this.#clients) client.close();
    await this.gateway.untilNoResidue();
  }
}
