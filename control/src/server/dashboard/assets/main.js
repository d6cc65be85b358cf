// Asks the control process for what the chosen data plane sees, and draws it.

import * as parts from '/parts.js';
import { make } from '/figures.js';
import { drawTimeline } from '/timeline.js';

const EVERY_MS = 1000;
const EVENTS_MAX = 500;

const part = (id) => document.getElementById(id);
const chosen = { node: null, conversation: null };
let before = {};
let events = [];
let stream = null;
let round = 0;
let agents = { agents: [] };

async function ask(path) {
  const response = await fetch(path, { cache: 'no-store' });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

const page = (name) => ask(`/api/node/${encodeURIComponent(chosen.node)}/${name}`);

function say(text, good) {
  const state = part('state');
  if (state.textContent !== text) state.textContent = text;
  state.className = `state ${good ? 'good' : 'bad'}`;
}

function choose(node) {
  chosen.node = node;
  chosen.conversation = null;
  before = {};
  events = [];
  parts.forgetHistory();
  stream?.close();
  stream = new EventSource(`/api/node/${encodeURIComponent(node)}/events`);
  stream.onmessage = ({ data }) => {
    events.push(JSON.parse(data));
    events = events.slice(-EVENTS_MAX);
    parts.drawEvents(events);
  };
  // It connects again by itself and is then told the past anew.
  stream.onopen = () => { events = []; parts.drawEvents(events); };
}

async function listNodes() {
  const { nodes } = await ask('/api/nodes');
  const select = part('node');
  const names = nodes.map((node) => node.id).join('\n');
  if (select.dataset.names !== names) {
    select.dataset.names = names;
    select.replaceChildren(...nodes.map((node) => make('option', { value: node.id }, node.id)));
    if (chosen.node) select.value = chosen.node;
  }
  if (!nodes.some((node) => node.id === chosen.node)) {
    const first = nodes.find((node) => node.attached) ?? nodes[0];
    if (!first) throw new Error('no data plane has attached yet');
    select.value = first.id;
    choose(first.id);
  }
  const node = nodes.find((one) => one.id === chosen.node);
  if (!node.attached) throw new Error('not attached');
  return node;
}

async function showConversation(id) {
  chosen.conversation = id;
  for (const button of part('conversations').querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button.textContent === id));
  }
  await drawConversation();
}

async function drawConversation() {
  if (chosen.conversation === null) return;
  const conversation = await page(`conversation?id=${encodeURIComponent(chosen.conversation)}`);
  drawTimeline(part('timeline'), conversation);
}

async function look() {
  const node = await listNodes();
  const [cores, connections, topics, conversations] = await Promise.all([
    page('corez'), page('connz?limit=50'), page('topicz?limit=200'), page('conversations?limit=50'),
  ]);
  if (round % 5 === 0) agents = await page('agentz?limit=1000');
  round += 1;
  parts.drawTiles(before.cores, cores);
  parts.drawCores(before.cores, cores);
  parts.drawHops(cores);
  parts.drawTopics(before.topics, topics);
  parts.drawSlow(connections);
  parts.drawAgents(agents, part('agent-filter').value);
  // A button that has the focus keeps it: the list is drawn anew when nobody is in it.
  if (!part('conversations').contains(document.activeElement)) {
    parts.drawConversations(conversations, chosen.conversation, (id) => void showConversation(id));
  }
  parts.drawEventCounts(cores);
  await drawConversation();
  before = { cores, topics };
  const trouble = node.rejected_reason ? `rejected the state: ${node.rejected_reason}` : '';
  say(trouble || (cores.draining ? 'draining' : `attached, version ${node.applied_version}`), !trouble && !cores.draining);
}

async function run() {
  if (!document.hidden) {
    try {
      await look();
    } catch (error) {
      say(error.message || 'the control process does not answer', false);
    }
  }
  setTimeout(run, EVERY_MS);
}

const THEMES = ['system', 'light', 'dark'];
function setTheme(theme) {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  part('theme').textContent = `Theme: ${theme}`;
  localStorage.setItem('theme', theme);
}
setTheme(THEMES.find((theme) => theme === localStorage.getItem('theme')) ?? 'system');
part('theme').addEventListener('click', () => {
  const at = THEMES.indexOf(document.documentElement.dataset.theme ?? 'system');
  setTheme(THEMES[(at + 1) % THEMES.length]);
});
part('node').addEventListener('change', ({ target }) => choose(target.value));
part('agent-filter').addEventListener('input', ({ target }) => parts.drawAgents(agents, target.value));
void run();
