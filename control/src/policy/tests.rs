//! The service over an embedded store, as operators call it.

use std::net::{Ipv4Addr, SocketAddr};

use ringgate_access::GRANTS_MAX;
use ringgate_proto::control::v1::{Agent, AuditEntry, DecisionChange, Presence};
use ringgate_store::{Redb, Transaction, Write};
use tempfile::TempDir;

use super::*;
use crate::caller::Presented;
use crate::errors::reason_of;
use crate::settings::Settings;

const READERS: &str = r#"@id("readers") permit (principal in Role::"reader", action == Action::"subscribe", resource in Topic::"news");"#;

struct World {
    service: PolicyService,
    registry: Registry,
    _folder: TempDir,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            state_dir: folder.path().to_owned(),
            ..Settings::default()
        };
        let store = Redb::open(&folder.path().join("store/store.redb")).expect("a store");
        let context = Context::start(Arc::new(settings), Arc::new(store))
            .await
            .expect("started");
        let registry = Registry::start(context.store.clone(), 10);
        World {
            service: PolicyService::new(context, registry.clone()),
            registry,
            _folder: folder,
        }
    }

    /// What others would have written.
    async fn write(&self, writes: impl IntoIterator<Item = Write>) {
        let committed = self
            .service
            .context
            .store
            .commit(Transaction::new().writes(writes))
            .await;
        committed.expect("committed");
    }

    async fn apply(&self, text: &str, expect_version: u64) -> Result<u64, Status> {
        let request = call(ApplyPolicyRequest {
            text: text.to_owned(),
            expect_version,
        });
        self.service
            .apply_policy(request)
            .await
            .map(|applied| applied.into_inner().version)
    }

    async fn get(&self, version: u64) -> Result<PolicySet, Status> {
        let got = self.service.get_policy(call(GetPolicyRequest { version })).await;
        got.map(Response::into_inner)
    }

    async fn check(&self, text: &str) -> CheckPolicyResponse {
        let request = call(ApplyPolicyRequest {
            text: text.to_owned(),
            expect_version: 0,
        });
        self.service
            .check_policy(request)
            .await
            .expect("checked")
            .into_inner()
    }

    async fn grant<const N: usize>(&self, name: &str, roles: [&str; N]) -> Result<u64, Status> {
        let grant = Grant {
            name: name.to_owned(),
            roles: roles.map(str::to_owned).into(),
        };
        let set = self
            .service
            .set_grant(call(SetGrantRequest { grant: Some(grant) }))
            .await;
        set.map(|set| set.into_inner().version)
    }

    async fn why(&self, agent: &str, action: &str, resource: &str) -> Result<WhyResponse, Status> {
        let request = WhyRequest {
            agent: agent.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
        };
        self.service.why(call(request)).await.map(Response::into_inner)
    }

    async fn audited(&self) -> Vec<AuditEntry> {
        let page = keys::AUDIT
            .after(&*self.service.context.store, 0, 100)
            .await
            .expect("read");
        page.items.into_iter().map(|(_, stored)| stored.value).collect()
    }
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let caller = Caller::new(Presented::Nothing, address, "Policy/Test", true);
    request.extensions_mut().insert(caller);
    request
}

#[tokio::test]
async fn policies_are_replaced_by_those_who_know_the_version() {
    let world = World::new().await;
    let starter = world.get(0).await.expect("the starter");
    assert_eq!(
        (starter.version, starter.text.as_str()),
        (1, ringgate_access::STARTER)
    );

    assert_eq!(world.apply(READERS, 1).await.expect("applied"), 2);
    assert_eq!(world.get(0).await.expect("in force").text, READERS);
    assert_eq!(world.get(1).await.expect("kept"), starter);

    let refused = world.apply("", 1).await.expect_err("somebody was first");
    assert_eq!(
        (refused.code(), reason_of(&refused)),
        (Code::Aborted, "VERSION_CONFLICT".into())
    );
    assert_eq!(world.apply(READERS, 0).await.expect("in force already"), 2);
    assert_eq!(world.apply("", 0).await.expect("whatever is there"), 3);
    let refused = world.get(9).await.expect_err("there is none");
    assert_eq!(reason_of(&refused), "NOT_FOUND");

    let details: Vec<_> = world
        .audited()
        .await
        .into_iter()
        .map(|entry| entry.detail)
        .collect();
    let begins = [
        "version 2, 1 policies, sha256 ",
        "in force already: version 2, ",
        "version 3, 0 policies, ",
    ];
    assert_eq!(details.len(), begins.len(), "{details:?}");
    for (detail, begin) in details.iter().zip(begins) {
        assert!(detail.starts_with(begin), "{detail}");
    }
}

#[tokio::test]
async fn a_bad_policy_is_refused_where_it_is_bad_and_changes_nothing() {
    let world = World::new().await;
    let bad =
        "permit (principal, action, resource);\npermit (principal, action == Action::\"sing\", resource);";
    let refused = world.apply(bad, 0).await.expect_err("there is no such action");
    assert_eq!(
        (refused.code(), reason_of(&refused)),
        (Code::InvalidArgument, "POLICY_INVALID".into())
    );
    let details = refused.get_error_details();
    let about = &details.error_info().expect("a reason").metadata;
    assert_eq!(about["line"], "2");
    assert!(
        refused.message().starts_with(&format!("2:{}: ", about["column"])),
        "{}",
        refused.message()
    );
    let places: Vec<_> = details
        .bad_request()
        .expect("places")
        .field_violations
        .iter()
        .map(|at| &at.field)
        .collect();
    assert!(
        places.iter().all(|place| place.starts_with("text:2:")),
        "{places:?}"
    );

    let found = world.check(bad).await;
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.fatal && problem.line == 2),
        "{found:?}"
    );
    assert_eq!((found.agents_examined, found.changes.len()), (0, 0));
    assert_eq!(world.get(0).await.expect("in force").version, 1);
    assert!(world.audited().await.is_empty(), "the gate writes refusals");
}

#[tokio::test]
async fn the_longest_text_fits_the_store_and_a_longer_one_is_refused() {
    let world = World::new().await;
    let max = ringgate_access::POLICY_TEXT_BYTES_MAX;
    let filled = |bytes: usize| format!("{READERS}\n// {}", "x".repeat(bytes - READERS.len() - 4));
    assert_eq!(world.apply(&filled(max), 0).await.expect("applied"), 2);
    assert_eq!(world.get(0).await.expect("in force").text.len(), max);
    let refused = world.apply(&filled(max + 1), 0).await.expect_err("too long");
    assert_eq!(reason_of(&refused), "POLICY_INVALID");
}

#[tokio::test]
async fn the_oldest_version_goes_when_there_are_too_many() {
    let world = World::new().await;
    let newest = PolicySet {
        text: String::new(),
        version: HISTORY_MAX,
    };
    world.write([keys::policy().put(&newest)]).await;
    assert!(world.get(1).await.is_ok());
    assert_eq!(world.apply(READERS, 0).await.expect("applied"), HISTORY_MAX + 1);
    assert!(world.get(1).await.is_err(), "it is gone");
    assert!(world.get(HISTORY_MAX + 1).await.is_ok());
}

#[tokio::test]
async fn grants_are_set_taken_away_and_listed_by_pages() {
    let world = World::new().await;
    let mut version = 0;
    for (name, roles) in [
        ("acme", ["b", "a"]),
        ("acme/x/y", ["c", "c"]),
        ("acme/x/z", ["d", "e"]),
    ] {
        let set = world.grant(name, roles).await.expect("set");
        assert!(set > version, "each change has a later version");
        version = set;
    }
    world.grant("acme/x/y", []).await.expect("taken away");
    let (mut listed, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListGrantsRequest {
            page_token,
            page_size: 1,
        };
        let page = world
            .service
            .list_grants(call(request))
            .await
            .expect("listed")
            .into_inner();
        listed.extend(
            page.grants
                .into_iter()
                .map(|grant| (grant.name, grant.roles.join(" "))),
        );
        (pages, page_token) = (pages + 1, page.next_page_token);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(
        listed,
        [
            ("acme".into(), "a b".into()),
            ("acme/x/z".into(), "d e".to_owned())
        ]
    );
    assert_eq!(pages, 3, "what was taken away takes part of a page");
    let stored = keys::grant("acme/x/y")
        .get(&*world.service.context.store)
        .await
        .expect("read");
    assert_eq!(stored.expect("nodes must learn of it").value.roles, [""; 0]);

    for (name, role) in [
        ("", "a"),
        ("a/b/c/d/e", "a"),
        ("a//b", "a"),
        ("a/*", "a"),
        ("a", "b/c"),
        ("a", ""),
    ] {
        let refused = world.grant(name, [role]).await.expect_err(name);
        assert_eq!(reason_of(&refused), "GRANT_MALFORMED", "{name} {role}");
    }
}

#[tokio::test]
async fn so_many_names_have_roles_and_no_more() {
    let world = World::new().await;
    world.grant("a", ["r"]).await.expect("set");
    world
        .write([keys::granted_names().put(&(GRANTS_MAX as u64))])
        .await;
    let refused = world.grant("b", ["r"]).await.expect_err("one too many");
    assert_eq!(reason_of(&refused), "TOO_MANY_GRANTS");
    world.grant("a", ["s"]).await.expect("it is one of them");
    world
        .grant("c", [])
        .await
        .expect("there was nothing, and nothing comes");
}

#[tokio::test]
async fn why_knows_the_roles_of_both_ends() {
    let world = World::new().await;
    let policies = format!(
        "{READERS}\n@id(\"desk\") permit (principal in Role::\"reader\", action == Action::\"request\", resource in Role::\"desk\");"
    );
    world.apply(&policies, 0).await.expect("applied");
    let agent = "acme/press/reader/1";
    let before = world.why(agent, "subscribe", "news/**").await.expect("asked");
    assert!(!before.allowed && before.roles.is_empty(), "{before:?}");
    world.grant("acme/press", ["reader"]).await.expect("granted");
    let after = world.why(agent, "subscribe", "news/**").await.expect("asked");
    assert!(after.allowed, "{after:?}");
    assert_eq!(
        (after.policies, after.roles),
        (vec!["readers".to_owned()], vec!["reader".to_owned()])
    );
    assert!(
        !world
            .why(agent, "request", "acme/help/desk")
            .await
            .expect("asked")
            .allowed
    );
    world.grant("acme/help", ["desk"]).await.expect("granted");
    assert!(
        world
            .why(agent, "request", "acme/help/desk")
            .await
            .expect("asked")
            .allowed
    );

    for (agent, action, resource, reason) in [
        ("acme/press", "publish", "t", "AGENT_MALFORMED"),
        (agent, "sing", "t", "ACTION_UNKNOWN"),
        (agent, "publish", "t/*", "RESOURCE_MALFORMED"),
    ] {
        let refused = world.why(agent, action, resource).await.expect_err(reason);
        assert_eq!(
            (refused.code(), reason_of(&refused)),
            (Code::InvalidArgument, reason.to_owned())
        );
    }
}

#[tokio::test]
async fn a_check_tells_for_whom_what_changes() {
    let world = World::new().await;
    world.apply("", 0).await.expect("nothing is allowed");
    let uri = |path: &str| format!("agp://ringgate.local/{path}");
    // More certificates of the first than fit a page, then one more agent, and a node, which is none.
    let mut issued: Vec<Write> = (1..=100)
        .map(|number| keys::issued_identity(&uri("acme/press/a/1"), number).put(&number))
        .collect();
    issued.push(keys::issued_identity(&uri("acme/press/b/1"), 101).put(&101));
    issued.push(keys::issued_identity(&uri("node/n"), 102).put(&102));
    world.write(issued).await;
    world.grant("acme/press/b", ["reader"]).await.expect("granted");
    // Many that are there, so that they fill more than a page of the registry.
    let node = world.registry.attach("n");
    let agent = |number| Agent {
        name: format!("acme/desk/c/{number}"),
        capabilities: vec!["file".to_owned()],
        ..Agent::default()
    };
    node.agents(Presence {
        all: true,
        up: (0..25).map(agent).collect(),
        down: Vec::new(),
    });

    let told = |change: &DecisionChange| {
        assert!(change.allowed_after && !change.allowed_before);
        format!("{} {} {}", change.agent, change.action, change.resource)
    };
    let found = world.check(READERS).await;
    let changes: Vec<_> = found.changes.iter().map(told).collect();
    assert_eq!(
        changes,
        [
            "acme/press/b/(any other) subscribe news",
            "acme/press/b/(any other) subscribe news/**",
            "acme/press/b/1 subscribe news",
            "acme/press/b/1 subscribe news/**",
        ]
    );
    assert_eq!((found.agents_examined, found.decisions_examined), (2, 4));
    assert!(found.problems.is_empty(), "{found:?}");

    let everyone = r#"permit (principal, action == Action::"publish", resource == Topic::"news");"#;
    let found = world.check(everyone).await;
    assert_eq!(
        found.agents_examined, 28,
        "a/1, b/1, somebody of b, and those who are there"
    );
    let declare = r#"permit (principal, action == Action::"declare", resource);"#;
    let found = world.check(declare).await;
    assert!(
        found.changes.iter().any(|change| change.resource == "file"),
        "a capability that there is: {found:?}"
    );
    assert_eq!(
        world.get(0).await.expect("in force").version,
        2,
        "nothing was changed"
    );
    let request = call(ApplyPolicyRequest {
        text: String::new(),
        expect_version: 1,
    });
    let refused = world
        .service
        .check_policy(request)
        .await
        .expect_err("another version is in force");
    assert_eq!(reason_of(&refused), "VERSION_CONFLICT");
}
