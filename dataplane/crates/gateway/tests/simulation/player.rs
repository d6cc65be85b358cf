//! One agent: what it knows of its session, and what it checks of what it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringgate_gateway::SessionId;
use ringgate_gateway::code::Code;
use ringgate_gateway::outgoing::StateChange;

use crate::support::Said;

/// The subscription to its mailbox, made first.
pub(crate) const MAILBOX: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Offline,
    Registering,
    Active,
    /// The gateway ends the stream.
    Ending,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) core: usize,
    pub(crate) session: SessionId,
    pub(crate) token: Vec<u8>,
    /// Bytes pulled that are no whole message yet.
    pub(crate) stream: Vec<u8>,
    pub(crate) paused: bool,
    pub(crate) stalled: bool,
    pub(crate) next_id: u64,
    pub(crate) subscriptions: BTreeSet<u64>,
    pub(crate) requests: BTreeSet<u64>,
    pub(crate) to_answer: Vec<u64>,
    pub(crate) streams: BTreeSet<u64>,
    pub(crate) invitations: Vec<u64>,
    pub(crate) introductions: BTreeSet<u64>,
    pub(crate) channels: Vec<String>,
    pub(crate) asks: BTreeSet<u64>,
    pub(crate) watches: BTreeMap<u64, Watching>,
    pub(crate) mailbox: Mailbox,
    /// Its one subscription to topics that keep messages.
    pub(crate) late: Option<Late>,
    /// One that was not acknowledged when its stream was lost: it may be there or not.
    pub(crate) doubtful: Option<u64>,
    /// The last sequence heard of each publisher's stream, group messages apart.
    heard: HashMap<(String, u64, bool), u64>,
    pub(crate) resumed: u64,
}

/// Books of what was published to an agent's mailbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) acknowledged: bool,
    pub(crate) subscribed: bool,
    /// Published since the acknowledgement: must be received or told lost.
    pub(crate) must: u64,
    /// Published between Subscribe and the acknowledgement: may be.
    pub(crate) may: u64,
    pub(crate) received: u64,
    pub(crate) dropped: u64,
}

/// What was heard by a subscription to topics that keep messages.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) id: u64,
    pub(crate) pattern: &'static str,
    /// It wants the last message of each topic only.
    pub(crate) latest: bool,
    pub(crate) acknowledged: bool,
    /// Messages that were published when it heard that it was acknowledged.
    pub(crate) mark: u64,
    pub(crate) lost: u64,
    /// Numbers of messages, by topic and publisher's stream, in the order in which they were heard.
    pub(crate) heard: HashMap<(String, String, u64), Vec<u64>>,
}

impl Late {
    pub(crate) fn new(id: u64, pattern: &'static str, latest: bool) -> Self {
        Self {
            id,
            pattern,
            latest,
            acknowledged: false,
            mark: 0,
            lost: 0,
            heard: HashMap::new(),
        }
    }
}

/// Something for the world to know.
pub(crate) enum News {
    GroupMessage(String),
    Registered,
    LateAcknowledged,
}

impl Player {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            state: State::Offline,
            core: 0,
            session: SessionId::from_bits(0),
            token: Vec::new(),
            stream: Vec::new(),
            paused: false,
            stalled: false,
            next_id: 100,
            subscriptions: BTreeSet::new(),
            requests: BTreeSet::new(),
            to_answer: Vec::new(),
            streams: BTreeSet::new(),
            invitations: Vec::new(),
            introductions: BTreeSet::new(),
            channels: Vec::new(),
            asks: BTreeSet::new(),
            watches: BTreeMap::new(),
            mailbox: Mailbox::default(),
            late: None,
            doubtful: None,
            heard: HashMap::new(),
            resumed: 0,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    pub(crate) fn mailbox_topic(&self) -> String {
        format!("mail/{}", self.name.replace('/', "."))
    }

    /// The stream is gone: so is all but subscriptions and what waits for them.
    pub(crate) fn forget_calls(&mut self) {
        self.stream.clear();
        self.requests.clear();
        self.to_answer.clear();
        self.streams.clear();
        self.invitations.clear();
        self.introductions.clear();
        self.channels.clear();
        self.asks.clear();
        self.watches.clear();
        self.paused = false;
        if let Some(late) = self.late.take_if(|late| !late.acknowledged) {
            self.doubtful = Some(late.id);
        }
    }

    /// The session is another.
    fn forget_all(&mut self) {
        self.forget_calls();
        self.subscriptions.clear();
        self.mailbox = Mailbox::default();
        (self.late, self.doubtful) = (None, None);
        self.heard.clear();
    }

    /// Takes what it was told; panics where the gateway broke its word.
    pub(crate) fn hear(&mut self, said: Said) -> Option<News> {
        match said {
            Said::Registered { token, resumed, .. } => {
                assert_eq!(
                    self.state,
                    State::Registering,
                    "{} was registered twice",
                    self.name
                );
                self.state = State::Active;
                if !resumed {
                    self.forget_all();
                }
                self.resumed += u64::from(resumed);
                self.token = token;
                return Some(News::Registered);
            }
            Said::Notify {
                body,
                source,
                sequence,
            } => return self.notified(&body, source, sequence),
            Said::Gap {
                subscription,
                dropped,
                ..
            } => {
                assert!(dropped > 0, "an empty Gap");
                if let Some(watch) = self.watches.get_mut(&subscription) {
                    // A snapshot follows.
                    watch.from = None;
                    watch.ended = false;
                }
                if subscription == MAILBOX {
                    self.mailbox.dropped += dropped;
                }
                if let Some(late) = self.late.as_mut().filter(|late| late.id == subscription) {
                    late.lost += dropped;
                }
            }
            Said::Ack { id: MAILBOX, .. } => self.mailbox.acknowledged = true,
            Said::Ack { id, .. } if self.late.as_ref().is_some_and(|late| late.id == id) => {
                if let Some(late) = &mut self.late {
                    assert!(!std::mem::replace(&mut late.acknowledged, true));
                }
                return Some(News::LateAcknowledged);
            }
            Said::Error { id: 0, .. } => {}
            Said::Error {
                id, code, message, ..
            } => self.refused(id, code, &message),
            Said::Deliver { id, .. } => assert!(self.requests.remove(&id), "{}: {id} ended twice", self.name),
            Said::Forward { request, .. } => self.to_answer.push(request),
            Said::CancelRequest { request } => self.to_answer.retain(|&known| known != request),
            Said::StreamOpen { stream, .. } => {
                assert_eq!(stream % 2, 0);
                self.streams.insert(stream);
            }
            Said::StreamClose { stream } | Said::StreamEnded { stream, .. } => {
                self.streams.remove(&stream);
            }
            Said::Introduce { introduction, .. } => self.invitations.push(introduction),
            Said::Connected { id, channel, .. } => {
                assert!(
                    id == 0 || self.introductions.remove(&id),
                    "introduction {id} ended twice"
                );
                self.channels.push(channel);
            }
            Said::Rejected { id } => assert!(self.introductions.remove(&id), "introduction {id} ended twice"),
            Said::CancelIntroduction { introduction } => {
                self.invitations.retain(|&known| known != introduction)
            }
            Said::Value { id, .. } | Said::Done { id, .. } if self.asks.remove(&id) => {}
            Said::Done { id, revision } => {
                // It may have been unwatched meanwhile.
                if let Some(watch) = self.watches.get_mut(&id) {
                    assert!(!std::mem::replace(&mut watch.begun, true) && watch.revision <= revision);
                }
            }
            Said::Value { id, .. } => panic!("{}: nobody asked for {id}", self.name),
            Said::Event {
                id, revision, change, ..
            } => {
                // One that was unwatched may still have had some on their way.
                if let Some(watch) = self.watches.get_mut(&id) {
                    assert!(watch.begun);
                    watch.heard(revision, change);
                }
            }
            Said::Ack { .. } | Said::Chunk { .. } | Said::StreamCredit { .. } | Said::Drain => {}
        }
        None
    }

    fn notified(&mut self, body: &[u8], source: String, sequence: u64) -> Option<News> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_end();
        let (topic, rest) = text.split_once(' ').expect("a topic and the publisher's stream");
        let stream = rest
            .split(' ')
            .next()
            .and_then(|stream| stream.parse().ok())
            .expect("a number");
        if topic.starts_with("kept/") {
            // Before the Ack they are of an earlier subscription.
            if let Some(late) = self.late.as_mut().filter(|late| late.acknowledged) {
                let number = rest.split(' ').nth(1).and_then(|number| number.parse().ok());
                let heard = late.heard.entry((topic.to_owned(), source, stream)).or_default();
                heard.push(number.expect("a number"));
                assert!(
                    heard.is_sorted_by(|a, b| a < b),
                    "{}: {topic}: {heard:?}",
                    self.name
                );
            }
            return None;
        }
        let grouped = topic.starts_with("group/");
        let heard = self.heard.entry((source.clone(), stream, grouped)).or_default();
        assert!(
            *heard < sequence || grouped && self.resumed > 0,
            "{}: {source} {sequence} after {heard}",
            self.name
        );
        *heard = sequence;
        if topic == self.mailbox_topic() {
            self.mailbox.received += 1;
        }
        grouped.then(|| News::GroupMessage(text.to_owned()))
    }

    fn refused(&mut self, id: u64, code: Code, message: &str) {
        assert_ne!(code, Code::Internal, "{message}");
        self.requests.remove(&id);
        self.introductions.remove(&id);
        self.streams.remove(&id);
        self.subscriptions.remove(&id);
        self.asks.remove(&id);
        self.watches.remove(&id);
        self.late.take_if(|late| late.id == id);
    }
}

/// A watch, as the agent follows it.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    pub(crate) space: String,
    pub(crate) from: Option<u64>,
    begun: bool,
    /// The snapshot is whole.
    ended: bool,
    pub(crate) revision: u64,
}

impl Watching {
    pub(crate) fn new(space: &str, from: Option<u64>) -> Self {
        Self {
            space: space.to_owned(),
            from,
            ended: from.is_some(),
            ..Self::default()
        }
    }

    fn heard(&mut self, revision: u64, change: StateChange) {
        if self.ended {
            assert_eq!(revision, self.revision + 1, "a watch of everything has no gaps");
            self.revision = revision;
        } else if change == StateChange::SnapshotEnd {
            assert!(revision >= self.revision);
            self.ended = true;
            self.revision = revision;
        }
    }
}
