// gRPC's interop tests (doc/interop-test-descriptions.md in grpc/grpc), by their names and with their numbers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, afterEach, before, beforeEach, test } from 'node:test';

import { InteropServer, UnimplementedService } from './lib/interop.mjs';
import { grpc } from './lib/packages.mjs';

const REQUEST_SIZES = [27_182, 8, 1_828, 45_904];
const RESPONSE_SIZES = [31_415, 9, 2_653, 58_979];
const ECHO_INITIAL = 'x-grpc-test-echo-initial';
const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';
const GZIP = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };

let server;
let client;
before(async () => (server = await InteropServer.start()));
after(() => server?.stop());
beforeEach(() => (client = server.connect()));
afterEach(() => client.close());

const payload = (size) => ({ body: Buffer.alloc(size) });
const simpleRequest = (fields = {}) => ({ payload: payload(271_828), response_size: 314_159, ...fields });
const outputRequest = (sizes, size = 0) => ({
  response_parameters: sizes.map((size) => ({ size })),
  payload: payload(size),
});
const soon = () => ({ deadline: Date.now() + 10_000 });

/** Resolves with the response of a call that `begin` is given a callback for, rejects with its status. */
function answer(begin) {
  return new Promise((resolve, reject) => begin((error, response) => (error ? reject(error) : resolve(response))));
}

/** One unary call: its response, with the metadata and status beside it. */
async function unary(on, method, request, metadata = new grpc.Metadata()) {
  let call;
  const response = answer((done) => (call = on[method](request, metadata, soon(), done)));
  const initial = once(call, 'metadata');
  const status = once(call, 'status');
  initial.catch(() => {}); // a refused call may have none
  return { response: await response, initial: (await initial)[0], status: (await status)[0] };
}

/** The sizes of all responses of a stream that must end well. */
async function sizes(call) {
  const sizes = [];
  for await (const response of call) sizes.push(response.payload.body.length);
  return sizes;
}

/** The status a stream ends with. */
function statusOf(call) {
  call.on('error', () => {}); // the status says the same
  return new Promise((resolve) => call.on('status', resolve));
}

test('empty_unary', async () => {
  assert.deepEqual((await unary(client, 'EmptyCall', {})).response, {});
});

test('large_unary', async () => {
  const { response } = await unary(client, 'UnaryCall', simpleRequest());
  assert.ok(response.payload.body.equals(Buffer.alloc(314_159)));
});

test('client_streaming', async () => {
  const response = await answer((done) => {
    const call = client.StreamingInputCall(soon(), done);
    for (const size of REQUEST_SIZES) call.write({ payload: payload(size) });
    call.end();
  });
  assert.equal(response.aggregated_payload_size, 74_922);
});

test('server_streaming', async () => {
  assert.deepEqual(await sizes(client.StreamingOutputCall(outputRequest(RESPONSE_SIZES), soon())), RESPONSE_SIZES);
});

test('ping_pong', async () => {
  const call = client.FullDuplexCall(soon());
  const responses = call[Symbol.asyncIterator]();
  for (const [index, size] of RESPONSE_SIZES.entries()) {
    call.write(outputRequest([size], REQUEST_SIZES[index]));
    const { value } = await responses.next();
    assert.equal(value.payload.body.length, size);
  }
  call.end();
  assert.equal((await responses.next()).done, true);
});

test('empty_stream', async () => {
  const call = client.FullDuplexCall(soon());
  const status = statusOf(call);
  call.end();
  assert.deepEqual(await sizes(call), []);
  assert.equal((await status).code, grpc.status.OK);
});

test('half_duplex', async () => {
  const call = client.HalfDuplexCall(soon());
  for (const size of RESPONSE_SIZES) call.write(outputRequest([size]));
  call.end();
  assert.deepEqual(await sizes(call), RESPONSE_SIZES);
});

test('cacheable_unary', async () => {
  const { response, initial } = await unary(client, 'CacheableUnaryCall', simpleRequest());
  assert.equal(response.payload.body.length, 314_159);
  assert.match(String(initial.get('cache-control')[0]), /max-age=60/);
});

test('timeout_on_sleeping_server', async () => {
  const call = client.FullDuplexCall({ deadline: Date.now() + 1 });
  const status = statusOf(call);
  call.write(outputRequest([], 27_182));
  call.resume();
  assert.equal((await status).code, grpc.status.DEADLINE_EXCEEDED);
});

test('cancel_after_begin', async () => {
  let call;
  const response = answer((done) => (call = client.StreamingInputCall(soon(), done)));
  call.cancel();
  await assert.rejects(response, { code: grpc.status.CANCELLED });
});

test('cancel_after_first_response', async () => {
  const call = client.FullDuplexCall(soon());
  const status = statusOf(call);
  call.write(outputRequest([31_415], 27_182));
  const [response] = await once(call, 'data');
  assert.equal(response.payload.body.length, 31_415);
  call.cancel();
  assert.equal((await status).code, grpc.status.CANCELLED);
});

test('custom_metadata', async () => {
  const metadata = new grpc.Metadata();
  metadata.set(ECHO_INITIAL, 'test_initial_metadata_value');
  metadata.set(ECHO_TRAILING, Buffer.from([0xab, 0xab, 0xab]));
  const check = (initial, status) => {
    assert.deepEqual(initial.get(ECHO_INITIAL), ['test_initial_metadata_value']);
    assert.deepEqual(status.metadata.get(ECHO_TRAILING), [Buffer.from([0xab, 0xab, 0xab])]);
  };

  const { initial, status } = await unary(client, 'UnaryCall', simpleRequest(), metadata);
  check(initial, status);

  const call = client.FullDuplexCall(metadata, soon());
  const [headers, ended] = [once(call, 'metadata'), statusOf(call)];
  call.write(outputRequest([314_159], 271_828));
  call.end();
  assert.deepEqual(await sizes(call), [314_159]);
  check((await headers)[0], await ended);
});

for (const [name, message] of [
  ['status_code_and_message', 'test status message'],
  ['special_status_message', '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n'],
]) {
  test(name, async () => {
    const response_status = { code: grpc.status.UNKNOWN, message };
    const expected = { code: grpc.status.UNKNOWN, details: message };
    await assert.rejects(unary(client, 'UnaryCall', { response_status }), expected);

    const call = client.FullDuplexCall(soon());
    const status = statusOf(call);
    call.write({ response_status });
    call.end();
    call.resume();
    const { code, details } = await status;
    assert.deepEqual({ code, details }, expected);
  });
}

test('unimplemented_method', async () => {
  await assert.rejects(unary(client, 'UnimplementedCall', {}), { code: grpc.status.UNIMPLEMENTED });
});

test('unimplemented_service', async () => {
  const other = server.connect(UnimplementedService);
  await assert.rejects(unary(other, 'UnimplementedCall', {}), { code: grpc.status.UNIMPLEMENTED });
  other.close();
});

test('client_compressed_unary', async () => {
  const compressed = simpleRequest({ expect_compressed: { value: true } });
  await assert.rejects(unary(client, 'UnaryCall', compressed), { code: grpc.status.INVALID_ARGUMENT });
  const compressing = server.connect(undefined, GZIP);
  assert.equal((await unary(compressing, 'UnaryCall', compressed)).response.payload.body.length, 314_159);
  compressing.close();
  const plain = simpleRequest({ expect_compressed: { value: false } });
  assert.equal((await unary(client, 'UnaryCall', plain)).response.payload.body.length, 314_159);
});

test('server_compressed_unary', async () => {
  for (const value of [true, false]) {
    const { response } = await unary(client, 'UnaryCall', simpleRequest({ response_compressed: { value } }));
    assert.ok(response.payload.body.equals(Buffer.alloc(314_159)));
  }
});
