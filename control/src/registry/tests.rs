//! Who is there, as operators ask.

use ringgate_store::testing::EtcdServer;
use ringgate_store::{Etcd, Redb};
use tempfile::TempDir;

use super::*;
use crate::errors::reason_of;

/// Ends a test that waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(60);

fn registry() -> (Registry, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Redb::open(&folder.path().join("store")).expect("a store");
    (Registry::start(Arc::new(store), 100), folder)
}

fn agent(name: &str, capabilities: &[&str]) -> Agent {
    Agent {
        name: name.to_owned(),
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
        ..Agent::default()
    }
}

fn up(agents: impl IntoIterator<Item = Agent>) -> Presence {
    Presence {
        up: agents.into_iter().collect(),
        ..Presence::default()
    }
}

fn names(registry: &Registry, request: ListAgentsRequest) -> (Vec<String>, String) {
    let page = registry.page(&request).expect("a page");
    (
        page.agents.into_iter().map(|agent| agent.name).collect(),
        page.next_page_token,
    )
}

fn all(registry: &Registry) -> Vec<String> {
    names(registry, ListAgentsRequest::default()).0
}

type Events = Pin<Box<dyn Stream<Item = Result<AgentEvent, Status>> + Send>>;

async fn next(events: &mut Events) -> (Kind, String, String) {
    let event = tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("it comes");
    let event = event.expect("it goes on").expect("an event");
    let agent = event.agent.clone().unwrap_or_default();
    (event.kind(), agent.name, agent.node)
}

fn told(kind: Kind, name: &str, node: &str) -> (Kind, String, String) {
    (kind, name.to_owned(), node.to_owned())
}

#[tokio::test]
async fn lists_are_in_pages_and_filtered() {
    let (registry, _folder) = registry();
    let node = registry.attach("one");
    node.agents(up((0..5).map(|index| {
        agent(
            &format!("acme/sales/bot/{index}"),
            if index % 2 == 0 { &["quote"] } else { &[] },
        )
    })));
    node.agents(up([
        agent("acme/support/bot/1", &["quote"]),
        agent("other/x/y/z", &[]),
    ]));
    let ask = |pattern: &str, capability: &str, page_token: &str, page_size| ListAgentsRequest {
        pattern: pattern.into(),
        capability: capability.into(),
        page_token: page_token.into(),
        page_size,
    };
    let (first, token) = names(&registry, ask("acme/sales/**", "", "", 3));
    assert_eq!(
        first,
        ["acme/sales/bot/0", "acme/sales/bot/1", "acme/sales/bot/2"]
    );
    let (rest, end) = names(&registry, ask("acme/sales/**", "", &token, 3));
    assert_eq!((rest.len(), end.as_str()), (2, ""));
    assert_eq!(
        names(&registry, ask("*/*/bot/1", "quote", "", 0)).0,
        ["acme/support/bot/1"]
    );
    assert_eq!(names(&registry, ask("", "quote", "", 0)).0.len(), 4);
    assert_eq!(all(&registry).len(), 7);
    let error = registry.page(&ask("a//b", "", "", 0)).expect_err("no pattern");
    assert_eq!(reason_of(&error), "PATTERN_MALFORMED");
}

#[tokio::test]
async fn a_watch_begins_with_who_is_there() {
    let (registry, _folder) = registry();
    let node = registry.attach("one");
    node.agents(up([agent("a/b/c/1", &[]), agent("x/b/c/1", &[])]));
    let mut events: Events = registry.events("a/**".to_owned()).boxed();
    node.agents(up([agent("a/b/c/2", &[]), agent("x/b/c/2", &[])]));
    node.agents(up([agent("a/b/c/1", &["new"])]));
    node.agents(Presence {
        down: vec!["a/b/c/2".into()],
        ..Presence::default()
    });
    assert_eq!(next(&mut events).await, told(Kind::Present, "a/b/c/1", "one"));
    assert_eq!(next(&mut events).await.0, Kind::Synced);
    assert_eq!(next(&mut events).await, told(Kind::Up, "a/b/c/2", "one"));
    assert_eq!(next(&mut events).await, told(Kind::Changed, "a/b/c/1", "one"));
    assert_eq!(next(&mut events).await, told(Kind::Down, "a/b/c/2", "one"));
}

#[tokio::test]
async fn one_who_watches_too_slowly_is_told() {
    let (registry, _folder) = registry();
    let node = registry.attach("one");
    let mut events: Events = registry.events(String::new()).boxed();
    assert_eq!(next(&mut events).await.0, Kind::Synced);
    for index in 0..=EVENTS_MAX {
        node.agents(up([agent(&format!("a/b/c/{index}"), &[])]));
    }
    let lost = events.next().await.expect("it says why").expect_err("too slow");
    assert_eq!(reason_of(&lost), "TOO_SLOW");
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn agents_of_a_lost_node_stay_a_little() {
    let (registry, _folder) = registry();
    let mut events: Events = registry.events(String::new()).boxed();
    assert_eq!(next(&mut events).await.0, Kind::Synced);
    let node = registry.attach("one");
    node.agents(up([agent("a/b/c/1", &[]), agent("a/b/c/2", &[])]));
    drop(node);
    assert_eq!(all(&registry).len(), 2);
    // It comes back with one of them.
    let node = registry.attach("one");
    node.agents(Presence {
        all: true,
        ..up([agent("a/b/c/1", &[])])
    });
    tokio::time::sleep(GRACE / 2).await;
    assert_eq!(all(&registry).len(), 2);
    for (kind, name) in [
        (Kind::Up, "a/b/c/1"),
        (Kind::Up, "a/b/c/2"),
        (Kind::Down, "a/b/c/2"),
    ] {
        assert_eq!(
            next(&mut events).await,
            told(kind, name, "one"),
            "the one that stayed made no noise"
        );
    }
    node.agents(Presence {
        all: true,
        ..Presence::default()
    });
    assert_eq!(
        next(&mut events).await,
        told(Kind::Down, "a/b/c/1", "one"),
        "all is all there is"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_over_one_store_know_each_others_agents() {
    let Some(server) = EtcdServer::start().await else {
        return;
    };
    let open = async || -> Arc<Etcd> { Arc::new(server.open("registry/").await.expect("it answers")) };
    let first = Registry::start(open().await, 100);
    let second = Registry::start(open().await, 100);
    let mut events: Events = second.events(String::new()).boxed();
    assert_eq!(next(&mut events).await.0, Kind::Synced);

    let node = first.attach("one");
    node.node(Node {
        id: "one".into(),
        attached: true,
        ..Node::default()
    });
    node.agents(up([agent("a/b/c/1", &[]), agent("a/b/c/2", &[])]));
    assert_eq!(next(&mut events).await, told(Kind::Up, "a/b/c/1", "one"));
    assert_eq!(next(&mut events).await, told(Kind::Up, "a/b/c/2", "one"));
    assert_eq!(all(&second), ["a/b/c/1", "a/b/c/2"]);
    let nodes = second.nodes().await.expect("readable");
    assert_eq!(
        nodes
            .iter()
            .map(|node| (node.id.as_str(), node.attached))
            .collect::<Vec<_>>(),
        [("one", true)]
    );

    // The agent moves to a node of the other process.
    let other = second.attach("two");
    other.agents(up([agent("a/b/c/1", &[])]));
    assert_eq!(next(&mut events).await, told(Kind::Changed, "a/b/c/1", "two"));
    node.agents(Presence {
        down: vec!["a/b/c/2".into()],
        ..Presence::default()
    });
    assert_eq!(next(&mut events).await, told(Kind::Down, "a/b/c/2", "one"));
    // While nobody says otherwise, the node that it came from still has it.
    other.agents(Presence {
        down: vec!["a/b/c/1".into()],
        ..Presence::default()
    });
    assert_eq!(next(&mut events).await, told(Kind::Changed, "a/b/c/1", "one"));
    node.agents(Presence {
        down: vec!["a/b/c/1".into()],
        ..Presence::default()
    });
    assert_eq!(next(&mut events).await, told(Kind::Down, "a/b/c/1", "one"));
}
