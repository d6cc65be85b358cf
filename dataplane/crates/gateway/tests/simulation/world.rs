//! The node, its agents, and chance.

use std::collections::{HashMap, HashSet};

use ringgate_gateway::action::{
    Accept, Action, Balance, Chunk, Delivery, DeliveryPolicy, Introduce, Publish, Register, Reject, Request,
    Response, StateGet, StateWatch, StateWrite, Status, StreamClose, StreamOpen, Subscribe, Target, To,
};
use ringgate_gateway::code::Code;
use ringgate_gateway::{Closing, Flow};
use ringgate_policy::{Limits, Permission, matches};

use crate::dice::Dice;
use crate::player::{Late, MAILBOX, News, Player, State, Watching};
use crate::support::{Node, topics};
use crate::whims::Whims;

const PLAYERS: usize = 7;
const MEMORY: u64 = 1 << 20;

/// See the module.
pub(crate) struct World {
    node: Node,
    dice: Dice,
    players: Vec<Player>,
    /// Bodies of group messages that were received.
    grouped: HashSet<String>,
    published: u64,
    /// Numbers of the messages to topics that keep messages, by topic, publisher and its stream.
    kept: HashMap<(String, String, u64), Vec<u64>>,
    /// Counts registrations, to tell a publisher's streams apart: a message held for a `BLOCK` subscription may outlive its
    /// publisher's stream, and what the next stream publishes is not held behind it.
    streams: Vec<u64>,
    limits: Limits,
    /// What each core's policy allows; none: everything.
    whims: Vec<Option<Whims>>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            resume_grace_ms: 400,
            block_ms_default: 60,
            request_timeout_ms_default: 200,
            queue_memory_bytes_max: MEMORY,
            control_queue_bytes_max: 64 * 1024,
            run_bytes_max: 1024,
            match_cache_bytes_max: 64 * 1024,
            streams_max: 4,
            requests_in_flight_max: 8,
            state_pending_max: 4,
            state_history_max: 30,
            queue_bytes_default: 2000,
            replay_messages_max: dice.pick(&[3, 1_000_000]),
            replaying_bytes_max: dice.pick(&[2000, 1 << 20]),
            ..Limits::default()
        };
        let cores = 1 + dice.below(3) as u16;
        Self {
            node: Node::with_topics(
                cores,
                limits,
                seed,
                &topics(&["kept/last/*"], &["kept/few/*"], &[]),
            ),
            dice,
            players: (0..PLAYERS)
                .map(|n| Player::new(format!("sim/world/player/{n}")))
                .collect(),
            grouped: HashSet::new(),
            published: 0,
            kept: HashMap::new(),
            streams: vec![0; PLAYERS],
            limits,
            whims: vec![None; usize::from(cores)],
        }
    }

    pub(crate) fn step(&mut self) {
        match self.dice.below(20) {
            0..=6 => {
                let link = self.dice.below(self.node.links.len());
                self.node.carry(link);
            }
            7..=8 => {
                let core = self.dice.below(self.node.cores());
                self.node.turn_end(core);
            }
            9 => {
                let ms = 1 + self.dice.below(15) as u64;
                self.node.advance(ms);
                if self.dice.one_in(12) {
                    let core = self.dice.below(self.node.cores());
                    self.change_policy(core);
                }
            }
            10..=12 => {
                let player = self.dice.below(PLAYERS);
                if !self.players[player].stalled {
                    let most = self.dice.pick(&[1, 7, 100, 4096]);
                    self.read(player, most);
                }
            }
            _ => {
                let player = self.dice.below(PLAYERS);
                self.act(player);
            }
        }
        self.after();
    }

    fn change_policy(&mut self, core: usize) {
        let whims = Whims::new(self.dice.next());
        self.whims[core] = Some(whims);
        let now = self.node.now;
        self.node.gateways[core].reauthorise(Box::new(whims), &now);
    }

    /// Everything that an agent has is allowed by the policy of its core.
    fn check_rights(&self) {
        for player in self.players.iter().filter(|player| player.is_active()) {
            let gateway = &self.node.gateways[player.core];
            assert!(!gateway.is_reviewing());
            let Some(whims) = self.whims[player.core] else {
                continue;
            };
            for subscription in gateway.subscriptions(player.session) {
                let what = Permission::Subscribe(&subscription.pattern);
                assert!(
                    whims.allow(&player.name, what),
                    "{} has {subscription:?}",
                    player.name
                );
            }
            for agent in gateway.own_agents().filter(|agent| agent.name == player.name) {
                for capability in &agent.capabilities {
                    assert!(whims.allow(&player.name, Permission::Declare(capability)));
                }
            }
        }
    }

    /// Notes what the gateway did meanwhile, and what must always hold.
    fn after(&mut self) {
        for (core, session) in std::mem::take(&mut self.node.resumed) {
            for player in &mut self.players {
                if (player.core, player.session) == (core, session) {
                    player.paused = false;
                }
            }
        }
        for (core, session, _) in std::mem::take(&mut self.node.ended) {
            for index in 0..PLAYERS {
                let player = &mut self.players[index];
                if (player.core, player.session) == (core, session) && player.state != State::Offline {
                    player.state = State::Ending;
                }
            }
        }
        for gateway in &self.node.gateways {
            let queued = gateway.stats().queued_bytes;
            assert!(queued <= 3 * MEMORY, "{queued} bytes are queued");
        }
        for player in self.players.iter().filter(|player| player.is_active()) {
            for subscription in self.node.gateways[player.core].subscriptions(player.session) {
                assert!(
                    subscription.queued_bytes <= subscription.queue_bytes_max,
                    "{subscription:?}"
                );
            }
        }
    }

    fn read(&mut self, index: usize, most: usize) {
        let player = &self.players[index];
        if player.state == State::Offline {
            return;
        }
        let (core, session) = (player.core, player.session);
        let Some(bytes) = self.node.pull(core, session, most) else {
            if self.players[index].state == State::Ending && self.node.gateways[core].is_empty(session) {
                self.node.close(core, session, Closing::Orderly);
                self.players[index].state = State::Offline;
                self.players[index].forget_calls();
            }
            return;
        };
        assert!(bytes.len() <= most);
        self.players[index].stream.extend_from_slice(&bytes);
        let mut stream = std::mem::take(&mut self.players[index].stream);
        let said = self.node.parse(&mut stream);
        self.players[index].stream = stream;
        for said in said {
            match self.players[index].hear(said) {
                Some(News::GroupMessage(body)) => {
                    assert!(self.grouped.insert(body.clone()), "{body} came twice");
                }
                Some(News::Registered) => self.streams[index] += 1,
                Some(News::LateAcknowledged) => {
                    let published = self.published;
                    if let Some(late) = &mut self.players[index].late {
                        late.mark = published;
                    }
                }
                None => {}
            }
        }
    }

    fn act(&mut self, index: usize) {
        let player = &self.players[index];
        match player.state {
            State::Offline => {
                if self.dice.one_in(4) {
                    self.connect(index);
                }
            }
            State::Registering | State::Ending => {
                if self.dice.one_in(40) {
                    self.lose(index);
                }
            }
            State::Active if self.dice.one_in(60) => self.lose(index),
            State::Active if self.dice.one_in(150) => self.leave(index),
            State::Active if self.dice.one_in(20) => {
                self.players[index].stalled = !player.stalled;
            }
            State::Active if player.paused => {}
            State::Active if !player.mailbox.subscribed => self.open_mailbox(index),
            State::Active => self.speak(index),
        }
    }

    fn connect(&mut self, index: usize) {
        let core = self.dice.below(self.node.cores());
        let session = self.node.open(core);
        let (name, token) = (
            self.players[index].name.clone(),
            self.players[index].token.clone(),
        );
        let register = Register {
            name: &name,
            capabilities: vec!["play", if index.is_multiple_of(2) { "even" } else { "odd" }],
            resume_token: if self.dice.one_in(5) { &[] } else { &token },
            ..Register::default()
        };
        let player = &mut self.players[index];
        (player.core, player.session, player.state) = (core, session, State::Registering);
        player.stalled = false;
        player.forget_calls();
        let flow = self.node.apply(core, session, Action::Register(register));
        self.players[index].paused = flow == Flow::Pause;
    }

    fn lose(&mut self, index: usize) {
        let player = &mut self.players[index];
        let (core, session) = (player.core, player.session);
        player.forget_calls();
        player.state = State::Offline;
        self.node.close(core, session, Closing::Lost);
    }

    fn leave(&mut self, index: usize) {
        let player = &mut self.players[index];
        player.state = State::Offline;
        player.forget_calls();
        let (core, session) = (player.core, player.session);
        self.node.close(core, session, Closing::Orderly);
    }

    fn say(&mut self, index: usize, action: Action<'_>) {
        let (core, session) = (self.players[index].core, self.players[index].session);
        let flow = self.node.apply(core, session, action);
        self.players[index].paused = flow == Flow::Pause;
        if flow == Flow::Pause {
            // It may have been let go within the call already.
            self.after();
        }
    }

    fn open_mailbox(&mut self, index: usize) {
        let topic = self.players[index].mailbox_topic();
        let queue_bytes = self.dice.pick(&[300, 2000, 20_000]);
        let policy = self
            .dice
            .pick(&[DeliveryPolicy::DropOldest, DeliveryPolicy::DropNewest]);
        let delivery = Delivery {
            policy,
            queue_bytes,
            block_ms: 0,
        };
        self.players[index].mailbox.subscribed = true;
        self.say(
            index,
            Action::Subscribe(Subscribe {
                id: MAILBOX,
                pattern: &topic,
                group: "",
                delivery,
            }),
        );
    }

    fn speak(&mut self, index: usize) {
        match self.dice.below(32) {
            30..=31 => self.come_late(index),
            0..=9 => self.publish(index),
            10 => self.subscribe(index),
            11 => {
                let known: Vec<u64> = self.players[index].subscriptions.iter().copied().collect();
                if !known.is_empty() {
                    let id = known[self.dice.below(known.len())];
                    self.players[index].subscriptions.remove(&id);
                    self.say(index, Action::Unsubscribe { id });
                }
            }
            12..=14 => self.request(index),
            15..=17 => {
                if let Some(request) = self.players[index].to_answer.pop() {
                    self.say(
                        index,
                        Action::Response(Response {
                            request,
                            body: b"answer",
                        }),
                    );
                }
            }
            18 => self.open_stream(index),
            19..=20 => self.use_stream(index),
            21 => self.introduce(index),
            22 => self.answer_introduction(index),
            23..=29 => self.use_state(index),
            _ => {
                let weight = self.dice.below(3) as u32;
                let draining = self.dice.one_in(6);
                self.say(
                    index,
                    Action::Status(Status {
                        outstanding: 0,
                        weight,
                        draining,
                    }),
                );
            }
        }
    }

    fn publish(&mut self, index: usize) {
        let reader = self.dice.below(PLAYERS);
        let topic = match self.dice.below(6) {
            0 => "news/today".to_owned(),
            1 => "group/work".to_owned(),
            2 => self.dice.pick(&["kept/few/a", "kept/few/b"]).to_owned(),
            3 => self.dice.pick(&["kept/last/a", "kept/last/b"]).to_owned(),
            _ => self.players[reader].mailbox_topic(),
        };
        let padding = self.dice.below(60);
        for _ in 0..1 + self.dice.below(4) {
            if !self.players[index].is_active() || self.players[index].paused {
                return;
            }
            self.published += 1;
            let body = format!(
                "{topic} {} {}{:padding$}",
                self.streams[index], self.published, ""
            );
            let id = if self.dice.one_in(6) {
                self.next_id(index)
            } else {
                0
            };
            if topic.starts_with("kept/") {
                let key = (
                    topic.clone(),
                    self.players[index].name.clone(),
                    self.streams[index],
                );
                self.kept.entry(key).or_default().push(self.published);
            }
            if topic.starts_with("mail/") {
                let mailbox = &mut self.players[reader].mailbox;
                match (mailbox.subscribed, mailbox.acknowledged) {
                    (true, true) => mailbox.must += 1,
                    (true, false) => mailbox.may += 1,
                    _ => {}
                }
            }
            self.say(
                index,
                Action::Publish(Publish {
                    topic: &topic,
                    id,
                    body: body.as_bytes(),
                }),
            );
        }
    }

    fn subscribe(&mut self, index: usize) {
        if self.players[index].subscriptions.len() > 6 {
            return;
        }
        let id = self.next_id(index);
        let (pattern, group) = self.dice.pick(&[
            ("news/*", ""),
            ("news/today", ""),
            ("news/**", ""),
            ("group/work", "crew"),
            ("group/*", "crew2"),
        ]);
        let policy = self.dice.pick(&[
            DeliveryPolicy::DropOldest,
            DeliveryPolicy::DropNewest,
            DeliveryPolicy::Latest,
            DeliveryPolicy::Block,
            DeliveryPolicy::Block,
            DeliveryPolicy::Disconnect,
        ]);
        // One message in two groups would come twice by right.
        let (pattern, group) = if group == "crew2" {
            ("group/work", "crew")
        } else {
            (pattern, group)
        };
        let queue_bytes = match policy {
            DeliveryPolicy::Disconnect => 20_000,
            _ => self.dice.pick(&[150, 1000, 0]),
        };
        let delivery = Delivery {
            policy,
            queue_bytes,
            block_ms: 0,
        };
        self.players[index].subscriptions.insert(id);
        self.say(
            index,
            Action::Subscribe(Subscribe {
                id,
                pattern,
                group,
                delivery,
            }),
        );
    }

    /// Subscribes to topics that keep messages, or ends that subscription.
    fn come_late(&mut self, index: usize) {
        if let Some(id) = self.players[index].doubtful.take() {
            return self.say(index, Action::Unsubscribe { id });
        }
        if let Some(late) = self.players[index].late.take_if(|late| late.acknowledged) {
            self.check_late(&late, false);
            return self.say(index, Action::Unsubscribe { id: late.id });
        }
        if self.players[index].late.is_some() {
            return;
        }
        let id = self.next_id(index);
        let pattern = self
            .dice
            .pick(&["kept/**", "kept/few/*", "kept/few/a", "kept/*/a", "kept/last/b"]);
        let policy = self.dice.pick(&[
            DeliveryPolicy::DropOldest,
            DeliveryPolicy::DropNewest,
            DeliveryPolicy::Latest,
            DeliveryPolicy::Block,
        ]);
        let delivery = Delivery {
            policy,
            queue_bytes: self.dice.pick(&[150, 1000, 20_000]),
            block_ms: 0,
        };
        self.players[index].late = Some(Late::new(id, pattern, policy == DeliveryPolicy::Latest));
        let subscribe = Subscribe {
            id,
            pattern,
            group: "",
            delivery,
        };
        self.say(index, Action::Subscribe(subscribe));
    }

    /// What a subscription to topics that keep messages has heard has no gap; `all`: nor at its end.
    fn check_late(&self, late: &Late, all: bool) {
        if late.lost > 0 {
            return;
        }
        for (key, published) in &self.kept {
            let heard = late.heard.get(key).map_or(&[][..], Vec::as_slice);
            if !matches(late.pattern, &key.0) {
                assert!(heard.is_empty());
                continue;
            }
            let Some(first) = heard.first() else {
                let missed = published.last().is_some_and(|&last| last > late.mark);
                assert!(!all || !missed, "{late:?} missed all of {key:?}: {published:?}");
                continue;
            };
            let from = published.partition_point(|number| number < first);
            let wanted = &published[from..];
            let wanted = if all {
                wanted
            } else {
                &wanted[..heard.len().min(wanted.len())]
            };
            assert_eq!(heard, wanted, "{key:?}, which published {published:?}");
            let keeps_all = self.limits.replay_messages_max > 1000 && key.0.starts_with("kept/few/");
            assert!(
                !keeps_all || late.latest || from == 0,
                "{key:?}: {heard:?} of {published:?}"
            );
        }
    }

    fn with_target(&mut self, index: usize, then: impl FnOnce(&mut Self, Target<'_>)) {
        let other = self.dice.below(PLAYERS);
        let (name, channel) = (
            self.players[other].name.clone(),
            self.players[index].channels.last().cloned(),
        );
        let to = match (self.dice.below(4), &channel) {
            (0, Some(channel)) => To::Channel(channel),
            (1, _) => To::Service("sim/world/player"),
            (2, _) => To::Capability(self.dice.pick(&["play", "even", "odd", "none"])),
            _ => To::Agent(&name),
        };
        let balance = self
            .dice
            .pick(&[Balance::RoundRobin, Balance::LeastOutstanding, Balance::Hash]);
        then(
            self,
            Target {
                to,
                balance,
                affinity: "key",
            },
        );
    }

    fn request(&mut self, index: usize) {
        let id = self.next_id(index);
        let cancel = self.dice.one_in(5);
        self.players[index].requests.insert(id);
        self.with_target(index, |world, target| {
            world.say(
                index,
                Action::Request(Request {
                    id,
                    target,
                    timeout_ms: 0,
                    body: b"question",
                }),
            );
        });
        if cancel && self.players[index].is_active() && !self.players[index].paused {
            self.say(index, Action::CancelRequest { id });
        }
    }

    fn open_stream(&mut self, index: usize) {
        let stream = self.next_id(index) | 1;
        if self.players[index].streams.insert(stream) {
            self.with_target(index, |world, target| {
                let open = StreamOpen {
                    stream,
                    target,
                    credit_bytes: 50,
                    body: b"open",
                };
                world.say(index, Action::StreamOpen(open));
            });
        }
    }

    fn use_stream(&mut self, index: usize) {
        let streams: Vec<u64> = self.players[index].streams.iter().copied().collect();
        if streams.is_empty() {
            return;
        }
        let stream = streams[self.dice.below(streams.len())];
        match self.dice.below(4) {
            0 => {
                self.players[index].streams.remove(&stream);
                self.say(index, Action::StreamClose(StreamClose { stream, body: b"" }));
            }
            1 => self.say(index, Action::StreamCredit { stream, bytes: 40 }),
            _ => self.say(
                index,
                Action::Chunk(Chunk {
                    stream,
                    payload_bytes: 10,
                    body: b"0123456789",
                }),
            ),
        }
    }

    fn use_state(&mut self, index: usize) {
        let space = self.dice.pick(&["sim/one", "sim/two", "sim/three"]);
        let key = self.dice.pick(&["a", "b", "c/1", "c/2"]);
        let id = self.next_id(index);
        match self.dice.below(12) {
            0..=5 => {
                let value = vec![b'v'; self.dice.below(80)];
                let write = StateWrite {
                    id,
                    space,
                    key,
                    value: (!self.dice.one_in(4)).then_some(&value[..]),
                    expect: self.dice.one_in(4).then_some(0),
                    ttl_ms: self.dice.pick(&[0, 0, 30]),
                };
                self.players[index].asks.insert(id);
                self.say(index, Action::StateWrite(write));
            }
            6..=8 => {
                self.players[index].asks.insert(id);
                self.say(index, Action::StateGet(StateGet { id, space, key }));
            }
            9..=10 if self.players[index].watches.len() < 3 => {
                let watch = StateWatch {
                    id,
                    space,
                    prefix: "",
                    from: None,
                };
                self.players[index].watches.insert(id, Watching::new(space, None));
                self.say(index, Action::StateWatch(watch));
            }
            _ => {
                if let Some((id, _)) = self.players[index].watches.pop_first() {
                    self.say(index, Action::StateUnwatch { id });
                }
            }
        }
    }

    /// Every watch has come to where its space is.
    fn check_watches(&self) {
        for player in self.players.iter().filter(|player| player.is_active()) {
            assert!(
                player.asks.is_empty(),
                "{}: {:?} never answered",
                player.name,
                player.asks
            );
            for watch in player.watches.values() {
                let revisions = self
                    .node
                    .gateways
                    .iter()
                    .filter_map(|it| it.space_revision(&watch.space));
                let newest = revisions.max().expect("it is watched");
                assert_eq!(
                    watch.revision, newest,
                    "{} is behind in {}",
                    player.name, watch.space
                );
            }
        }
    }

    fn introduce(&mut self, index: usize) {
        let id = self.next_id(index);
        self.players[index].introductions.insert(id);
        self.with_target(index, |world, target| {
            world.say(
                index,
                Action::Introduce(Introduce {
                    id,
                    target,
                    timeout_ms: 100,
                    body: b"hello",
                }),
            );
        });
    }

    fn answer_introduction(&mut self, index: usize) {
        let Some(introduction) = self.players[index].invitations.pop() else {
            return;
        };
        match self.dice.one_in(3) {
            true => self.say(
                index,
                Action::Reject(Reject {
                    introduction,
                    code: Code::Rejected,
                    body: b"",
                }),
            ),
            false => self.say(
                index,
                Action::Accept(Accept {
                    introduction,
                    body: b"welcome",
                }),
            ),
        }
    }

    fn next_id(&mut self, index: usize) -> u64 {
        self.players[index].next_id += 2;
        self.players[index].next_id
    }

    /// Everyone reads, nobody speaks: what is owed comes, and then nothing is left.
    pub(crate) fn finish(&mut self) {
        for _ in 0..40 {
            self.node.settle();
            for index in 0..PLAYERS {
                for _ in 0..2000 {
                    self.read(index, 4096);
                }
            }
            self.node.advance(20);
            self.after();
        }
        for player in &self.players {
            assert_ne!(
                player.state,
                State::Registering,
                "{} was never registered",
                player.name
            );
            assert!(
                !player.paused || !player.is_active(),
                "{} stays paused",
                player.name
            );
            if player.is_active() {
                assert!(
                    player.requests.is_empty(),
                    "{}: {:?} never ended",
                    player.name,
                    player.requests
                );
                assert!(
                    player.introductions.is_empty(),
                    "{}: introductions never ended",
                    player.name
                );
                let mailbox = &player.mailbox;
                let told = mailbox.received + mailbox.dropped;
                let wanted = mailbox.must..=mailbox.must + mailbox.may;
                assert!(
                    wanted.contains(&told),
                    "{}: {told} of {wanted:?} told",
                    player.name
                );
            }
        }
        self.check_rights();
        self.check_watches();
        for player in self.players.iter().filter(|player| player.is_active()) {
            if let Some(late) = &player.late {
                assert!(
                    late.acknowledged,
                    "{} was never acknowledged: {late:?}",
                    player.name
                );
                self.check_late(late, true);
            }
        }
        for index in 0..PLAYERS {
            if self.players[index].is_active() {
                self.leave(index);
            }
        }
        self.node.settle();
        self.node.advance(self.limits.resume_grace_ms);
        self.node.assert_idle();
    }
}
