// gRPC itself, as @grpc/grpc-js sees it: health, many streams, large messages, deadlines, cancellation, compression.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { Agent, clientOptions } from './lib/agent.mjs';
import { Gateway } from './lib/gateway.mjs';
import { grpc } from './lib/packages.mjs';
import { Scene } from './lib/scene.mjs';

let gateway;
let scene;
before(async () => (gateway = await Gateway.start('0')));
after(() => gateway?.stop());
beforeEach(() => (scene = new Scene(gateway)));
afterEach(() => scene.close());

const asIs = (bytes) => bytes;

/** A client that sends and receives bytes, for services without a .proto here. */
function bytesClient(options = {}) {
  return new grpc.Client(gateway.address, grpc.credentials.createInsecure(), { ...clientOptions, ...options });
}

/** One unary call; resolves with the answer, rejects with the status. */
function unary(client, path, request = Buffer.alloc(0), options = {}) {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, asIs, asIs, request, new grpc.Metadata(), options, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

const serving = Buffer.from([8, 1]);

test('health check', async () => {
  const client = bytesClient();
  assert.deepEqual(await unary(client, '/grpc.health.v1.Health/Check'), serving);
  const unknown = Buffer.concat([Buffer.from([10, 4]), Buffer.from('nope')]);
  await assert.rejects(unary(client, '/grpc.health.v1.Health/Check', unknown), { code: grpc.status.NOT_FOUND });
  client.close();
});

test('health watch', async () => {
  const client = bytesClient();
  const call = client.makeServerStreamRequest('/grpc.health.v1.Health/Watch', asIs, asIs, Buffer.alloc(0));
  call.on('error', () => {});
  const first = await new Promise((resolve) => call.once('data', resolve));
  assert.deepEqual(first, serving);
  call.cancel();
  client.close();
});

test('unknown method and service', async () => {
  const client = bytesClient();
  for (const path of ['/agp.v1.AgentGateway/Nope', '/no.Service/Open']) {
    await assert.rejects(unary(client, path), { code: grpc.status.UNIMPLEMENTED });
  }
  client.close();
});

test('a thousand streams on one connection', async () => {
  const client = scene.connect();
  const names = Array.from({ length: 1000 }, (_, number) => scene.name('crowd', String(number)));
  const agents = await Promise.all(names.map((name) => Agent.open(client, name)));
  assert.equal((await gateway.stats()).sessions, 1000);
  await Promise.all(agents.map((agent) => agent.subscribe(scene.topic('all'))));
  assert.equal(await agents[0].publishAcked(scene.topic('all'), Buffer.from('!')), 1000);
  await Promise.all(agents.map((agent) => agent.expect('notify')));
  await Promise.all(agents.map((agent) => agent.close()));
});

test('four mebibytes', async () => {
  const alice = await scene.agent('alice');
  const bob = await scene.agent('bob');
  await bob.subscribe(scene.topic('large'));
  const payload = Buffer.alloc(4 << 20, 'ringgate');
  alice.send({ publish: { topic: scene.topic('large'), payload } });
  assert.ok((await bob.expect('notify')).payload.equals(payload));
});

test('beyond the limit', async () => {
  const alice = await scene.agent('alice');
  const limit = alice.registered.limits.message_bytes_max;
  alice.send({ publish: { topic: scene.topic('large'), payload: Buffer.alloc(limit + 1) } });
  const status = await alice.status;
  assert.equal(status.code, grpc.status.RESOURCE_EXHAUSTED);
  assert.match(status.details, new RegExp(String(limit)));
});

test('deadline of the call', async () => {
  const silent = new Agent(scene.connect(), 'silent', { deadline: Date.now() + 200 });
  assert.equal((await silent.status).code, grpc.status.DEADLINE_EXCEEDED);
});

test('cancel of the call', async () => {
  const client = scene.connect();
  const alice = await Agent.open(client, scene.name('alice'));
  await alice.subscribe(scene.topic('**'));
  alice.call.cancel();
  assert.equal((await alice.status).code, grpc.status.CANCELLED);
  await gateway.untilNoResidue();
});

test('two hundred quick cancels', async () => {
  const client = scene.connect();
  const agents = Array.from({ length: 200 }, (_, number) => new Agent(client, String(number)));
  for (const agent of agents) agent.call.cancel();
  await Promise.all(agents.map((agent) => agent.status));
  const alice = await Agent.open(client, scene.name('alice'));
  await alice.close();
});

test('gzip from the client', async () => {
  const client = bytesClient({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip });
  const service = Buffer.from('agp.v1.AgentGateway');
  const request = Buffer.concat([Buffer.from([10, service.length]), service]);
  assert.deepEqual(await unary(client, '/grpc.health.v1.Health/Check', request), serving);
  client.close();
});

test('five thousand small messages at once', async () => {
  const alice = await scene.agent('alice');
  await alice.subscribe(scene.topic('burst'), { delivery: { queue_bytes: 8 << 20 } });
  for (let number = 0; number < 5000; number++) {
    alice.send({ publish: { topic: scene.topic('burst'), payload: Buffer.from([number & 255]) } });
  }
  for (let number = 0; number < 5000; number++) {
    assert.equal((await alice.expect('notify')).sequence, number + 1);
  }
});
