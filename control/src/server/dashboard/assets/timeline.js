// A conversation: each message once, in the order of arrival, with what became of it.

import { clock, make, nanos } from '/figures.js';

const STEPS = {
  crossed: (event) => `to core ${event.core} in ${nanos(event.nanos)}`,
  queued: (event) => `queued for ${event.receiver} after ${nanos(event.nanos)}`,
  written: (event) => `on the wire to ${event.receiver} after waiting ${nanos(event.nanos)}` +
    (event.dropped_meanwhile ? `, unless it gave way: ${event.dropped_meanwhile} messages were dropped meanwhile` : ''),
  held: (event) => `held: the queue of ${event.receiver} is full`,
  dropped: (event) => `${event.this ? 'lost' : 'older messages lost'} for ${event.receiver} (${event.messages}, ${event.reason})`,
  refused: (event) => `${event.receiver ?? 'the sender'} was told ${event.code}`,
  more: (event) => `${event.receivers} further receivers`,
};
const isTrouble = (event) => event.stage === 'dropped' || event.stage === 'refused';

function grouped(events) {
  const messages = new Map();
  for (const event of events) {
    if (!messages.has(event.message)) messages.set(event.message, []);
    messages.get(event.message).push(event);
  }
  return [...messages.values()];
}

// Where a message was, drawn over the time of the whole conversation.
function track(events, first, span) {
  const bar = make('div', { className: 'track', role: 'presentation' });
  const piece = (className, from, to) => {
    const element = make('span', { className });
    element.style.left = `${(100 * (from - first)) / span}%`;
    element.style.width = `${(100 * Math.max(0, to - from)) / span}%`;
    bar.append(element);
  };
  for (const event of events) {
    const at = event.time_unix_nanos;
    if (event.stage === 'received') piece('route', at - event.nanos, at);
    else if (event.stage === 'written') piece('wait', at - event.nanos, at);
    else if (event.stage === 'queued' || event.stage === 'crossed') piece('route', at - event.nanos, at);
    else if (isTrouble(event)) piece('trouble', at, at);
  }
  return bar;
}

// What a message goes on with, and how long after it.
function goesOn(begin, starts) {
  if (!begin.follows) return '';
  const start = starts.get(begin.follows);
  const after = start === undefined ? '' : `, after ${nanos(Math.max(0, begin.time_unix_nanos - start))}`;
  return ` ${begin.kind === 'response' ? 'answers' : 'goes on with'} ${begin.follows}${after}`;
}

function drawMessage(events, first, span, starts) {
  const [begin] = events;
  const to = begin.about || [...new Set(events.map((event) => event.receiver).filter(Boolean))].join(', ');
  const steps = events.filter((event) => event.stage in STEPS).map((event) =>
    make('li', { className: isTrouble(event) ? 'bad' : '' }, STEPS[event.stage](event)));
  return make('div', { className: 'message' },
    make('span', { className: 'at' }, `+${nanos(Math.max(0, begin.time_unix_nanos - first))}`),
    make('span', { className: 'who' }, make('span', { className: 'kind' }, begin.kind), ` ${begin.source ?? ''} → ${to}`,
      make('span', { className: 'dim' }, ` ${begin.bytes} B · ${begin.message}${goesOn(begin, starts)}`)),
    track(events, first, span),
    make('ul', { className: 'steps' }, ...steps));
}

export function drawTimeline(into, conversation) {
  const first = conversation.first_unix_nanos;
  const span = Math.max(1, conversation.last_unix_nanos - first);
  const messages = grouped(conversation.events);
  const starts = new Map(messages.map(([begin]) => [begin.message, begin.time_unix_nanos]));
  const title = `${conversation.conversation}: ${messages.length} messages between ${conversation.agents.length} agents, from ${clock(first)}, in ${nanos(span)}` +
    (conversation.left_out > 0 ? `; the first ${conversation.left_out} events are no longer remembered` : '');
  const [top, left] = [into.scrollTop, into.scrollLeft];
  into.replaceChildren(make('p', { className: 'dim' }, title), ...messages.map((events) => drawMessage(events, first, span, starts)));
  into.scrollTop = top;
  into.scrollLeft = left;
}
