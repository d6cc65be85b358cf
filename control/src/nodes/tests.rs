//! Data planes as the hub sees them, without the network in between.

use std::time::Instant;

use prost::Message as _;
use ringgate_proto::control::v1::{
    Agent, Applied, Grant, ListNodesRequest, PolicySet, Presence, Rejected, SecurityEvent, SecurityEvents,
};
use ringgate_store::testing::EtcdServer;
use ringgate_store::{Lineage, Redb, Write};
use tempfile::TempDir;

use super::*;
use crate::errors::reason_of;
use crate::ledger::Ledger;
use ringgate_proto::control::v1::registry_server::Registry as _;

/// Ends a test that waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(60);

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes")
}

struct World {
    hub: NodeHub,
    registry: Registry,
    store: Arc<dyn Store>,
    _folder: TempDir,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> = Arc::new(Redb::open(&folder.path().join("store")).expect("a store"));
        let registry = Registry::start(store.clone(), 1000);
        let audit = AuditLog::new(Ledger::start(store.clone()), store.clone(), 1000, 1000);
        let hub = NodeHub::over(store.clone(), audit, registry.clone())
            .await
            .expect("readable");
        World {
            hub,
            registry,
            store,
            _folder: folder,
        }
    }

    async fn write(&self, writes: impl IntoIterator<Item = Write>) -> u64 {
        let committed = self.store.commit(Transaction::new().writes(writes)).await;
        committed.expect("nothing is in its way").0
    }

    async fn policy(&self, version: u64) -> u64 {
        let policy = PolicySet {
            version,
            ..PolicySet::default()
        };
        self.write([keys::policy().put(&policy)]).await
    }

    async fn nodes(&self) -> Vec<Node> {
        let nodes = self.registry.list_nodes(Request::new(ListNodesRequest {})).await;
        nodes.expect("readable").into_inner().nodes
    }

    /// A data plane that holds a version of the hub's store.
    async fn attach(&self, id: &str, version: u64) -> Plane {
        Plane::attach(&self.hub, id, version, self.store.lineage())
            .await
            .expect("attached")
    }
}

/// A data plane, which does what the test says.
struct Plane {
    say: mpsc::Sender<Result<NodeMessage, Status>>,
    told: ReceiverStream<Result<NodeState, Status>>,
}

impl Plane {
    async fn attach(hub: &NodeHub, id: &str, version: u64, lineage: Lineage) -> Result<Plane, Status> {
        let hello = Hello {
            node: id.to_owned(),
            software: "test".to_owned(),
            version,
            lineage: lineage.0.to_vec().into(),
            ..Hello::default()
        };
        Plane::with_first(hub, id, Body::Hello(hello)).await
    }

    async fn with_first(hub: &NodeHub, id: &str, first: Body) -> Result<Plane, Status> {
        let (say, said) = mpsc::channel(16);
        say.send(Ok(NodeMessage { body: Some(first) }))
            .await
            .expect("there is room");
        let told = hub.attach(id, ReceiverStream::new(said)).await?;
        Ok(Plane { say, told })
    }

    async fn say(&self, body: Body) {
        patiently(self.say.send(Ok(NodeMessage { body: Some(body) })))
            .await
            .expect("it is attached");
    }

    /// The next state, its parts put together.
    async fn state(&mut self) -> NodeState {
        let mut whole = NodeState::default();
        loop {
            let part = patiently(self.told.next())
                .await
                .expect("it goes on")
                .expect("a state");
            let last = !part.partial;
            // Fields of a message that follow each other are put together.
            whole.merge(&part.encode_to_vec()[..]).expect("own encoding");
            if last {
                whole.partial = false;
                return whole;
            }
        }
    }

    async fn apply(&self, version: u64) {
        self.say(Body::Applied(Applied { version })).await;
    }

    /// Why it was detached.
    async fn end(&mut self) -> String {
        loop {
            match patiently(self.told.next()).await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return reason_of(&status),
                None => return "closed".to_owned(),
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_then_what_changes() {
    let world = World::new().await;
    world
        .write([keys::grant("acme").put(&Grant {
            name: "acme".into(),
            roles: vec!["x".into()],
        })])
        .await;
    let first = world.policy(1).await;
    let mut plane = world.attach("one", 0).await;
    let state = plane.state().await;
    assert_eq!(
        (state.version, state.from_version, state.grants.len()),
        (first, 0, 1)
    );
    assert_eq!(state.lineage[..], world.store.lineage().0);
    plane.apply(first).await;

    let second = world.policy(2).await;
    let state = plane.state().await;
    assert_eq!(
        (state.version, state.from_version, state.grants.len()),
        (second, first, 0)
    );
    assert_eq!(state.policy.map(|policy| policy.version), Some(2));
}

#[tokio::test]
async fn what_comes_before_the_answer_is_told_together_after_it() {
    let world = World::new().await;
    let first = world.policy(1).await;
    let mut plane = world.attach("one", 0).await;
    assert_eq!(plane.state().await.version, first);
    world.policy(2).await;
    let newest = world.policy(3).await;
    plane.apply(first).await;
    let state = plane.state().await;
    // The hub may not have heard of the newest when the answer came.
    let state = if state.version == newest {
        state
    } else {
        plane.apply(state.version).await;
        plane.state().await
    };
    assert_eq!(
        (state.version, state.policy.map(|policy| policy.version)),
        (newest, Some(3))
    );
}

#[tokio::test]
async fn what_was_rejected_comes_again_with_the_next_change() {
    let world = World::new().await;
    let first = world.policy(1).await;
    let mut plane = world.attach("one", 0).await;
    plane.state().await;
    plane.apply(first).await;
    let bad = world.policy(2).await;
    assert_eq!(plane.state().await.version, bad);
    plane
        .say(Body::Rejected(Rejected {
            version: bad,
            reason: "line 3".into(),
        }))
        .await;

    let grant = Grant {
        name: "acme".into(),
        roles: vec!["x".into()],
    };
    let third = world.write([keys::grant("acme").put(&grant)]).await;
    let state = plane.state().await;
    assert_eq!(
        (state.version, state.from_version),
        (third, first),
        "it counts from what the node has"
    );
    assert_eq!(
        (state.policy.map(|policy| policy.version), state.grants.len()),
        (Some(2), 1)
    );
    let told = |nodes: Vec<Node>| (nodes[0].applied_version, nodes[0].rejected_reason.clone());
    assert_eq!(told(world.nodes().await), (first, "line 3".to_owned()));

    plane.apply(third).await;
    world.policy(4).await;
    plane.state().await;
    assert_eq!(told(world.nodes().await), (third, String::new()));
}

#[tokio::test]
async fn one_that_comes_back_is_told_what_it_missed() {
    let world = World::new().await;
    let first = world.policy(1).await;
    let mut plane = world.attach("one", first).await;
    let state = plane.state().await;
    assert_eq!(
        (state.version, state.from_version, &state.policy),
        (first, first, &None),
        "it has everything"
    );
    drop(plane);

    let granted = Grant {
        name: "acme".into(),
        roles: vec![],
    };
    let second = world.write([keys::grant("acme").put(&granted)]).await;
    let state = world.attach("one", first).await.state().await;
    assert_eq!(
        (state.version, state.from_version, state.policy.is_none()),
        (second, first, true)
    );
    assert_eq!(state.grants, [granted], "it hears what was taken away");

    let other = Plane::attach(&world.hub, "one", first, Lineage([1; 16]))
        .await
        .expect("attached")
        .state()
        .await;
    assert_eq!(
        (other.from_version, other.policy.is_some()),
        (0, true),
        "a version of another store says nothing"
    );
    let unknown = world.attach("one", second + 1000).await.state().await;
    assert_eq!(
        unknown.from_version, 0,
        "nor does one that the store has not come to"
    );
}

#[tokio::test]
async fn one_that_does_not_read_delays_nobody() {
    let world = World::new().await;
    world.policy(1).await;
    let slow = world.attach("slow", 0).await;
    let mut quick = world.attach("quick", 0).await;
    let first = quick.state().await.version;
    quick.apply(first).await;
    for version in 2..20 {
        let written = world.policy(version).await;
        assert_eq!(quick.state().await.version, written);
        quick.apply(written).await;
    }
    drop(slow);
}

#[tokio::test]
async fn one_that_attaches_again_ends_its_former_self() {
    let world = World::new().await;
    world.policy(1).await;
    let mut old = world.attach("one", 0).await;
    let mut new = world.attach("one", 0).await;
    assert_eq!(old.end().await, "ATTACHED_AGAIN");
    new.state().await;
    assert!(world.nodes().await[0].attached);
}

#[tokio::test]
async fn who_does_not_keep_to_the_protocol_is_refused() {
    let world = World::new().await;
    let version = world.policy(1).await;
    let mismatch = Plane::with_first(
        &world.hub,
        "one",
        Body::Hello(Hello {
            node: "two".into(),
            ..Hello::default()
        }),
    );
    assert_eq!(
        mismatch.await.err().map(|status| reason_of(&status)).as_deref(),
        Some("NODE_ID_MISMATCH")
    );
    let missing = Plane::with_first(&world.hub, "one", Body::Presence(Presence::default()));
    assert_eq!(
        missing.await.err().map(|status| reason_of(&status)).as_deref(),
        Some("HELLO_MISSING")
    );

    let mut plane = world.attach("one", 0).await;
    plane.state().await;
    plane.apply(version + 1).await;
    assert_eq!(plane.end().await, "ANSWER_UNEXPECTED");
    let mut plane = world.attach("one", 0).await;
    plane.state().await;
    plane.say(Body::Hello(Hello::default())).await;
    assert_eq!(plane.end().await, "HELLO_TWICE");
}

#[tokio::test]
async fn what_it_sees_is_written() {
    let world = World::new().await;
    world.policy(1).await;
    let mut watch = world
        .store
        .watch(keys::AUDIT.prefix(), Revision(0))
        .await
        .expect("known");
    let mut plane = world.attach("one", 0).await;
    plane.state().await;
    let event = SecurityEvent {
        kind: "PROOF_REPLAYED".into(),
        identity: "agp://t/a/b/c/d".into(),
        ..SecurityEvent::default()
    };
    plane
        .say(Body::SecurityEvents(SecurityEvents { events: vec![event] }))
        .await;
    let batch = patiently(watch.next()).await.expect("it goes on").expect("known");
    let entry = keys::audit(1)
        .get(&*world.store)
        .await
        .expect("readable")
        .expect("written")
        .value;
    assert_eq!(
        (entry.outcome.as_str(), entry.subject.as_str()),
        ("PROOF_REPLAYED", "node one")
    );
    assert_eq!(&batch.changes[0].key, keys::audit(1).key());
}

#[tokio::test]
async fn agents_are_known_by_the_word_of_their_node() {
    let world = World::new().await;
    world.policy(1).await;
    let mut events = Box::pin(
        world
            .registry
            .watch_agents(Request::new(Default::default()))
            .await
            .expect("watching")
            .into_inner(),
    );
    let mut next = async || {
        let event = patiently(events.next())
            .await
            .expect("it goes on")
            .expect("an event");
        (
            event.kind().as_str_name(),
            event.agent.map(|agent| (agent.name, agent.node)),
        )
    };
    assert_eq!(next().await, ("KIND_SYNCED", None));
    let plane = world.attach("one", 0).await;
    let agent = |name: &str| Agent {
        name: name.into(),
        node: "another".into(),
        ..Agent::default()
    };
    let up = vec![
        agent("acme/sales/bot/1"),
        agent("no name"),
        agent("acme/sales/bot/2"),
    ];
    plane
        .say(Body::Presence(Presence {
            all: true,
            up,
            down: vec![],
        }))
        .await;
    let named = |name: &str| Some((name.to_owned(), "one".to_owned()));
    assert_eq!(next().await, ("KIND_UP", named("acme/sales/bot/1")));
    assert_eq!(next().await, ("KIND_UP", named("acme/sales/bot/2")));
    plane
        .say(Body::Presence(Presence {
            down: vec!["acme/sales/bot/1".into()],
            ..Presence::default()
        }))
        .await;
    assert_eq!(next().await, ("KIND_DOWN", named("acme/sales/bot/1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_moves_to_another_process_goes_on_with_its_version() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    let hub = async || -> (NodeHub, Arc<dyn Store>) {
        let store: Arc<dyn Store> = Arc::new(server.open("nodes/").await.expect("it answers"));
        let audit = AuditLog::new(Ledger::start(store.clone()), store.clone(), 1000, 1000);
        let registry = Registry::start(store.clone(), 1000);
        (
            NodeHub::over(store.clone(), audit, registry)
                .await
                .expect("readable"),
            store,
        )
    };
    let ((one, store), (other, _)) = (hub().await, hub().await);
    let policy = async |version| {
        let policy = PolicySet {
            version,
            ..PolicySet::default()
        };
        let transaction = Transaction::new().write(keys::policy().put(&policy));
        store.commit(transaction).await.expect("nothing is in its way").0
    };
    let first = policy(1).await;
    let mut plane = Plane::attach(&one, "n", 0, store.lineage())
        .await
        .expect("attached");
    // The hub may not have heard of it when the plane came.
    let state = plane.state().await;
    plane.apply(state.version).await;
    if state.version != first {
        assert_eq!(plane.state().await.version, first);
        plane.apply(first).await;
    }
    let mut moved = Plane::attach(&other, "n", first, store.lineage())
        .await
        .expect("attached");
    let state = moved.state().await;
    assert_eq!(
        (state.version, state.from_version, state.policy),
        (first, first, None)
    );
    moved.apply(first).await;
    let second = policy(2).await;
    for plane in [&mut plane, &mut moved] {
        let state = plane.state().await;
        assert_eq!((state.version, state.from_version), (second, first));
    }
}

/// Prints how long it takes; see perf/ for what was measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_a_hundred_nodes() {
    const NODES: usize = 100;
    let world = World::new().await;
    let first = world.policy(1).await;
    let mut planes = Vec::new();
    for index in 0..NODES {
        let mut plane = world.attach(&format!("node-{index}"), 0).await;
        plane.state().await;
        plane.apply(first).await;
        planes.push(plane);
    }
    let (arrived, mut arrivals) = mpsc::channel(NODES);
    for mut plane in planes {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            let version = plane.state().await.version;
            plane.apply(version).await;
            arrived.send(version).await.expect("it is counted");
            plane.end().await
        });
    }
    let begun = Instant::now();
    let second = world.policy(2).await;
    let committed = begun.elapsed();
    for _ in 0..NODES {
        assert_eq!(patiently(arrivals.recv()).await, Some(second));
    }
    let all = begun.elapsed();
    eprintln!(
        "commit {committed:?}, from there to the last of {NODES} nodes {:?}",
        all.saturating_sub(committed)
    );
}
