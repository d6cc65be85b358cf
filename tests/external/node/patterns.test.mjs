// Every pattern of the protocol, spoken by @grpc/grpc-js.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { Agent } from './lib/agent.mjs';
import { Gateway } from './lib/gateway.mjs';
import { grpc } from './lib/packages.mjs';
import { Scene } from './lib/scene.mjs';

for (const cores of ['0', '0,1']) {
  describe(`on cores ${cores}`, () => {
    let gateway;
    let scene;
    before(async () => (gateway = await Gateway.start(cores)));
    after(() => gateway?.stop());
    beforeEach(() => (scene = new Scene(gateway)));
    afterEach(() => scene.close());

    test('register', async () => {
      const alice = await scene.agent('alice');
      assert.equal(alice.registered.name, alice.name);
      assert.ok(alice.registered.limits.message_bytes_max >= 4 << 20);
      const twin = new Agent(scene.connect(), alice.name);
      twin.send({ register: { name: alice.name } });
      await twin.expectError(0, 'CODE_ALREADY_EXISTS');
      assert.equal((await twin.status).code, grpc.status.ALREADY_EXISTS);
    });

    test('a bad name ends the stream', async () => {
      const nameless = new Agent(scene.connect(), 'nameless');
      nameless.send({ register: { name: 'no/name' } });
      await nameless.expectError(0, 'CODE_INVALID_ARGUMENT');
      assert.equal((await nameless.status).code, grpc.status.INVALID_ARGUMENT);
    });

    test('publish and subscribe, in order, with wildcards', async () => {
      const alice = await scene.agent('alice');
      const bob = await scene.agent('bob');
      await bob.subscribe(scene.topic('*/news'));
      await bob.subscribe(scene.topic('deep/**'));
      for (let number = 0; number < 1000; number++) {
        const topic = scene.topic(number % 2 ? 'sport/news' : `deep/a/${number}`);
        alice.send({ publish: { topic, payload: Buffer.from(String(number)), headers: { n: String(number) } } });
      }
      for (let number = 0; number < 1000; number++) {
        const notify = await bob.expect('notify');
        assert.equal(notify.payload.toString(), String(number));
        assert.equal(notify.sequence, number + 1);
        assert.equal(notify.source, alice.name);
        assert.deepEqual(notify.headers, { n: String(number) });
      }
      assert.equal(await alice.publishAcked(scene.topic('x/news')), 1);
      assert.equal(await alice.publishAcked(scene.topic('x/y/news')), 0);
    });

    test('a queue group takes each message once', async () => {
      const alice = await scene.agent('alice');
      const workers = [await scene.agent('w1'), await scene.agent('w2')];
      for (const worker of workers) await worker.subscribe(scene.topic('jobs'), { group: 'g' });
      for (let number = 0; number < 20; number++) {
        assert.equal(await alice.publishAcked(scene.topic('jobs'), Buffer.from([number])), 1);
      }
      for (const worker of workers) await worker.publishAcked(scene.topic('barrier'));
      const shares = workers.map((worker) => worker.unread.map((message) => message.notify.payload[0]));
      assert.deepEqual(shares.flat().sort((a, b) => a - b), [...Array(20).keys()]);
    });

    test('request and response by agent, service and capability', async () => {
      const capability = `math-${scene.namespace}`;
      const alice = await scene.agent('alice');
      const bob = await scene.agent('bob', { capabilities: [capability] });
      const service = bob.name.split('/').slice(0, 3).join('/');
      for (const target of [{ agent: bob.name }, { service }, { capability }]) {
        const id = alice.request(target, Buffer.from('6*7'));
        const forward = await bob.expect('forward');
        assert.equal(forward.source, alice.name);
        bob.send({ response: { request: forward.request, payload: Buffer.from('42') } });
        const deliver = await alice.expect('deliver');
        assert.deepEqual([deliver.id, deliver.payload.toString(), deliver.source], [id, '42', bob.name]);
      }
    });

    test('deadline, cancel and nobody', async () => {
      const alice = await scene.agent('alice');
      const bob = await scene.agent('bob');
      const late = alice.request({ agent: bob.name }, Buffer.alloc(0), 50);
      const forward = await bob.expect('forward');
      await alice.expectError(late, 'CODE_DEADLINE_EXCEEDED');
      assert.equal((await bob.expect('cancel')).request, forward.request);
      const unwanted = alice.request({ agent: bob.name });
      const second = await bob.expect('forward');
      alice.send({ cancel: { request: unwanted } });
      assert.equal((await bob.expect('cancel')).request, second.request);
      await alice.expectError(alice.request({ agent: scene.name('nobody') }), 'CODE_NO_RESPONDER');
    });

    test('streams with credit', async () => {
      const alice = await scene.agent('alice');
      const bob = await scene.agent('bob');
      alice.send({ stream_open: { stream: 1, target: { agent: bob.name }, credit_bytes: 500 } });
      const theirs = (await bob.expect('stream_open')).stream;
      bob.send({ stream_credit: { stream: theirs, bytes: 1000 } });
      assert.equal((await alice.expect('stream_credit')).bytes, 1000);
      for (let sequence = 0; sequence < 10; sequence++) {
        alice.send({ chunk: { stream: 1, sequence, payload: Buffer.alloc(100, sequence) } });
      }
      for (let sequence = 0; sequence < 10; sequence++) {
        const chunk = await bob.expect('chunk');
        assert.deepEqual([chunk.stream, chunk.sequence, chunk.payload[99]], [theirs, sequence, sequence]);
      }
      alice.send({ chunk: { stream: 1, sequence: 10, payload: Buffer.alloc(1) } });
      await alice.expectError(1, 'CODE_RESOURCE_EXHAUSTED');
      assert.equal((await bob.expect('stream_close')).code, 'CODE_RESOURCE_EXHAUSTED');
    });

    test('introduction, channel, rejection', async () => {
      const alice = await scene.agent('alice');
      const bob = await scene.agent('bob');
      alice.send({ introduce: { id: 5, target: { agent: bob.name }, payload: Buffer.from('hello') } });
      const heard = await bob.expect('introduce');
      assert.deepEqual([heard.source, heard.payload.toString()], [alice.name, 'hello']);
      bob.send({ accept: { introduction: heard.introduction, payload: Buffer.from('welcome') } });
      const connected = await alice.expect('connected');
      assert.deepEqual([connected.id, connected.payload.toString(), connected.source], [5, 'welcome', bob.name]);
      assert.equal((await bob.expect('connected')).channel, connected.channel);
      bob.request({ channel: connected.channel }, Buffer.from('psst'));
      assert.equal((await alice.expect('forward')).payload.toString(), 'psst');
      alice.send({ introduce: { id: 6, target: { agent: bob.name } } });
      const unwanted = await bob.expect('introduce');
      bob.send({ reject: { introduction: unwanted.introduction, code: 'CODE_REJECTED', message: 'no' } });
      const rejected = await alice.expect('rejected');
      assert.deepEqual([rejected.id, rejected.code, rejected.message], [6, 'CODE_REJECTED', 'no']);
    });

    test('what one agent puts into a state space another gets', async () => {
      const [alice, bob] = [await scene.agent('alice'), await scene.agent('bob')];
      const space = scene.topic('notes');
      alice.send({ state_put: { id: 3, space, key: 'k', value: Buffer.from('v'), expect_revision: 0 } });
      const { revision } = await alice.expect('ack');
      bob.send({ state_get: { id: 4, space, key: 'k' } });
      const value = await bob.expect('state_value');
      assert.deepEqual([value.id, value.value.toString(), value.revision, value.source], [4, 'v', revision, alice.name]);
    });

    test('a reader that stops loses what a Gap says, and no other reader notices', async () => {
      const [alice, fast, slow] = [await scene.agent('alice'), await scene.agent('fast'), await scene.agent('slow')];
      const topic = scene.topic('feed');
      await fast.subscribe(topic);
      const id = await slow.subscribe(topic, { delivery: { queue_bytes: 65_536 } });
      slow.call.pause();
      const total = 3000;
      for (let number = 0; number < total; number += 50) {
        for (let step = 0; step < 50; step++) {
          const payload = Buffer.alloc(4096);
          payload.writeUInt32BE(number + step);
          alice.send({ publish: { topic, payload } });
        }
        for (let step = 0; step < 50; step++) {
          assert.equal((await fast.expect('notify')).payload.readUInt32BE(), number + step);
        }
      }
      const order = [];
      slow.call.removeAllListeners('data');
      const all = new Promise((resolve) => {
        let expected = 0;
        slow.call.on('data', (message) => {
          if (message.body === 'gap') {
            assert.equal(message.gap.subscription, id);
            expected += message.gap.dropped;
            order.push('gap');
          } else {
            assert.equal(message.notify.payload.readUInt32BE(), expected++);
          }
          if (expected === total) resolve();
        });
      });
      slow.call.resume();
      await all;
      assert.ok(order.length > 0, 'twelve megabytes do not fit into flow control and 64 KiB of queue');
    });
  });
}
