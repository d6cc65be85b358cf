// A member of groups made of ts-mls, an implementation of RFC 9420 by other people, and @grpc/grpc-js: what it has of Ringgate is the
// .proto files, and what ARCHITECTURE.md says of a message's authenticated data.

import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { join } from 'node:path';

import { Agent, clientOptions, gatewayClient } from './agent.mjs';
import { esModule, grpc, protoLoader, root } from './packages.mjs';
import { Inbox } from './up.mjs';

const mls = await esModule('ts-mls');
const suite = await mls.getCiphersuiteImpl(
  mls.getCiphersuiteFromName('MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'),
);
const definition = protoLoader.loadSync(['groups', 'key_packages'].map((file) => `ringgate/control/v1/${file}.proto`), {
  includeDirs: [join(root, 'proto')],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const control = grpc.loadPackageDefinition(definition).ringgate.control.v1;

/** A unary call. */
const call = (client, method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );

/** The digest that binds a message to the way it goes. */
export function digest(...parts) {
  const hash = createHash('sha256');
  for (const part of ['ringgate route 1', ...parts]) {
    const bytes = Buffer.from(part);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(bytes.length));
    hash.update(length).update(bytes);
  }
  return new Uint8Array(hash.digest());
}

/** What is encrypted: a protobuf message with the payload as its field 1. */
function encodeContent(text) {
  const payload = Buffer.from(text);
  if (payload.length > 127) throw new Error('longer than this writes lengths');
  return new Uint8Array([0x0a, payload.length, ...payload]);
}

function decodeContent(bytes) {
  if (bytes[0] !== 0x0a || bytes[1] > 127) throw new Error('not a content that this reads');
  return Buffer.from(bytes.subarray(2, 2 + bytes[1])).toString();
}

/** The certificates of a PEM file, DER. */
const certificates = (pem) =>
  pem
    .toString()
    .match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)
    .map((one) => new Uint8Array(new X509Certificate(one).raw));

/** The name in a credential. */
function nameOf(credential) {
  const { subjectAltName } = new X509Certificate(Buffer.from(credential.certificates[0]));
  return /URI:agp:\/\/[^/]+\/(\S+)/.exec(subjectAltName)[1];
}

/** Whether a leaf is of whom its certificate names: that chains to the authority, is of now, and has the leaf's key. */
function isGood(ca, credential, signatureKey) {
  if (credential.credentialType !== 'x509') return false;
  const chain = credential.certificates.map((der) => new X509Certificate(Buffer.from(der)));
  const issuers = [...chain.slice(1), new X509Certificate(ca)];
  const signed = chain.every((one, at) => one.checkIssued(issuers[at]) && one.verify(issuers[at].publicKey));
  const now = Date.now();
  const valid = chain.every((one) => Date.parse(one.validFrom) <= now && now <= Date.parse(one.validTo));
  const key = Buffer.from(chain[0].publicKey.export({ format: 'jwk' }).x, 'base64url');
  return signed && valid && key.equals(Buffer.from(signatureKey));
}

/** Bytes with their length before them (RFC 9420 section 2.1.2). */
function opaque(bytes) {
  const { length } = bytes;
  if (length < 0x40) return [length, ...bytes];
  if (length < 0x4000) return [0x40 | (length >> 8), length & 0xff, ...bytes];
  return [0x80 | (length >>> 24), (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff, ...bytes];
}

/**
 * The GroupInfo of a state, signed. ts-mls 1.6.4 writes the key in the extension `external_pub` without the length that the key has
 * by its type (RFC 9420 section 12.4.3.2), so this puts it there and signs again.
 */
async function groupInfo(state) {
  const made = await mls.createGroupInfoWithExternalPubAndRatchetTree(state, [], suite);
  const extensions = made.extensions.map((extension) =>
    extension.extensionType === 'external_pub'
      ? { ...extension, extensionData: new Uint8Array(opaque(extension.extensionData)) }
      : extension,
  );
  const info = { ...made, extensions, signature: new Uint8Array() };
  // Without version and wire format before it, and the length of the signature that is not there behind it.
  const signed = encode('mls_group_info', 'groupInfo', info).subarray(4, -1);
  const content = new Uint8Array([...opaque(Buffer.from('MLS 1.0 GroupInfoTBS')), ...opaque(signed)]);
  info.signature = await suite.signature.sign(state.signaturePrivateKey, content);
  return encode('mls_group_info', 'groupInfo', info);
}

/** An MLSMessage. */
const encode = (wireformat, field, value) =>
  Buffer.from(mls.encodeMlsMessage({ version: 'mls10', wireformat, [field]: value }));

/** One agent. */
export class TsMember {
  /** Brings it on: with key packages published, following its mail and groups. */
  static async start(up, name) {
    const member = new TsMember();
    member.name = name;
    member.inbox = new Inbox(name);
    const credential = await up.enroll(name);
    const address = `localhost:${up.controlPort}`;
    member.groups = new control.Groups(address, credential.grpc, clientOptions);
    member.packages = new control.KeyPackages(address, credential.grpc, clientOptions);
    member.gateway = gatewayClient(`localhost:${up.port}`, credential.grpc);
    member.agent = await Agent.open(member.gateway, name);

    const validateCredential = async (...leaf) => isGood(credential.ca, ...leaf);
    member.config = {
      keyRetentionConfig: mls.defaultKeyRetentionConfig,
      lifetimeConfig: mls.defaultLifetimeConfig,
      keyPackageEqualityConfig: mls.defaultKeyPackageEqualityConfig,
      paddingConfig: mls.defaultPaddingConfig,
      authService: { validateCredential },
    };
    const key = createPrivateKey(credential.key).export({ format: 'jwk' });
    member.chain = certificates(credential.chain);
    const notAfter = Date.parse(new X509Certificate(Buffer.from(member.chain[0])).validTo);
    member.package = await mls.generateKeyPackageWithKey(
      { credentialType: 'x509', certificates: member.chain },
      {
        versions: ['mls10'],
        ciphersuites: ['MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'],
        extensions: [],
        proposals: [],
        // The second is the delivery service's, as external sender: mls-rs wants all members to know of it.
        credentials: ['x509', 'basic'],
      },
      { notBefore: BigInt(Math.floor(Date.now() / 1000) - 60), notAfter: BigInt(Math.floor(notAfter / 1000) - 60) },
      [],
      {
        signKey: new Uint8Array(Buffer.from(key.d, 'base64url')),
        publicKey: new Uint8Array(Buffer.from(key.x, 'base64url')),
      },
      suite,
    );
    const published = await call(member.packages, 'PublishKeyPackages', {
      key_packages: [encode('mls_key_package', 'keyPackage', member.package.publicPackage)],
    });
    const [{ reason, message }] = published.results;
    if (reason) throw new Error(`its key package: ${reason}: ${message}`);
    member.live = new Map();
    member.feed = member.groups.WatchGroups();
    member.feed.on('error', () => {}); // it is cancelled at the end
    // One after the other: each makes the state that the next is read with.
    let turn = Promise.resolve();
    member.feed.on('data', (event) => {
      turn = turn
        .then(() => member.#hear(event))
        .catch((error) => member.inbox.take({ event: 'failed', error: error.stack }));
    });
    return member;
  }

  async #hear(event) {
    if (event.body === 'mail') await this.#join(event.mail);
    if (event.body === 'handshake') await this.#settle(event.handshake);
    if (event.body === 'lost') {
      const live = this.live.get(event.lost.group_id.toString('hex'));
      if (live) live.out = true;
    }
    this.inbox.take({ event: 'changed' });
  }

  async #join(mail) {
    const { welcome } = decode(mail.welcome);
    const { publicPackage, privatePackage } = this.package;
    const state = await mls.joinGroup(
      ...[welcome, publicPackage, privatePackage, mls.emptyPskIndex, suite, undefined, undefined],
      this.config,
    );
    const id = mail.group_id.toString('hex');
    this.live.set(id, { state, sequence: mail.sequence, out: false });
    this.feed.write({ group_id: mail.group_id, after_sequence: mail.sequence });
    await call(this.groups, 'TakeMail', { ids: [mail.id] });
    this.inbox.take({ event: 'joined', group: id });
  }

  async #settle(handshake) {
    const live = this.live.get(handshake.group_id.toString('hex'));
    if (handshake.sequence <= live.sequence) return;
    live.sequence = handshake.sequence;
    // Its own, which is in force since it was accepted; or of an epoch that is over.
    if (BigInt(handshake.epoch) < live.state.groupContext.epoch) return;
    const { publicMessage } = decode(handshake.message);
    const psks = mls.makePskIndex(live.state, {});
    live.state = (await mls.processPublicMessage(live.state, publicMessage, psks, suite)).newState;
    live.out ||= live.state.groupActiveState.kind === 'removedFromGroup';
  }

  /** Commits to proposals, and submits that with its Welcome and GroupInfo. */
  async #commit(id, extraProposals) {
    const live = this.live.get(id);
    const epoch = live.state.groupContext.epoch;
    const made = await mls.createCommit(
      { state: live.state, cipherSuite: suite },
      { extraProposals, wireAsPublicMessage: true, ratchetTreeExtension: true },
    );
    const committed = await call(this.groups, 'SubmitCommit', {
      group_id: Buffer.from(id, 'hex'),
      epoch: Number(epoch),
      commit: Buffer.from(mls.encodeMlsMessage(made.commit)),
      welcome: made.welcome ? encode('mls_welcome', 'welcome', made.welcome) : Buffer.alloc(0),
      group_info: await groupInfo(made.newState),
    });
    live.state = made.newState;
    live.sequence = Math.max(live.sequence, committed.sequence);
  }

  /** Takes an agent in. */
  async invite(id, name) {
    const claimed = await call(this.packages, 'ClaimKeyPackages', { identities: [name], cipher_suite: 1 });
    const [{ key_package, reason, message }] = claimed.results;
    if (reason) throw new Error(`${reason}: ${message}`);
    const { keyPackage } = decode(key_package);
    await this.#commit(id, [{ proposalType: 'add', add: { keyPackage } }]);
  }

  /** Takes an agent out. */
  async remove(id, name) {
    const removed = this.#leaves(id).find(([, of]) => of === name)[0];
    await this.#commit(id, [{ proposalType: 'remove', remove: { removed } }]);
  }

  /** [leaf, name] of the members. */
  #leaves(id) {
    const nodes = this.live.get(id).state.ratchetTree;
    return nodes.flatMap((node, at) => (node?.nodeType === 'leaf' ? [[at / 2, nameOf(node.leaf.credential)]] : []));
  }

  /** Names of the members. */
  members(id) {
    return this.#leaves(id)
      .map(([, name]) => name)
      .sort();
  }

  /** Until it has followed the group into this epoch. */
  async untilEpoch(id, epoch) {
    const current = () => this.live.get(id).state.groupContext.epoch;
    while (current() < BigInt(epoch)) await this.inbox.first(({ event }) => event === 'changed', `epoch ${epoch}`);
  }

  /** Until these are the members. */
  async untilMembers(id, names) {
    const wanted = names.toSorted().join();
    while (this.members(id).join() !== wanted) await this.inbox.first(({ event }) => event === 'changed', wanted);
  }

  /** Until it is no member any more. */
  async untilOut(id) {
    while (!this.live.get(id).out) await this.inbox.first(({ event }) => event === 'changed', 'its removal');
  }

  /** What a message says that came by a way, once its epoch is there. */
  async open(payload, ...way) {
    const { privateMessage } = decode(payload);
    const id = Buffer.from(privateMessage.groupId).toString('hex');
    // Who was removed tries all the same, and shall not succeed.
    const isThere = (live) => live && (live.out || live.state.groupContext.epoch >= privateMessage.epoch);
    while (!isThere(this.live.get(id))) {
      await this.inbox.first(({ event }) => event === 'changed', 'the epoch of a message');
    }
    if (!Buffer.from(privateMessage.authenticatedData).equals(digest(...way))) {
      throw new Error('it was sent another way than it came');
    }
    const live = this.live.get(id);
    const psks = mls.makePskIndex(live.state, {});
    const opened = await mls.processPrivateMessage(live.state, privateMessage, psks, suite);
    live.state = opened.newState;
    return decodeContent(opened.message);
  }

  /** Encrypts for a group what is to go by a way. */
  async seal(id, text, ...way) {
    const live = this.live.get(id);
    const made = await mls.createApplicationMessage(live.state, encodeContent(text), suite, digest(...way));
    live.state = made.newState;
    return encode('mls_private_message', 'privateMessage', made.privateMessage);
  }

  /** Publishes; how many it was queued for. */
  async publish(id, topic, text) {
    return this.agent.publishAcked(topic, await this.seal(id, text, 'topic', topic, ''));
  }

  /** The next message of somebody else: `{topic, sender, text}`. */
  async nextMessage() {
    const { topic, source, payload } = await this.agent.expect('notify', (notify) => notify.source !== this.name);
    return { topic, sender: source, text: await this.open(payload, 'topic', topic, '') };
  }

  /** Ends it. */
  async close() {
    this.feed.cancel();
    await this.agent.close();
    for (const client of [this.gateway, this.groups, this.packages]) client.close();
  }
}

function decode(bytes) {
  const decoded = mls.decodeMlsMessage(new Uint8Array(bytes), 0);
  if (decoded === undefined || decoded[1] !== bytes.length) throw new Error('not an MLS message');
  return decoded[0];
}
