//! Conversations of a few nodes, by hand.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use ringgate_neighbours::{Effect, Fault, Key, LinkId, LinkRefused, Network, NetworkLimits, NodeId, Share};

/// Nodes whose links have no delay; link `a * 100 + b` is what node a calls its link to node b.
struct Scene {
    nodes: Vec<Network>,
    now: u64,
    under_way: VecDeque<(usize, usize, Bytes)>,
    /// What nodes were told that are not links.
    told: Vec<(usize, Effect)>,
    /// Messages that came, by sender and receiver.
    sent: Vec<(usize, usize)>,
    /// Messages of this link are lost.
    deaf: Option<(usize, usize)>,
}

fn link(from: usize, to: usize) -> LinkId {
    LinkId((from * 100 + to) as u32)
}

fn pattern(text: &str) -> Key {
    Key::Pattern(text.into())
}

const ONE: Share = Share { count: 1, load: 0 };

impl Scene {
    fn new(nodes: usize, limits: &NetworkLimits) -> Self {
        let node = |n: usize| Network::new(&format!("n{n}"), 1, limits.clone(), 0);
        Self {
            nodes: (0..nodes).map(node).collect(),
            now: 0,
            under_way: VecDeque::new(),
            told: Vec::new(),
            sent: Vec::new(),
            deaf: None,
        }
    }

    fn chain(nodes: usize, limits: &NetworkLimits) -> Self {
        let mut scene = Self::new(nodes, limits);
        (1..nodes).for_each(|n| scene.connect(n - 1, n));
        scene.pass(100);
        scene.told.clear();
        scene
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let up = self.nodes[from].link_up(link(from, to), &format!("n{to}"), 1, self.now);
            up.expect("a new link");
        }
        self.deliver();
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        self.deliver();
        for (from, to) in [(a, b), (b, a)] {
            self.nodes[from].link_down(link(from, to), self.now);
        }
        self.deliver();
    }

    fn want(&mut self, node: usize, key: Key, share: Share) {
        self.nodes[node].want(key, share, self.now).expect("valid");
        self.deliver();
    }

    fn publish(&mut self, node: usize, topic: &str) -> usize {
        let wanted = self.nodes[node].publish(topic, 1, Bytes::from_static(b"body"), self.now);
        self.deliver();
        wanted
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            self.nodes.iter_mut().for_each(|node| node.poll(self.now));
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        loop {
            for node in 0..self.nodes.len() {
                while let Some(effect) = self.nodes[node].next_effect() {
                    match effect {
                        Effect::Send { link, head, body } => {
                            let mut message = BytesMut::from(&head[..]);
                            message.extend_from_slice(&body);
                            let to = link.0 as usize - node * 100;
                            self.under_way.push_back((node, to, message.freeze()));
                        }
                        other => self.told.push((node, other)),
                    }
                }
            }
            let Some((from, to, message)) = self.under_way.pop_front() else {
                return;
            };
            self.sent.push((from, to));
            if self.deaf != Some((from, to)) {
                self.nodes[to]
                    .receive(link(to, from), message, self.now)
                    .expect("honest");
            }
        }
    }

    fn published(&mut self) -> Vec<(usize, NodeId)> {
        let told = std::mem::take(&mut self.told);
        let published = told.into_iter().filter_map(|(node, effect)| match effect {
            Effect::Published { origin, .. } => Some((node, origin)),
            _ => None,
        });
        published.collect()
    }
}

#[test]
fn a_topic_spans_a_chain() {
    let mut scene = Scene::chain(4, &NetworkLimits::default());
    scene.want(3, pattern("a/*"), ONE);
    scene.pass(10);
    assert_eq!(scene.publish(0, "b"), 0, "nobody wants it");
    scene.sent.clear();
    assert_eq!(scene.publish(0, "a/b"), 1);
    assert_eq!(scene.sent, [(0, 1), (1, 2), (2, 3)]);
    let origin = scene.nodes[0].id();
    assert_eq!(scene.published(), [(3, origin)]);
    scene.want(3, pattern("a/*"), Share::NONE);
    scene.pass(10);
    assert_eq!(scene.publish(0, "a/b"), 0);
    assert_eq!(scene.nodes[0].sizes().keys, 0);
}

#[test]
fn a_message_for_a_crowd_crosses_a_link_once() {
    let mut scene = Scene::new(6, &NetworkLimits::default());
    scene.connect(0, 1);
    for leaf in 2..6 {
        scene.connect(1, leaf);
    }
    scene.pass(100);
    for leaf in 2..6 {
        scene.want(leaf, pattern("t"), Share { count: 1000, load: 0 });
    }
    scene.pass(10);
    scene.sent.clear();
    assert_eq!(scene.publish(0, "t"), 4);
    assert_eq!(scene.sent.iter().filter(|sent| **sent == (0, 1)).count(), 1);
    assert_eq!(scene.published().len(), 4);
}

#[test]
fn who_missed_messages_is_told_when_it_is_back() {
    let mut scene = Scene::chain(3, &NetworkLimits::default());
    scene.want(2, pattern("t"), ONE);
    scene.pass(10);
    scene.publish(0, "t");
    scene.disconnect(1, 2);
    scene.pass(100);
    assert_eq!(
        (0..3).map(|_| scene.publish(0, "t")).sum::<usize>(),
        3,
        "wanted, though out of reach"
    );
    scene.connect(1, 2);
    scene.told.clear();
    scene.pass(5_000);
    let origin = scene.nodes[0].id();
    let gaps: Vec<_> = scene
        .told
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Gap { .. }))
        .collect();
    let wanted = Effect::Gap {
        origin,
        topic: "t".into(),
        missing: 3,
        exact: true,
    };
    assert_eq!(gaps, [&(2, wanted)]);
}

#[test]
fn a_link_that_breaks_and_comes_back_at_once_is_noticed() {
    let mut scene = Scene::chain(3, &NetworkLimits::default());
    scene.want(2, pattern("t"), ONE);
    // Counts are told after the network came together; nothing more shall be under way.
    scene.pass(3_000);
    scene.publish(0, "t");
    scene.deaf = Some((1, 2));
    scene.publish(0, "t");
    scene.deaf = None;
    // Both ends have just stated their links, and so hold back the next statement until all is as it was.
    let now = scene.now;
    scene.nodes[1].set_cost(link(1, 2), 1, now);
    scene.nodes[2].set_cost(link(2, 1), 1, now);
    scene.disconnect(1, 2);
    scene.connect(1, 2);
    scene.told.clear();
    scene.pass(3_000);
    assert!(
        scene.told.iter().any(|(node, effect)| *node == 2
            && matches!(
                effect,
                Effect::Gap {
                    missing: 1,
                    exact: true,
                    ..
                }
            )),
        "{:?}",
        scene.told
    );
}

#[test]
fn dropping_at_a_link_is_told_too() {
    let mut scene = Scene::chain(2, &NetworkLimits::default());
    scene.want(1, pattern("t"), ONE);
    scene.pass(3_000);
    scene.publish(0, "t");
    scene.deaf = Some((0, 1));
    scene.publish(0, "t");
    scene.deaf = None;
    let now = scene.now;
    scene.nodes[0].dropped(link(0, 1), now);
    scene.told.clear();
    scene.pass(3_000);
    let gaps = scene
        .told
        .iter()
        .filter(|(_, effect)| matches!(effect, Effect::Gap { missing: 1, .. }));
    assert_eq!(gaps.count(), 1);
}

#[test]
fn what_comes_twice_is_passed_on_once() {
    let mut scene = Scene::chain(3, &NetworkLimits::default());
    scene.want(2, pattern("t"), ONE);
    scene.pass(10);
    scene.nodes[0].publish("t", 1, Bytes::from_static(b"body"), scene.now);
    let Some(Effect::Send { head, body, .. }) = scene.nodes[0].next_effect() else {
        panic!("it is wanted");
    };
    scene.sent.clear();
    for _ in 0..2 {
        let message = Bytes::from([&head[..], &body[..]].concat());
        scene.nodes[1]
            .receive(link(1, 0), message, scene.now)
            .expect("honest");
        scene.deliver();
    }
    assert_eq!(scene.sent, [(1, 2)]);
    assert_eq!(
        (scene.published().len(), scene.nodes[1].stats().duplicates),
        (1, 1)
    );
}

#[test]
fn digests_find_what_was_missed() {
    let mut scene = Scene::chain(2, &NetworkLimits::default());
    // Neither the change nor the word that there are news arrives.
    scene.deaf = Some((0, 1));
    scene.want(0, pattern("lost"), ONE);
    scene.pass(100);
    scene.deaf = None;
    scene.pass(5_000);
    assert_eq!(scene.publish(1, "lost"), 0, "nobody told it");
    scene.pass(25_000);
    assert_eq!(scene.publish(1, "lost"), 1);
    assert!(scene.nodes.iter().any(|node| node.stats().healed > 0));
}

#[test]
fn a_restarted_node_outbids_what_it_was() {
    let mut scene = Scene::chain(3, &NetworkLimits::default());
    scene.want(2, pattern("before"), ONE);
    scene.pass(10);
    scene.disconnect(1, 2);
    // Its clock went back: the incarnation is no higher than before.
    scene.nodes[2] = Network::new("n2", 1, NetworkLimits::default(), scene.now);
    scene.want(2, pattern("after"), ONE);
    scene.connect(1, 2);
    scene.pass(3_000);
    assert_eq!((scene.publish(0, "before"), scene.publish(0, "after")), (0, 1));
    assert_eq!(scene.nodes[2].stats().outbid, 1);
}

#[test]
fn messages_to_one_node_take_the_way_of_their_origin() {
    let mut scene = Scene::chain(4, &NetworkLimits::default());
    let (from, to) = (scene.nodes[0].id(), scene.nodes[3].id());
    assert!(scene.nodes[0].send_to(to, Bytes::from_static(b"hello")));
    scene.deliver();
    let wanted = Effect::Message {
        origin: from,
        body: Bytes::from_static(b"hello"),
    };
    assert_eq!(scene.told, [(3, wanted)]);
    scene.disconnect(2, 3);
    scene.pass(100);
    assert!(!scene.nodes[0].send_to(to, Bytes::new()), "out of reach");
}

#[test]
fn the_nearest_and_least_busy_is_found() {
    let mut scene = Scene::new(4, &NetworkLimits::default());
    for leaf in 1..3 {
        scene.connect(0, leaf);
    }
    scene.connect(2, 3);
    scene.pass(100);
    let service = Key::Service("acme/demo/weather".into());
    scene.want(3, service.clone(), Share { count: 8, load: 0 });
    scene.pass(1100);
    let id = |scene: &Scene, node: usize| Some(scene.nodes[node].id());
    assert_eq!(scene.nodes[0].nearest(&service), id(&scene, 3));
    scene.want(1, service.clone(), Share { count: 1, load: 64 });
    scene.want(2, service.clone(), Share { count: 1, load: 8 });
    scene.pass(1100);
    assert_eq!(
        scene.nodes[0].nearest(&service),
        id(&scene, 2),
        "near, and less to do"
    );
    scene.want(2, service.clone(), Share { count: 1, load: 512 });
    scene.pass(1100);
    assert_eq!(scene.nodes[0].nearest(&service), id(&scene, 1), "loads change");
    assert_eq!(scene.nodes[0].nearest(&Key::Capability("none".into())), None);
}

#[test]
fn a_node_that_leaves_is_gone_past_where_that_is_possible() {
    let mut scene = Scene::new(4, &NetworkLimits::default());
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        scene.connect(a, b);
    }
    scene.pass(100);
    scene.want(3, pattern("t"), ONE);
    scene.pass(10);
    for leaves in [1, 2] {
        let now = scene.now;
        scene.nodes[leaves].leave(now);
        scene.pass(100);
        scene.sent.clear();
        scene.publish(0, "t");
        let through = |node| scene.sent.contains(&(node, 3));
        match leaves {
            1 => assert!(!through(1) && through(2)),
            _ => assert!(through(1) != through(2), "there is no other way"),
        }
    }
}

#[test]
fn a_message_that_has_crossed_too_many_links_is_dropped() {
    let limits = NetworkLimits {
        hops_max: 2,
        ..NetworkLimits::default()
    };
    let mut scene = Scene::chain(4, &limits);
    scene.want(2, pattern("t"), ONE);
    scene.want(3, pattern("t"), ONE);
    scene.pass(10);
    scene.publish(0, "t");
    assert_eq!(
        scene.published().iter().map(|told| told.0).collect::<Vec<_>>(),
        [2]
    );
    assert_eq!(scene.nodes[2].stats().hops_exceeded, 1);
}

#[test]
fn links_that_cannot_be_are_refused() {
    let limits = NetworkLimits {
        links_max: 1,
        ..NetworkLimits::default()
    };
    let mut scene = Scene::new(2, &limits);
    let node = &mut scene.nodes[0];
    assert_eq!(node.link_up(LinkId(1), "n0", 1, 0), Err(LinkRefused::Itself));
    assert_eq!(
        node.link_up(LinkId(1), "", 1, 0),
        Err(LinkRefused::Name { name: String::new() })
    );
    assert_eq!(node.link_up(LinkId(1), "n1", 1, 0), Ok(()));
    assert_eq!(
        node.link_up(LinkId(2), "n1", 1, 0),
        Err(LinkRefused::Duplicate(LinkId(1)))
    );
    assert_eq!(
        node.link_up(LinkId(2), "n2", 1, 0),
        Err(LinkRefused::TooMany { links: 1 })
    );
    assert_eq!(node.receive(LinkId(9), Bytes::new(), 0), Err(Fault::UnknownLink));
    assert_eq!(node.receive(LinkId(1), Bytes::new(), 0), Err(Fault::UnknownKind));
}

#[test]
fn a_node_gone_for_long_is_forgotten() {
    let limits = NetworkLimits {
        forget_ms: 5_000,
        ..NetworkLimits::default()
    };
    let mut scene = Scene::chain(3, &limits);
    scene.want(2, pattern("t"), ONE);
    scene.pass(10);
    scene.disconnect(1, 2);
    scene.pass(2_000);
    assert_eq!(scene.nodes[0].sizes().nodes, 3);
    scene.pass(5_000);
    let sizes = scene.nodes[0].sizes();
    assert_eq!((sizes.nodes, sizes.entries, sizes.reached), (2, 0, 1));
    scene.connect(1, 2);
    scene.pass(100);
    assert_eq!(scene.publish(0, "t"), 1);
}

#[test]
fn a_slow_neighbour_is_sent_no_more_than_it_acknowledges() {
    let limits = NetworkLimits {
        flood_unacknowledged_max: 3,
        digest_ms: 1_000_000,
        ..NetworkLimits::default()
    };
    let mut scene = Scene::new(12, &limits);
    for leaf in 1..11 {
        scene.connect(0, leaf);
    }
    scene.pass(100);
    // Node 11 answers nothing but its summary.
    scene.connect(0, 11);
    scene.deaf = Some((11, 0));
    scene.sent.clear();
    for leaf in 1..11 {
        let now = scene.now;
        scene.nodes[leaf].leave(now);
        scene.deliver();
    }
    let behind = |scene: &Scene| {
        let links = scene.nodes[0].links();
        links
            .iter()
            .find(|(id, _)| *id == link(0, 11))
            .map(|(_, link)| link.behind)
    };
    scene.pass(100);
    assert!(
        behind(&scene).is_some_and(|behind| behind > 3),
        "{:?}",
        behind(&scene)
    );
    assert!(scene.sent.iter().filter(|sent| **sent == (0, 11)).count() <= 3);
}
