// The parts of the page, each drawn from what a data plane said.

import { bytes, clock, duration, make, many, nanos, table } from '/figures.js';

const SVG = 'http://www.w3.org/2000/svg';
const HISTORY = 60;
const LOWEST_NANOS = 100;
const HIGHEST_NANOS = 1e9;

const part = (id) => document.getElementById(id);
const sum = (of, names) => names.reduce((total, name) => total + (of[name] ?? 0), 0);
const PUBLISHED = ['published', 'slim_published', 'agp2025_published'];
const DELIVERED = ['delivered', 'slim_delivered', 'agp2025_delivered'];
const QUEUED = ['queued_bytes', 'slim_queued_bytes', 'agp2025_queued_bytes'];
const isDrop = (name) => /^(slim_|agp2025_)?dropped_/.test(name);
const drops = (of) => sum(of, Object.keys(of).filter(isDrop));

const TILES = [
  ['Agents', (now) => now.sessions, many],
  ['Connections', (now) => now.connections, many],
  ['Published per second', (now, grown) => grown((of) => sum(of, PUBLISHED)), many],
  ['Delivered per second', (now, grown) => grown((of) => sum(of, DELIVERED)), many],
  ['Requests per second', (now, grown) => grown((of) => of.received_request ?? 0), many],
  ['Waiting in queues', (now) => sum(now, QUEUED), bytes],
  ['Dropped per second', (now, grown) => grown(drops), many, true],
];

const histories = TILES.map(() => []);

export function forgetHistory() {
  histories.forEach((history) => { history.length = 0; });
}

function sparkline(history) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${HISTORY - 1} 30`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  const top = Math.max(...history, 1e-9);
  const from = HISTORY - history.length;
  const line = document.createElementNS(SVG, 'polyline');
  line.setAttribute('points', history.map((value, at) => `${from + at},${(28 - 26 * (value / top)).toFixed(1)}`).join(' '));
  svg.append(line);
  return svg;
}

export function drawTiles(before, now) {
  const seconds = before ? (now.time_unix_nanos - before.time_unix_nanos) / 1e9 : 0;
  const grown = (of) => (seconds > 0 ? Math.max(0, of(now.total) - of(before.total)) / seconds : 0);
  const tiles = TILES.map(([name, value, figure, alarms], at) => {
    const shown = value(now.total, grown);
    const history = histories[at];
    history.push(shown);
    if (history.length > HISTORY) history.shift();
    const className = alarms && shown > 0 ? 'tile alarm' : 'tile';
    return make('div', { className }, make('div', { className: 'name' }, name), make('div', { className: 'value' }, figure(shown)), sparkline(history));
  });
  part('tiles').replaceChildren(...tiles);
}

function share(className, part) {
  const element = make('span', { className });
  element.style.width = `${(100 * part).toFixed(2)}%`;
  return element;
}

export function drawCores(before, now) {
  const rows = now.cores.map((core) => {
    const earlier = before?.cores.find((one) => one.core === core.core) ?? {};
    const grown = (name) => Math.max(0, (core[name] ?? 0) - (earlier[name] ?? 0));
    const [busy, spin, park] = [grown('busy_nanos'), grown('spin_nanos'), grown('park_nanos')];
    const all = Math.max(busy + spin + park, 1);
    const percent = (value) => `${((100 * value) / all).toFixed(0)} %`;
    const bar = make('div', { className: 'bar', role: 'img', ariaLabel: `work ${percent(busy)}, looking for work ${percent(spin)}, asleep ${percent(park)}` });
    bar.append(share('busy', busy / all), share('spin', spin / all), share('park', park / all));
    const detail = `${many(core.sessions ?? 0)} agents, ${many(core.connections ?? 0)} connections, ${bytes(sum(core, QUEUED))} waiting` +
      (grown('congestions') > 0 ? ', waits for another core' : '');
    return make('div', { className: 'core' },
      make('span', {}, `Core ${core.core}`, make('span', { className: 'dim' }, core.cpu === null ? '' : ` cpu ${core.cpu}`)),
      bar, make('span', { className: 'dim' }, percent(busy)), make('span', { className: 'detail' }, detail));
  });
  part('cores').replaceChildren(...rows);
}

const HOPS = { receive_route: 'received → routed', route_queue: 'routed → queued', queue_wire: 'queued → on the wire', cross_core: 'core → core' };
const place = (value) => {
  const low = Math.log10(LOWEST_NANOS);
  const at = (Math.log10(Math.max(value, LOWEST_NANOS)) - low) / (Math.log10(HIGHEST_NANOS) - low);
  return 100 * Math.min(1, at);
};

function range(hop) {
  const bar = make('span');
  const from = place(hop.p50_nanos);
  bar.style.left = `${from}%`;
  bar.style.width = `${Math.max(0.5, place(hop.p99_nanos) - from)}%`;
  return make('div', { className: 'range', role: 'img', ariaLabel: `median ${nanos(hop.p50_nanos)}, 99th percentile ${nanos(hop.p99_nanos)}` }, bar);
}

export function drawHops(now) {
  const order = Object.keys(HOPS);
  const hops = [...now.hops].sort((one, other) => one.dialect.localeCompare(other.dialect) || one.kind.localeCompare(other.kind) ||
    order.indexOf(one.hop) - order.indexOf(other.hop));
  table(part('hops'), [
    ['Message', (hop) => (hop.dialect === 'agp.v1' ? hop.kind : `${hop.kind} (${hop.dialect})`), 'name'],
    ['Part of its way', (hop) => HOPS[hop.hop] ?? hop.hop, 'dim'],
    ['', range],
    ['p50', (hop) => nanos(hop.p50_nanos), 'number'],
    ['p99', (hop) => nanos(hop.p99_nanos), 'number'],
    ['p99.9', (hop) => nanos(hop.p999_nanos), 'number'],
    ['longest', (hop) => nanos(hop.max_nanos), 'number'],
    ['samples', (hop) => many(hop.count), 'number dim'],
  ], hops, 'Nothing was sampled in the last minute.');
}

export function drawTopics(before, now) {
  const earlier = new Map((before?.topics ?? []).map((topic) => [topic.topic, topic.published]));
  const seconds = before ? (now.time_unix_nanos - before.time_unix_nanos) / 1e9 : 0;
  const rate = (topic) => (seconds > 0 ? Math.max(0, topic.published - (earlier.get(topic.topic) ?? topic.published)) / seconds : 0);
  const topics = now.topics.map((topic) => ({ ...topic, rate: rate(topic) })).sort((one, other) => other.rate - one.rate || other.published - one.published);
  table(part('topics'), [
    ['Topic', (topic) => topic.topic, 'name'],
    ['per second', (topic) => many(topic.rate), 'number'],
    ['published', (topic) => many(topic.published), 'number dim'],
    ['listeners', (topic) => many(topic.subscribers), 'number dim'],
  ], topics.slice(0, 50), 'Nothing was published yet.');
}

export function drawSlow(now) {
  const slow = now.connections.filter((one) => one.queued_bytes > 0 || one.dropped > 0);
  table(part('slow'), [
    ['Agent', (one) => one.name || one.address, 'name'],
    ['waiting', (one) => bytes(one.queued_bytes), 'number'],
    ['dropped', (one) => (one.dropped > 0 ? many(one.dropped) : ''), 'number bad'],
    ['dialect', (one) => one.dialect, 'dim'],
    ['from', (one) => one.address, 'dim'],
  ], slow, 'Everybody reads what is sent to them.');
}

export function drawAgents(now, filter) {
  const wanted = filter.trim().toLowerCase();
  const matches = (agent) => [agent.name, ...agent.capabilities].some((text) => text.toLowerCase().includes(wanted));
  const chips = (agent) => make('span', { className: 'chips' }, ...agent.capabilities.map((name) => make('span', { className: 'chip' }, name)));
  const since = Date.now() / 1000;
  table(part('agents'), [
    ['Name', (agent) => agent.name, 'name'],
    ['Capabilities', chips],
    ['core', (agent) => agent.core, 'number dim'],
    ['working on', (agent) => agent.outstanding, 'number'],
    ['state', (agent) => (agent.draining ? 'leaving' : 'here'), 'dim'],
    ['since', (agent) => duration(Math.max(0, since - agent.since_unix)), 'number dim'],
  ], now.agents.filter(matches), wanted ? 'No agent matches.' : 'Nobody is here.');
}

export function drawConversations(now, chosen, choose) {
  const button = (one) => make('button', { className: 'row', type: 'button', ariaPressed: String(one.conversation === chosen), onclick: () => choose(one.conversation) }, one.conversation);
  table(part('conversations'), [
    ['Conversation', button, 'name'],
    ['messages', (one) => many(Object.values(one.messages).reduce((total, count) => total + count, 0)), 'number'],
    ['agents', (one) => one.agents.length, 'number dim'],
    ['trouble', (one) => one.troubles || '', 'number bad'],
    ['latest', (one) => clock(one.last_unix_nanos), 'number dim'],
  ], now.conversations, 'No message with the header conversation-id or traceparent was seen.');
}

export function drawEvents(events) {
  const latest = [...events].reverse();
  table(part('events'), [
    ['Time', (event) => clock(event.time_unix_nanos), 'dim'],
    ['What', (event) => event.kind, 'name'],
    ['Who', (event) => event.identity, 'name'],
    ['From', (event) => event.address, 'dim'],
    ['Detail', (event) => event.detail, 'name'],
  ], latest, 'None since the data plane started.');
}

export function drawEventCounts(now) {
  const chips = Object.entries(now.security_events).map(([kind, count]) =>
    make('span', { className: count > 0 ? 'chip some' : 'chip' }, `${kind} ${many(count)}`));
  part('event-counts').replaceChildren(...chips);
}
