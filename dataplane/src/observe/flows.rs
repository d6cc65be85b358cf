//! The service thread's side of followed messages: files them by conversation, and passes them to taps and to the exporter of traces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringgate_config::ObserveConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::conversations::Conversations;
use super::flow::{Filter, FlowCounts, FlowEvent, FlowInput, Watch};
use super::inbox::{Command, CommandSender, Order};

/// How often the cores' rings are looked at while somebody watches.
pub(super) const LOOK_BUSY: Duration = Duration::from_millis(50);
/// How often otherwise. A ring holds what a core tells in a tenth of a second at its highest rate; beyond, events are counted as lost.
const LOOK_IDLE: Duration = Duration::from_millis(100);
/// Taps at once: each is asked about every event.
const TAPS_MAX: usize = 8;
/// Events that may wait for the client of a tap.
const TAP_EVENTS_MAX: usize = 1024;
/// Events that are taken from one ring before the next has its turn.
const DRAIN_MAX: usize = 8192;

/// See the module.
#[derive(Debug)]
pub struct Flows {
    state: Mutex<State>,
    counts: Arc<FlowCounts>,
    cores: Vec<CommandSender>,
    watchers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    input: FlowInput,
    rings: Vec<rtrb::Consumer<FlowEvent>>,
    conversations: Conversations,
    taps: Vec<Tap>,
    next_tap: u64,
    traces: Option<mpsc::Sender<FlowEvent>>,
}

#[derive(Debug)]
struct Tap {
    number: u64,
    filter: Filter,
    events: mpsc::Sender<Told>,
    lost: u64,
}

/// What a tap tells its client.
#[derive(Debug)]
pub enum Told {
    /// An event.
    Event(FlowEvent),
    /// So many events found no room before the next one.
    Lost(u64),
}

/// An open tap; it ends when this is dropped.
#[derive(Debug)]
pub struct TapHandle {
    flows: Arc<Flows>,
    number: u64,
    /// What it tells.
    pub events: mpsc::Receiver<Told>,
}

impl Drop for TapHandle {
    fn drop(&mut self) {
        self.flows.close(self.number);
    }
}

impl Flows {
    /// The service thread's side of `input`, over the cores that are told what to look for.
    pub fn new(input: FlowInput, cores: Vec<CommandSender>, config: &ObserveConfig) -> Arc<Flows> {
        let counts = input.counts.clone();
        let state = State {
            input,
            rings: Vec::new(),
            conversations: Conversations::new(config.conversations_max, config.conversation_events_max),
            taps: Vec::new(),
            next_tap: 0,
            traces: None,
        };
        Arc::new(Flows {
            state: Mutex::new(state),
            counts,
            cores,
            watchers: AtomicUsize::new(0),
        })
    }

    /// Looks at the rings until dropped.
    pub async fn run(self: Arc<Flows>) {
        loop {
            let pause = match self.watchers.load(Ordering::Relaxed) {
                0 => LOOK_IDLE,
                _ => LOOK_BUSY,
            };
            tokio::time::sleep(pause).await;
            self.drain();
        }
    }

    /// Events of traces go there too.
    pub fn export_to(&self, traces: mpsc::Sender<FlowEvent>) {
        self.state().traces = Some(traces);
    }

    /// What was not told, for metrics.
    pub fn counts(&self) -> &FlowCounts {
        &self.counts
    }

    /// Takes what the cores have told.
    pub fn drain(&self) {
        self.state().drain();
    }

    /// The latest conversations.
    pub fn conversations(&self, skip: usize, most: usize) -> Value {
        let mut state = self.state();
        state.drain();
        let mut list = state.conversations.list(skip, most);
        list["messages_not_followed"] = self.counts.skipped.load(Ordering::Relaxed).into();
        list["events_lost"] = self.counts.lost.load(Ordering::Relaxed).into();
        list
    }

    /// One conversation.
    pub fn conversation(&self, name: &str) -> Option<Value> {
        let mut state = self.state();
        state.drain();
        state.conversations.get(name)
    }

    /// Opens a tap; `None` when there are too many.
    pub fn tap(self: &Arc<Flows>, filter: Filter) -> Option<TapHandle> {
        let mut state = self.state();
        if state.taps.len() >= TAPS_MAX {
            return None;
        }
        let (events, receiver) = mpsc::channel(TAP_EVENTS_MAX);
        state.next_tap += 1;
        let number = state.next_tap;
        state.taps.push(Tap {
            number,
            filter,
            events,
            lost: 0,
        });
        self.tell_cores(&state);
        Some(TapHandle {
            flows: self.clone(),
            number,
            events: receiver,
        })
    }

    /// What the open taps look for.
    pub fn taps(&self) -> Value {
        let state = self.state();
        state.taps.iter().map(|tap| tap.filter.to_json()).collect()
    }

    fn close(&self, number: u64) {
        let mut state = self.state();
        state.taps.retain(|tap| tap.number != number);
        self.tell_cores(&state);
    }

    fn tell_cores(&self, state: &State) {
        self.watchers.store(state.taps.len(), Ordering::Relaxed);
        let watch = Arc::new(Watch {
            filters: state.taps.iter().map(|tap| tap.filter.clone()).collect(),
        });
        for core in &self.cores {
            core.send(Command::Order(Order::Watch(watch.clone())));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change is left half-made by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drain(&mut self) {
        self.rings.extend(self.input.consumers.try_iter());
        let mut events = Vec::new();
        // Twice: what a message did on another core may be seen before its arrival, which was told meanwhile in a ring already looked at.
        for _ in 0..2 {
            for ring in &mut self.rings {
                let told = std::iter::from_fn(|| ring.pop().ok());
                events.extend(told.take(DRAIN_MAX));
            }
        }
        events.sort_by_key(|event| event.unix_nanos);
        events.into_iter().for_each(|event| self.take(event));
    }

    fn take(&mut self, event: FlowEvent) {
        if let Some(name) = event.thread() {
            self.conversations.note(name, &event);
        }
        for tap in &mut self.taps {
            if tap.filter.wants(&event) {
                tap.tell(&event);
            }
        }
        if let Some(traces) = &self.traces
            && event.subject.trace.is_some()
        {
            // The exporter counts what it could not take by what it gets.
            let _ = traces.try_send(event);
        }
    }
}

impl Tap {
    fn tell(&mut self, event: &FlowEvent) {
        if self.lost > 0 && self.events.try_send(Told::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        if self.lost > 0 || self.events.try_send(Told::Event(event.clone())).is_err() {
            self.lost += 1;
        }
    }
}

impl Told {
    /// As it is told.
    pub fn to_json(&self) -> Value {
        match self {
            Told::Event(event) => event.to_json(),
            Told::Lost(events) => json!({"stage": "lost", "events": events}),
        }
    }
}
