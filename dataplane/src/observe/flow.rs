//! What is told of single messages: names, kinds, sizes, ids and times, never payload.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use ringgate_gateway::action::{Action, DeliveryPolicy};
use ringgate_gateway::code::Code;
use ringgate_policy::{AgentName, matches};
use serde_json::{Map, Value, json};

/// Events that may wait for the service thread, of each core. It looks every [`LOOK_BUSY`](super::flows::LOOK_BUSY) while somebody
/// watches; a core that follows 10 000 messages a second with four events each writes 2000 in that time.
const EVENTS_MAX: usize = 4096;

/// Kinds of messages of agents. A closed list; metrics use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the messages of the protocol are")]
pub enum Kind {
    Register,
    Subscribe,
    Unsubscribe,
    Publish,
    Request,
    Response,
    StreamOpen,
    Chunk,
    StreamClose,
    StreamCredit,
    Introduce,
    Accept,
    Reject,
    Status,
    Cancel,
    /// Of state spaces.
    State,
    /// Could not be decoded.
    Invalid,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 17] = [
        Kind::Register,
        Kind::Subscribe,
        Kind::Unsubscribe,
        Kind::Publish,
        Kind::Request,
        Kind::Response,
        Kind::StreamOpen,
        Kind::Chunk,
        Kind::StreamClose,
        Kind::StreamCredit,
        Kind::Introduce,
        Kind::Accept,
        Kind::Reject,
        Kind::Status,
        Kind::Cancel,
        Kind::State,
        Kind::Invalid,
    ];

    /// Of a message.
    #[inline]
    pub fn of(action: &Action<'_>) -> Kind {
        match action {
            Action::Publish(_) => Kind::Publish,
            Action::Register(_) => Kind::Register,
            Action::Subscribe(_) => Kind::Subscribe,
            Action::Unsubscribe { .. } => Kind::Unsubscribe,
            Action::Request(_) => Kind::Request,
            Action::Response(_) => Kind::Response,
            Action::StreamOpen(_) => Kind::StreamOpen,
            Action::Chunk(_) => Kind::Chunk,
            Action::StreamClose(_) => Kind::StreamClose,
            Action::StreamCredit { .. } => Kind::StreamCredit,
            Action::Introduce(_) => Kind::Introduce,
            Action::Accept(_) => Kind::Accept,
            Action::Reject(_) => Kind::Reject,
            Action::Status(_) => Kind::Status,
            Action::CancelRequest { .. } | Action::CancelIntroduction { .. } => Kind::Cancel,
            _ => Kind::State,
        }
    }

    /// As metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Subscribe => "subscribe",
            Kind::Unsubscribe => "unsubscribe",
            Kind::Publish => "publish",
            Kind::Request => "request",
            Kind::Response => "response",
            Kind::StreamOpen => "stream_open",
            Kind::Chunk => "chunk",
            Kind::StreamClose => "stream_close",
            Kind::StreamCredit => "stream_credit",
            Kind::Introduce => "introduce",
            Kind::Accept => "accept",
            Kind::Reject => "reject",
            Kind::Status => "status",
            Kind::Cancel => "cancel",
            Kind::State => "state",
            Kind::Invalid => "invalid",
        }
    }
}

/// A message that is followed: what all events about it share.
#[derive(Debug)]
pub struct Subject {
    /// Unique in the node: the core in the highest 16 bits, and a count.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The dialect it came in.
    pub dialect: &'static str,
    /// Who sent it.
    pub source: Option<AgentName>,
    /// Its topic, or whom it is for; empty where it says nothing.
    pub about: Box<str>,
    /// Its number, as the sender says: a request's id, a stream's number, a publish's id.
    pub number: u64,
    /// Its length, headers and payload included.
    pub bytes: u32,
    /// The conversation it belongs to.
    pub conversation: Option<Arc<str>>,
    /// The trace it belongs to, as its header says.
    pub trace: Option<Arc<str>>,
    /// The message that it goes on with: a response with its request, a chunk with its stream.
    pub follows: Option<u64>,
    /// Whether a tap or a conversation wants to hear of it. Otherwise it is only timed.
    pub told: bool,
    /// Whether its times go into the histograms.
    pub timed: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It arrived, and it was decided where it goes.
    Received,
    /// It reached another core.
    Crossed,
    /// It waits for a receiver.
    Queued {
        /// Of this subscription; 0: it is not of one.
        subscription: u64,
    },
    /// Its last byte was handed to a send to the receiver; or it gave way, where messages were dropped meanwhile.
    Written {
        /// How many messages the receiver lost while it waited.
        dropped_meanwhile: u64,
    },
    /// Messages for the receiver gave way.
    Dropped {
        /// Of which subscription.
        subscription: u64,
        /// By which policy.
        policy: DeliveryPolicy,
        /// How many.
        messages: u64,
        /// Whether this message is among them.
        this: bool,
    },
    /// It is held until the receiver has room.
    Held {
        /// For this subscription.
        subscription: u64,
    },
    /// An agent was told an error about it.
    Refused {
        /// Which.
        code: Code,
    },
    /// There were more receivers than are told of.
    More {
        /// How many more.
        receivers: u32,
    },
}

impl Stage {
    /// As it is told.
    pub fn name(&self) -> &'static str {
        match self {
            Stage::Received => "received",
            Stage::Crossed => "crossed",
            Stage::Queued { .. } => "queued",
            Stage::Written { .. } => "written",
            Stage::Dropped { .. } => "dropped",
            Stage::Held { .. } => "held",
            Stage::Refused { .. } => "refused",
            Stage::More { .. } => "more",
        }
    }
}

/// One thing that happened to a message that is followed.
#[derive(Debug, Clone)]
pub struct FlowEvent {
    /// Which message.
    pub subject: Arc<Subject>,
    /// What happened.
    pub stage: Stage,
    /// Where.
    pub core: u16,
    /// When, since 1970.
    pub unix_nanos: u64,
    /// Time since what happened to it before: how long it took, or waited.
    pub nanos: u64,
    /// Whom it is for.
    pub receiver: Option<AgentName>,
}

/// Name of a delivery policy, as metrics write the reason of a drop.
pub fn reason(policy: DeliveryPolicy) -> &'static str {
    match policy {
        DeliveryPolicy::DropOldest => "drop_oldest",
        DeliveryPolicy::DropNewest => "drop_newest",
        DeliveryPolicy::Latest => "latest",
        DeliveryPolicy::Disconnect => "disconnect",
        DeliveryPolicy::Block => "block",
    }
}

impl FlowEvent {
    /// The conversation, or else the trace, by which the event is filed.
    pub fn thread(&self) -> Option<&str> {
        let subject = &self.subject;
        let trace = || subject.trace.as_deref().and_then(|trace| trace.get(3..35));
        subject.conversation.as_deref().or_else(trace)
    }

    /// As it is told.
    pub fn to_json(&self) -> Value {
        let subject = &*self.subject;
        let mut json = Map::new();
        let mut put = |key: &str, value: Value| _ = json.insert(key.to_owned(), value);
        put("time_unix_nanos", self.unix_nanos.into());
        put("stage", self.stage.name().into());
        put("message", message_id(subject.id).into());
        put("kind", subject.kind.name().into());
        put("dialect", subject.dialect.into());
        put("core", self.core.into());
        put("nanos", self.nanos.into());
        put("bytes", subject.bytes.into());
        let text = |name: &Option<AgentName>| name.as_ref().map(|name| Value::from(name.as_str()));
        if let Some(source) = text(&subject.source) {
            put("source", source);
        }
        if let Some(receiver) = text(&self.receiver) {
            put("receiver", receiver);
        }
        if !subject.about.is_empty() {
            put("about", (*subject.about).into());
        }
        if subject.number != 0 {
            put("number", subject.number.into());
        }
        if let Some(conversation) = &subject.conversation {
            put("conversation", (**conversation).into());
        }
        if let Some(trace) = &subject.trace {
            put("traceparent", (**trace).into());
        }
        if let Some(follows) = subject.follows {
            put("follows", message_id(follows).into());
        }
        match &self.stage {
            Stage::Queued { subscription } | Stage::Held { subscription } if *subscription != 0 => {
                put("subscription", (*subscription).into());
            }
            Stage::Dropped {
                subscription,
                policy,
                messages,
                this,
            } => {
                put("subscription", (*subscription).into());
                put("reason", reason(*policy).into());
                put("messages", (*messages).into());
                put("this", (*this).into());
            }
            Stage::Written { dropped_meanwhile } if *dropped_meanwhile > 0 => {
                put("dropped_meanwhile", (*dropped_meanwhile).into());
            }
            Stage::Refused { code } => put("code", format!("{code:?}").into()),
            Stage::More { receivers } => put("receivers", (*receivers).into()),
            _ => {}
        }
        Value::Object(json)
    }
}

fn message_id(id: u64) -> String {
    let mut text = String::with_capacity(16);
    let _ = write!(text, "{}-{}", id >> 48, id & ((1 << 48) - 1));
    text
}

/// What a tap wants to see. What is empty allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A pattern that the sender's or receiver's name matches.
    pub agent: String,
    /// A pattern that the topic, or whom it is for, matches.
    pub topic: String,
    /// The conversation, or trace id.
    pub conversation: String,
    /// One message in so many.
    pub one_in: u32,
}

impl Filter {
    /// Whether a message may be wanted, by what is known before it is routed. `name` and `about` as in [`Subject`].
    pub fn may_want(&self, about: &str, thread: Option<&str>, count: u64) -> bool {
        (self.topic.is_empty() || matches(&self.topic, about))
            && (self.conversation.is_empty() || thread == Some(&self.conversation))
            && count.is_multiple_of(u64::from(self.one_in.max(1)))
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &FlowEvent) -> bool {
        let named = |name: &Option<AgentName>| {
            name.as_ref()
                .is_some_and(|name| matches(&self.agent, name.as_str()))
        };
        let subject = &event.subject;
        let count = subject.id & ((1 << 48) - 1);
        self.may_want(&subject.about, event.thread(), count)
            && (self.agent.is_empty() || named(&subject.source) || named(&event.receiver))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"agent": self.agent, "topic": self.topic, "conversation": self.conversation, "one_in": self.one_in})
    }
}

/// What all taps together want to see, given to each core.
#[derive(Debug, Default)]
pub struct Watch {
    /// One for each tap.
    pub filters: Vec<Filter>,
}

impl Watch {
    /// Whether one of the taps may want a message.
    pub fn may_want(&self, about: &str, thread: Option<&str>, count: u64) -> bool {
        self.filters
            .iter()
            .any(|filter| filter.may_want(about, thread, count))
    }
}

/// What was not told, of all cores together.
#[derive(Debug, Default)]
pub struct FlowCounts {
    /// Messages that were not followed because too many were.
    pub skipped: AtomicU64,
    /// Events that found no room.
    pub lost: AtomicU64,
}

/// Where cores get their way to the service thread.
#[derive(Debug, Clone)]
pub struct FlowSource {
    consumers: Sender<rtrb::Consumer<FlowEvent>>,
    counts: Arc<FlowCounts>,
}

/// One core's way to the service thread. Telling never waits, and takes no lock.
#[derive(Debug)]
pub struct FlowSender {
    events: rtrb::Producer<FlowEvent>,
    counts: Arc<FlowCounts>,
}

/// The service thread's end: the cores' rings as they come.
#[derive(Debug)]
pub struct FlowInput {
    pub(super) consumers: Receiver<rtrb::Consumer<FlowEvent>>,
    pub(super) counts: Arc<FlowCounts>,
}

/// The two ends of that way.
pub fn flows() -> (FlowSource, FlowInput) {
    let (sender, consumers) = channel();
    let counts = Arc::new(FlowCounts::default());
    let source = FlowSource {
        consumers: sender,
        counts: counts.clone(),
    };
    (source, FlowInput { consumers, counts })
}

impl FlowSource {
    /// The way of one core.
    pub fn open(&self) -> FlowSender {
        let (events, consumer) = rtrb::RingBuffer::new(EVENTS_MAX);
        // Nobody listens where there is no service thread, as in tests.
        let _ = self.consumers.send(consumer);
        FlowSender {
            events,
            counts: self.counts.clone(),
        }
    }
}

impl FlowSender {
    /// Tells of an event, or counts it as lost.
    pub fn tell(&mut self, event: FlowEvent) {
        if self.events.push(event).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a message that was not followed.
    pub fn skip(&self) {
        self.counts.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str, receiver: Option<&str>, about: &str) -> FlowEvent {
        let name = |name: &str| AgentName::new(name).expect("a name");
        let subject = Subject {
            id: 3 << 48 | 8,
            kind: Kind::Publish,
            dialect: "agp.v1",
            source: Some(name(source)),
            about: about.into(),
            number: 0,
            bytes: 7,
            conversation: Some("c".into()),
            trace: None,
            follows: None,
            told: true,
            timed: false,
        };
        FlowEvent {
            subject: Arc::new(subject),
            stage: Stage::Written { dropped_meanwhile: 0 },
            core: 3,
            unix_nanos: 5,
            nanos: 6,
            receiver: receiver.map(name),
        }
    }

    #[test]
    fn a_filter_takes_what_all_of_it_matches() {
        let told = event("a/b/c/1", Some("a/b/d/1"), "news/today");
        let filter = |agent: &str, topic: &str, conversation: &str, one_in| Filter {
            agent: agent.to_owned(),
            topic: topic.to_owned(),
            conversation: conversation.to_owned(),
            one_in,
        };
        for good in [
            ("", "", "", 1),
            ("a/b/d/*", "", "", 1),
            ("a/b/c/1", "news/*", "c", 1),
            ("", "", "", 4),
        ] {
            assert!(filter(good.0, good.1, good.2, good.3).wants(&told), "{good:?}");
        }
        for bad in [
            ("a/b/e/*", "", "", 1),
            ("", "other", "", 1),
            ("", "", "d", 1),
            ("", "", "", 3),
        ] {
            assert!(!filter(bad.0, bad.1, bad.2, bad.3).wants(&told), "{bad:?}");
        }
    }

    #[test]
    fn an_event_says_who_and_how_long() {
        let json = event("a/b/c/1", Some("a/b/d/1"), "t").to_json();
        assert_eq!(json["message"], "3-8");
        assert_eq!(
            (&json["source"], &json["receiver"]),
            (&json!("a/b/c/1"), &json!("a/b/d/1"))
        );
        assert_eq!((&json["nanos"], json.get("dropped_meanwhile")), (&json!(6), None));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (source, input) = flows();
        let mut sender = source.open();
        for _ in 0..EVENTS_MAX + 2 {
            sender.tell(event("a/b/c/1", None, "t"));
        }
        assert_eq!(input.counts.lost.load(Ordering::Relaxed), 2);
    }
}
