// One group with members of three implementations of MLS: the SDK's (openmls), mls-rs, and ts-mls. Its delivery service is the control
// process, and what its members say goes through a gateway of the profile `strict`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { TsMember } from './lib/tsmls.mjs';
import { Up } from './lib/up.mjs';

const [OWN, RS, TS, LATE] = ['own', 'rs', 'ts', 'late'].map((who) => `acme/demo/${who}/1`);
const TOPIC = 'talk/all';

let up;
let own;
let rs;
let ts;
let late;
let group;
before(async () => {
  up = await Up.start();
  [own, late] = [await up.member(OWN), await up.member(LATE)];
  rs = await up.member(RS, 'mls-rs');
  ts = await TsMember.start(up, TS);
  await ts.agent.subscribe('talk/**');
  for (const member of [own, rs, late]) await member.do('subscribe', { pattern: 'talk/**' });
});
after(async () => {
  for (const member of [ts, own, rs, late]) await member?.close();
  await up?.stop();
});

/** Until everybody of these has the same members. */
async function settled(names) {
  for (const member of [own, rs, late]) {
    if (names.includes(member.name)) await member.do('wait', { group, members: names });
  }
  if (names.includes(TS)) await ts.untilMembers(group, names);
}

/** One says something, and everybody else of the members reads it. */
async function heard(from, members, text) {
  if (from === ts) await ts.publish(group, TOPIC, text);
  else await from.do('publish', { group, topic: TOPIC, text });
  for (const member of members.filter((member) => member !== from)) {
    if (member === ts) assert.deepEqual(await ts.nextMessage(), { topic: TOPIC, sender: from.name, text });
    else await member.event('message', { topic: TOPIC, sender: from.name, text });
  }
}

test('mls-rs and ts-mls join by a Welcome of the SDK', async () => {
  // Each library pads in a way of its own, so nothing is asked of the length.
  group = (await own.do('create', { padding: 0 })).group;
  await own.do('invite', { group, names: [RS, TS] });
  await rs.event('joined', { group });
  await ts.inbox.first(({ event }) => event === 'joined', 'joined');
  await settled([OWN, RS, TS]);
});

test('what one of them says the others read', async () => {
  for (const from of [own, rs, ts]) await heard(from, [own, rs, ts], `I am ${from.name}`);
});

test('requests are asked and answered between the SDK and mls-rs', async () => {
  const asked = await own.do('request', { group, agent: RS, text: 'rs?' });
  assert.deepEqual([asked.text, asked.sender], ['re: rs?', RS]);
  const answered = await rs.do('request', { group, agent: OWN, text: 'own?' });
  assert.deepEqual([answered.text, answered.sender], ['re: own?', OWN]);
});

test('each processes the commits of each', async () => {
  await own.do('update', { group });
  await heard(ts, [own, rs, ts], 'after a commit of the SDK');
  await rs.do('update', { group });
  await heard(own, [own, rs, ts], 'after a commit of mls-rs');
  // What it reads may have been said before the commit; what it commits to may not.
  await ts.untilEpoch(group, (await rs.do('info', { group })).epoch);
  await ts.invite(group, LATE);
  await late.event('joined', { group });
  await settled([OWN, RS, TS, LATE]);
  await heard(late, [own, rs, ts, late], 'after ts-mls took me in');
  await heard(rs, [own, rs, ts, late], 'and we are four');
});

test('T9: a ReInit of mls-rs to another suite is refused, and the epoch is what it was', async () => {
  const { epoch } = await own.do('info', { group });
  await assert.rejects(rs.do('reinit', { group }), /REINIT_FORBIDDEN/);
  assert.equal((await own.do('info', { group })).epoch, epoch);
  await rs.do('update', { group });
  await own.do('wait', { group, members: [OWN, RS, TS, LATE] });
  await heard(rs, [own, rs, ts, late], 'the group goes on');
});

test('who is removed, by whichever of them, is out', async () => {
  await rs.do('remove', { group, name: LATE });
  await settled([OWN, RS, TS]);
  await late.do('out', { group });
  await ts.remove(group, RS);
  await settled([OWN, TS]);
  await rs.do('out', { group });
  await heard(ts, [own, ts], 'two of us');
  await rs.event('unreadable', { topic: TOPIC, source: TS });
  await own.do('remove', { group, name: TS });
  await ts.untilOut(group);
  await own.do('publish', { group, topic: TOPIC, text: 'alone' });
  await assert.rejects(ts.nextMessage());
});
