//! Conversations with a node, one rule at a time.

mod toy;

use std::time::{Duration, Instant};

use ringgate_switch::{ConnectionId, End, Limits, Peer, SlowReader, Switch, SwitchConfig};
use toy::{ANY_INSTANCE, Heard, Say, Toy, hear};

/// A node of some cores, and its clients by number.
struct Node {
    now: Instant,
    cores: Vec<Switch<Toy>>,
    clients: Vec<(usize, ConnectionId)>,
    /// What each client got, up to the last whole message.
    received: Vec<Vec<u8>>,
}

impl Node {
    fn new(cores: u16) -> Self {
        Self::with(cores, |_| {})
    }

    fn with(cores: u16, change: impl Fn(&mut SwitchConfig)) -> Self {
        let now = Instant::now();
        let switch = |core| {
            let mut config = SwitchConfig::new(core, cores, 7);
            change(&mut config);
            Switch::new(config, Toy::default(), now)
        };
        Self {
            now,
            cores: (0..cores).map(switch).collect(),
            clients: Vec::new(),
            received: Vec::new(),
        }
    }

    /// A client of its own process comes to a core.
    fn client(&mut self, core: usize) -> usize {
        self.client_of(core, 0, 0)
    }

    fn client_of(&mut self, core: usize, link: u8, node: u8) -> usize {
        let id = self.cores[core].open(Peer::default(), self.now).unwrap();
        self.clients.push((core, id));
        self.received.push(Vec::new());
        let client = self.clients.len() - 1;
        self.say(
            client,
            Say::Greet {
                link,
                node,
                own: false,
            },
        );
        self.carry();
        assert_eq!(self.hear(client), [Heard::Hello]);
        client
    }

    fn say(&mut self, client: usize, say: Say) {
        let (core, id) = self.clients[client];
        self.cores[core].message(id, &say.bytes(), self.now);
    }

    fn subscribe(&mut self, client: usize, kind: u8, instance: u8, number: u64) {
        self.say(client, Say::Subscribe(kind, instance, number));
        self.carry();
        assert_eq!(self.hear(client), [Heard::Ack(number, true)]);
    }

    fn publish(&mut self, client: usize, to: (u8, u8), one: bool, number: u32) {
        self.publish_padded(client, to, one, number, 0);
    }

    fn publish_padded(&mut self, client: usize, to: (u8, u8), one: bool, number: u32, padding: u16) {
        self.say(
            client,
            Say::Publish {
                to,
                one,
                sender: client as u32,
                number,
                padding,
            },
        );
    }

    /// Ends the turn of all cores until they have no more for each other.
    fn carry(&mut self) {
        loop {
            let mut moved = false;
            for from in 0..self.cores.len() {
                self.cores[from].turn_end(self.now);
                while let Some((to, message)) = self.cores[from].next_outbound() {
                    self.cores[to].receive(from, message, self.now);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// All that a client has got since last asked.
    fn hear(&mut self, client: usize) -> Vec<Heard> {
        let (core, id) = self.clients[client];
        while let Some(bytes) = self.cores[core].pull(id, 64) {
            self.received[client].extend_from_slice(&bytes);
        }
        std::iter::from_fn(|| hear(&mut self.received[client], false)).collect()
    }

    /// The numbers of the messages among them.
    fn numbers(&mut self, client: usize) -> Vec<u32> {
        let heard = self.hear(client).into_iter();
        heard
            .filter_map(|heard| match heard {
                Heard::Message { number, .. } => Some(number),
                _ => None,
            })
            .collect()
    }

    fn end(&mut self, client: usize) -> Option<End> {
        let (core, id) = self.clients[client];
        self.cores[core].end(id)
    }
}

#[test]
fn an_exact_name_reaches_its_subscribers_and_any_reaches_all_of_the_kind() {
    let mut node = Node::new(2);
    let (sender, one, other) = (node.client(0), node.client(0), node.client(1));
    node.subscribe(one, 1, 1, 1);
    node.subscribe(other, 1, 2, 1);
    node.subscribe(other, 1, 1, 2);
    node.publish(sender, (1, 2), false, 1);
    node.publish(sender, (1, 3), false, 2);
    node.publish(sender, (2, 1), false, 3);
    // Once to each, whatever it has subscribed to.
    node.publish(sender, (1, ANY_INSTANCE), false, 4);
    node.publish(sender, (1, 1), false, 5);
    node.carry();
    assert_eq!(node.numbers(one), [4, 5]);
    assert_eq!(node.numbers(other), [1, 4, 5]);
    assert_eq!(node.cores[0].stats().unrouted, 2);
    assert_eq!(node.cores[0].stats().published, 3);
}

#[test]
fn one_of_them_takes_turns_over_all_cores() {
    let mut node = Node::new(2);
    let sender = node.client(0);
    let readers = [node.client(0), node.client(1), node.client(1)];
    for reader in readers {
        node.subscribe(reader, 1, 1, 1);
    }
    for number in 1..=6 {
        node.publish(sender, (1, 1), true, number);
    }
    node.carry();
    for reader in readers {
        assert_eq!(node.numbers(reader).len(), 2);
    }
}

#[test]
fn nobody_gets_their_own() {
    let mut node = Node::new(1);
    let alone = node.client(0);
    node.subscribe(alone, 1, 1, 1);
    for one in [true, false] {
        node.publish(alone, (1, 1), one, 1);
        node.publish(alone, (1, ANY_INSTANCE), one, 2);
    }
    node.carry();
    assert_eq!(node.numbers(alone), []);
    assert_eq!(node.cores[0].stats().unrouted, 4);
}

/// agntcy/slim issue 1598: a process forwards between its own links.
#[test]
fn the_links_of_one_process_are_one_receiver() {
    let mut node = Node::new(2);
    let (one, twin) = (node.client_of(0, 1, 5), node.client_of(0, 2, 5));
    let (elsewhere, stranger) = (node.client_of(1, 3, 5), node.client(0));
    for client in [one, twin, elsewhere, stranger] {
        node.subscribe(client, 1, 1, 1);
    }
    node.publish(one, (1, 1), false, 1);
    node.carry();
    assert_eq!(node.numbers(stranger), [1]);
    for client in [one, twin, elsewhere] {
        assert_eq!(node.numbers(client), []);
    }
    node.publish(stranger, (1, 1), false, 2);
    node.carry();
    let copies = [node.numbers(one), node.numbers(twin)].concat();
    assert_eq!(
        (copies, node.numbers(elsewhere)),
        (vec![2], vec![2]),
        "one copy on each core"
    );
    for number in 3..9 {
        node.publish(twin, (1, 1), true, number);
    }
    node.carry();
    for client in [one, elsewhere] {
        assert_eq!(node.numbers(client), []);
    }
}

#[test]
fn a_subscribe_is_acknowledged_when_every_core_routes_to_it() {
    let mut node = Node::new(3);
    let client = node.client(0);
    node.say(client, Say::Subscribe(1, 1, 9));
    node.cores[0].turn_end(node.now);
    assert_eq!(node.hear(client), []);
    let mut told = Vec::new();
    while let Some((to, message)) = node.cores[0].next_outbound() {
        node.cores[to].receive(0, message, node.now);
        told.push(to);
    }
    assert_eq!(told, [1, 2]);
    for core in told {
        assert_eq!(node.hear(client), []);
        assert_eq!(node.cores[0].stats().subscribes_waiting, 1);
        let (_, answer) = node.cores[core].next_outbound().unwrap();
        node.cores[0].receive(core, answer, node.now);
    }
    assert_eq!(node.hear(client), [Heard::Ack(9, true)]);
    // Again, and under another number: it holds already.
    for number in [9, 10] {
        node.say(client, Say::Subscribe(1, 1, number));
        assert_eq!(node.hear(client), [Heard::Ack(number, true)]);
    }
}

#[test]
fn a_subscription_lasts_until_its_last_number_is_gone() {
    let mut node = Node::new(1);
    let (sender, reader) = (node.client(0), node.client(0));
    node.subscribe(reader, 1, 1, 7);
    node.subscribe(reader, 1, 1, 8);
    node.say(reader, Say::Unsubscribe(1, 1, 99));
    node.say(reader, Say::Unsubscribe(1, 2, 7));
    node.say(reader, Say::Unsubscribe(1, 1, 7));
    assert_eq!(
        node.hear(reader),
        [Heard::Ack(99, false), Heard::Ack(7, false), Heard::Ack(7, true)]
    );
    node.publish(sender, (1, 1), false, 1);
    node.say(reader, Say::Unsubscribe(1, 1, 8));
    node.publish(sender, (1, 1), false, 2);
    node.carry();
    assert_eq!(
        node.hear(reader),
        [Heard::Ack(8, true), Heard::Message { sender: 0, number: 1 }]
    );
    // A client that came back has subscribed without a number, and unsubscribes with the one it had.
    node.say(reader, Say::Subscribe(1, 1, 0));
    node.say(reader, Say::Unsubscribe(1, 1, 7));
    assert_eq!(node.hear(reader), [Heard::Ack(7, true)]);
    assert_eq!(node.cores[0].stats().subscriptions, 0);
}

#[test]
fn a_client_that_comes_back_takes_its_own_place_alone() {
    let mut node = Node::new(2);
    let old = node.client_of(0, 1, 1);
    let other_owner = {
        let peer = Peer {
            owner: "somebody".into(),
            ..Peer::default()
        };
        let id = node.cores[0].open(peer, node.now).unwrap();
        node.cores[0].message(
            id,
            &Say::Greet {
                link: 1,
                node: 1,
                own: false,
            }
            .bytes(),
            node.now,
        );
        id
    };
    // Another process that calls its link by the same name.
    node.client_of(0, 1, 2);
    assert_eq!(node.end(old), None);
    node.subscribe(old, 1, 1, 1);
    node.now += Duration::from_millis(1);
    let new = node.client_of(1, 1, 1);
    node.subscribe(new, 1, 1, 1);
    assert_eq!(node.end(old), Some(End::Orderly));
    assert_eq!(node.end(old), None, "told once");
    assert_eq!(node.cores[0].end(other_owner), None);
    let sender = node.client(0);
    node.publish(sender, (1, 1), false, 1);
    node.carry();
    assert_eq!((node.numbers(old), node.numbers(new)), (vec![], vec![1]));
    assert_eq!(node.cores[0].stats().stale, 1);
}

#[test]
fn what_a_slow_reader_misses() {
    let fill = |slow_reader| {
        let mut node = Node::with(1, |config| {
            config.slow_reader = slow_reader;
            config.limits.queue_bytes_max = 1000;
        });
        let (sender, reader) = (node.client(0), node.client(0));
        node.subscribe(reader, 1, 1, 1);
        for number in 1..=30 {
            node.publish_padded(sender, (1, 1), false, number, 86);
            node.cores[0].turn_end(node.now);
        }
        let stats = node.cores[0].stats();
        assert_eq!(
            node.cores[0].details().nth(1).unwrap().dropped,
            stats.dropped.iter().sum()
        );
        // A run is 100 bytes: ten of them fit.
        (node.numbers(reader), stats.dropped, node.end(reader))
    };
    assert_eq!(
        fill(SlowReader::DropOldest),
        ((21..=30).collect(), [20, 0, 0], None)
    );
    assert_eq!(
        fill(SlowReader::DropNewest),
        ((1..=10).collect(), [0, 20, 0], None)
    );
    let (numbers, dropped, end) = fill(SlowReader::Disconnect);
    assert_eq!((numbers, dropped), (vec![], [0, 0, 1]));
    assert!(matches!(end, Some(End::Exhausted(_))));
}

#[test]
fn all_queues_share_the_memory_of_the_core() {
    let mut node = Node::with(1, |config| {
        config.limits.memory_bytes_max = 3000;
        config.limits.queue_bytes_max = 2500;
    });
    let sender = node.client(0);
    for _ in 0..10 {
        let reader = node.client(0);
        node.subscribe(reader, 1, 1, 1);
    }
    for number in 0..100 {
        node.publish_padded(sender, (1, 1), false, number, 86);
        node.cores[0].turn_end(node.now);
        assert!(node.cores[0].stats().queued_bytes <= 3000);
    }
}

#[test]
fn a_reader_that_stalls_holds_no_shared_memory() {
    let mut node = Node::new(1);
    let (sender, reader) = (node.client(0), node.client(0));
    node.subscribe(reader, 1, 1, 1);
    for number in 1..=3 {
        node.publish(sender, (1, 1), false, number);
        node.carry();
    }
    for copied in [0, 3, 3] {
        let due = node.cores[0].next_deadline().unwrap();
        node.now = node.now.max(due);
        node.cores[0].tick(node.now);
        assert_eq!(node.cores[0].stats().copied_out, copied);
    }
    assert_eq!(node.numbers(reader), [1, 2, 3]);
    node.now += Limits::default().stall * 10;
    node.cores[0].tick(node.now);
    assert_eq!(node.cores[0].next_deadline(), None);
}

#[test]
fn acknowledgements_that_nobody_reads_are_bounded() {
    let mut node = Node::with(1, |config| config.limits.acks_bytes_max = 1000);
    let client = node.client(0);
    for number in 1..200 {
        node.say(client, Say::Subscribe(1, 1, number));
        node.cores[0].turn_end(node.now);
    }
    while node.cores[0].pull(node.clients[client].1, 100).is_some() {}
    assert!(matches!(node.end(client), Some(End::Exhausted(_))));
}

#[test]
fn bounds_of_subscriptions_names_and_connections() {
    let mut node = Node::with(1, |config| {
        config.limits.subscriptions_max = 2;
        config.limits.names_max = 3;
        config.limits.connections_max = 2;
    });
    let (one, other) = (node.client(0), node.client(0));
    assert!(matches!(
        node.cores[0].open(Peer::default(), node.now),
        Err(End::Exhausted(_))
    ));
    node.subscribe(one, 1, 1, 1);
    node.subscribe(one, 1, 2, 2);
    for (kind, instance) in [(1, 3), (1, 1)] {
        node.say(one, Say::Subscribe(kind, instance, 3));
        assert_eq!(node.hear(one), [Heard::Ack(3, false)]);
    }
    node.subscribe(other, 1, 3, 1);
    node.say(other, Say::Subscribe(1, 4, 2));
    assert_eq!(node.hear(other), [Heard::Ack(2, false)]);
    assert_eq!(node.cores[0].stats().refused, 3);
}

/// They are searched with every Subscribe and Unsubscribe.
#[test]
fn numbers_of_one_name_are_bounded() {
    let mut node = Node::new(1);
    let client = node.client(0);
    for number in 1..=1024 {
        node.subscribe(client, 1, 1, number);
    }
    node.say(client, Say::Subscribe(1, 1, 1025));
    assert_eq!(node.hear(client), [Heard::Ack(1025, false)]);
    node.subscribe(client, 1, 2, 1025);
}

#[test]
fn who_says_nothing_is_ended_and_so_is_who_says_the_wrong_thing_first() {
    let mut node = Node::new(1);
    let silent = node.cores[0].open(Peer::default(), node.now).unwrap();
    assert_eq!(
        node.cores[0].next_deadline(),
        Some(node.now + Duration::from_secs(5))
    );
    let rude = node.cores[0].open(Peer::default(), node.now).unwrap();
    node.cores[0].message(rude, &Say::Subscribe(1, 1, 1).bytes(), node.now);
    assert_eq!(node.cores[0].end(rude), Some(End::Orderly));
    node.now += Duration::from_secs(5);
    node.cores[0].tick(node.now);
    assert_eq!(node.cores[0].end(silent), Some(End::Orderly));
    // What comes after the end is not listened to.
    node.cores[0].message(
        silent,
        &Say::Greet {
            link: 0,
            node: 0,
            own: false,
        }
        .bytes(),
        node.now,
    );
    assert_eq!(node.cores[0].pull(silent, 100), None);
}

#[test]
fn a_drain_sends_what_waits_and_ends_everyone_in_order() {
    let mut node = Node::new(1);
    let (sender, reader) = (node.client(0), node.client(0));
    node.subscribe(reader, 1, 1, 1);
    node.publish(sender, (1, 1), false, 1);
    node.cores[0].drain(node.now);
    assert_eq!(node.numbers(reader), [1]);
    for client in [sender, reader] {
        let (_, id) = node.clients[client];
        assert!(!node.cores[0].must_end(id));
        assert_eq!(node.end(client), Some(End::Orderly));
        node.cores[0].closed(id, node.now);
    }
    node.carry();
    assert!(node.cores[0].stats().is_idle());
}

#[test]
fn the_only_one_of_a_kind_where_the_dialect_falls_back() {
    let mut node = Node::with(2, |config| config.falls_back_to_only = true);
    let (sender, only) = (node.client(0), node.client(1));
    node.subscribe(only, 1, 1, 1);
    node.publish(sender, (1, 2), true, 1);
    node.carry();
    assert_eq!(node.numbers(only), [1]);
    let other = node.client(0);
    node.subscribe(other, 1, 3, 1);
    node.publish(sender, (1, 2), true, 2);
    node.carry();
    assert_eq!((node.numbers(only), node.numbers(other)), (vec![], vec![]));
}

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    let mut node = Node::new(1);
    let client = node.client(0);
    node.say(client, Say::Nonsense);
    node.carry();
    assert_eq!((node.hear(client), node.end(client)), (vec![], None));
    assert_eq!(node.cores[0].stats().malformed, 1);
}
