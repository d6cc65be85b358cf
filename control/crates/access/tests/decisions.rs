//! Who may do what, told as conversations with the policies.

use std::sync::Arc;

use ringgate_access::{
    Access, Action, Asked, Bounds, Comparison, Context, Credential, Crowd, Decision, Grants, PolicySet,
    Question, compare,
};
use ringgate_policy::{AgentName, Permission};

struct Gateway {
    access: Access,
    context: Context,
}

impl Gateway {
    fn with(policies: &str) -> Self {
        let policies = PolicySet::parse(policies).unwrap_or_else(|problems| panic!("{}", problems[0]));
        Self {
            access: Access::new(Arc::new(policies), Grants::default()),
            context: Context::new(Credential::Certificate, "node-1"),
        }
    }

    fn grant(mut self, name: &str, role: &str) -> Self {
        self.access.grants_mut().set(name, [role]).expect("valid");
        self
    }

    fn decision(&self, agent: &str, action: Action, resource: &str) -> Decision {
        let who = AgentName::new(agent).expect("valid");
        let asked = Asked::new(&who, action, resource).expect("valid");
        self.access.decide(&who, &self.context, asked)
    }

    fn may(&self, agent: &str, action: Action, resource: &str) -> bool {
        self.decision(agent, action, resource).allowed
    }
}

const A: &str = "acme/demo/a/1";
const B: &str = "acme/demo/b/1";
const C: &str = "acme/demo/c/1";

#[test]
fn without_policies_nothing_is_allowed() {
    let gateway = Gateway::with("");
    for (action, resource) in [
        (Action::Register, ""),
        (Action::Declare, "forecast"),
        (Action::Publish, "t"),
        (Action::Subscribe, "t"),
        (Action::Request, B),
        (Action::Stream, B),
        (Action::Introduce, B),
        (Action::StateRead, "s"),
        (Action::StateWrite, "s"),
    ] {
        let decision = gateway.decision(A, action, resource);
        assert!(!decision.allowed && decision.policies.is_empty(), "{action}");
    }
}

#[test]
fn a_may_talk_to_b_and_not_to_c() {
    let gateway = Gateway::with(
        r#"
        @id("a-to-b")
        permit (principal == Agent::"acme/demo/a/1", action in Action::"reach", resource == Agent::"acme/demo/b/1");
        "#,
    );
    assert!(gateway.may(A, Action::Request, B));
    assert!(gateway.may(A, Action::Stream, B));
    assert!(gateway.may(A, Action::Introduce, B));
    assert!(!gateway.may(A, Action::Request, C));
    assert!(
        !gateway.may(A, Action::Request, "acme/demo/b"),
        "the service is more than the agent"
    );
    assert!(!gateway.may(B, Action::Request, A));
    assert!(!gateway.may(A, Action::Publish, "t"));
    assert_eq!(gateway.decision(A, Action::Request, B).policies, ["a-to-b"]);
}

#[test]
fn a_capability_is_declared_and_asked_for_by_those_who_may() {
    let gateway = Gateway::with(
        r#"
        permit (principal in Service::"acme/demo/a", action == Action::"declare", resource == Capability::"forecast");
        permit (principal in Service::"acme/demo/b", action == Action::"request", resource == Capability::"forecast");
        "#,
    );
    assert!(gateway.may(A, Action::Declare, "forecast"));
    assert!(!gateway.may(A, Action::Declare, "billing"));
    assert!(!gateway.may(B, Action::Declare, "forecast"));
    assert!(gateway.may(B, Action::Request, "forecast"));
    assert!(!gateway.may(B, Action::Stream, "forecast"));
    assert!(!gateway.may(A, Action::Request, "forecast"));
}

#[test]
fn roles_come_down_from_organization_namespace_and_service() {
    let policies = r#"permit (principal in Role::"operator", action == Action::"publish", resource);"#;
    for name in ["acme", "acme/demo", "acme/demo/a", A] {
        let gateway = Gateway::with(policies).grant(name, "operator");
        assert!(gateway.may(A, Action::Publish, "t"), "{name}");
        assert!(!gateway.may("other/demo/a/1", Action::Publish, "t"), "{name}");
    }
    let mut gateway = Gateway::with(policies).grant("acme/demo/b", "operator");
    assert!(!gateway.may(A, Action::Publish, "t"));
    assert!(gateway.may(B, Action::Publish, "t"));
    gateway.access.grants_mut().remove("acme/demo/b");
    assert!(!gateway.may(B, Action::Publish, "t"));
}

#[test]
fn a_role_may_be_required_of_the_one_who_is_asked() {
    let gateway =
        Gateway::with(r#"permit (principal, action in Action::"reach", resource in Role::"public");"#)
            .grant("acme/demo/b", "public");
    assert!(gateway.may(A, Action::Request, B));
    assert!(gateway.may(A, Action::Request, "acme/demo/b"));
    assert!(!gateway.may(A, Action::Request, C));
}

#[test]
fn a_forbid_outweighs_every_permit() {
    let gateway = Gateway::with(
        r#"
        permit (principal, action, resource);
        @id("quarantine") forbid (principal in Role::"quarantined", action, resource);
        "#,
    )
    .grant("acme/demo/c", "quarantined");
    assert!(gateway.may(A, Action::Publish, "t"));
    let decision = gateway.decision(C, Action::Publish, "t");
    assert!(!decision.allowed);
    assert_eq!(decision.policies, ["quarantine"]);
}

#[test]
fn a_forbid_that_cannot_be_evaluated_forbids() {
    let gateway = Gateway::with(
        r#"
        permit (principal, action, resource);
        @id("broken") forbid (principal, action == Action::"publish", resource) when { 9223372036854775807 + 1 > 0 };
        "#,
    );
    let decision = gateway.decision(A, Action::Publish, "t");
    assert!(!decision.allowed);
    assert_eq!(decision.policies, ["broken"]);
    assert!(
        decision.failures[0].contains("overflow"),
        "{:?}",
        decision.failures
    );
    assert!(gateway.may(A, Action::Subscribe, "t"));
}

#[test]
fn a_pattern_needs_the_right_on_all_it_can_match() {
    let gateway = Gateway::with(
        r#"
        permit (principal == Agent::"acme/demo/a/1", action == Action::"subscribe", resource in Topic::"orders");
        permit (principal == Agent::"acme/demo/b/1", action == Action::"subscribe", resource in Topic::"orders/eu");
        permit (principal == Agent::"acme/demo/c/1", action == Action::"subscribe", resource == Topic::"orders");
        "#,
    );
    for pattern in ["orders", "orders/*", "orders/**", "orders/eu/*", "orders/*/paid"] {
        assert!(gateway.may(A, Action::Subscribe, pattern), "{pattern}");
    }
    for pattern in ["**", "*", "*/eu", "ordersx", "invoices/*"] {
        assert!(!gateway.may(A, Action::Subscribe, pattern), "{pattern}");
    }
    assert!(gateway.may(B, Action::Subscribe, "orders/eu/*"));
    assert!(!gateway.may(B, Action::Subscribe, "orders/*"));
    assert!(!gateway.may(B, Action::Subscribe, "orders/*/paid"));
    assert!(gateway.may(C, Action::Subscribe, "orders"));
    assert!(
        !gateway.may(C, Action::Subscribe, "orders/*"),
        "the topic itself is not its subtree"
    );
}

#[test]
fn a_pattern_cannot_go_around_a_forbid_within_it() {
    let gateway = Gateway::with(
        r#"
        permit (principal, action in Action::"topics", resource);
        @id("secret") forbid (principal, action == Action::"subscribe", resource in Topic::"orders/secret");
        "#,
    );
    for pattern in [
        "orders/secret",
        "orders/*",
        "orders/**",
        "**",
        "*/secret",
        "*/*/x",
        "orders/*/x",
    ] {
        let decision = gateway.decision(A, Action::Subscribe, pattern);
        assert!(!decision.allowed, "{pattern}");
        assert_eq!(decision.policies, ["secret"], "{pattern}");
    }
    for pattern in ["orders", "orders/eu/*", "*", "invoices/**", "*/eu"] {
        assert!(gateway.may(A, Action::Subscribe, pattern), "{pattern}");
    }
    assert!(gateway.may(A, Action::Publish, "orders/secret"));
    assert_eq!(
        gateway.decision(A, Action::Subscribe, "orders/*").part.as_deref(),
        Some("orders/secret")
    );
}

#[test]
fn each_namespace_keeps_to_its_own_topics_and_spaces() {
    let gateway = Gateway::with(
        r#"
        permit (principal, action in Action::"topics", resource) when { resource in principal.namespace.topics };
        permit (principal, action in Action::"state", resource) when { resource in principal.namespace.spaces };
        permit (principal, action in Action::"reach", resource is Agent) when { principal.namespace == resource.namespace };
        "#,
    );
    assert!(gateway.may(A, Action::Publish, "acme/demo/alerts"));
    assert!(gateway.may(A, Action::Subscribe, "acme/demo/**"));
    assert!(!gateway.may(A, Action::Subscribe, "acme/**"));
    assert!(!gateway.may(A, Action::Publish, "acme/other/alerts"));
    assert!(gateway.may(A, Action::StateWrite, "acme/demo/plan"));
    assert!(!gateway.may(A, Action::StateRead, "acme"));
    assert!(gateway.may(A, Action::Request, B));
    assert!(!gateway.may(A, Action::Request, "acme/other/b/1"));
}

#[test]
fn conditions_see_the_credential_and_the_node() {
    let mut gateway = Gateway::with(
        r#"permit (principal, action == Action::"publish", resource)
           when { context.credential == Credential::"certificate" && context.node == "node-1" };"#,
    );
    assert!(gateway.may(A, Action::Publish, "t"));
    gateway.context = Context::new(Credential::Token, "node-1");
    assert!(!gateway.may(A, Action::Publish, "t"));
    gateway.context = Context::new(Credential::Certificate, "node-2");
    assert!(!gateway.may(A, Action::Publish, "t"));
}

#[test]
fn the_starter_lets_the_enrolled_do_everything() {
    let mut gateway = Gateway::with(ringgate_access::STARTER);
    let asked = [
        (Action::Register, ""),
        (Action::Declare, "forecast"),
        (Action::Publish, "t"),
        (Action::Subscribe, "**"),
        (Action::Request, "acme/demo/b"),
        (Action::Stream, "forecast"),
        (Action::Introduce, B),
        (Action::StateRead, "s"),
        (Action::StateWrite, "s"),
    ];
    for (action, resource) in asked {
        assert!(gateway.may(A, action, resource), "{action}");
    }
    gateway.context = Context::new(Credential::Declared, "node-1");
    for (action, resource) in asked {
        assert!(!gateway.may(A, action, resource), "{action}");
    }
    assert_eq!(gateway.access.policies().warnings(), []);
}

#[test]
fn the_starters_examples_are_sound() {
    let statements: String = ringgate_access::STARTER
        .lines()
        .filter_map(|line| line.strip_prefix("//   "))
        .filter(|line| {
            ["permit", "forbid", "unless", "@id"]
                .iter()
                .any(|word| line.trim_start().starts_with(word))
        })
        .collect();
    let examples = PolicySet::parse(&statements).unwrap_or_else(|problems| panic!("{}", problems[0]));
    assert_eq!(examples.len(), 10);
    assert_eq!(examples.warnings(), []);
}

#[test]
fn a_denial_says_who_what_why_and_what_to_do() {
    let gateway = Gateway::with(
        r#"
        permit (principal, action in Action::"topics", resource);
        @id("secret") forbid (principal, action, resource in Topic::"secret");
        "#,
    );
    let who = AgentName::new(A).expect("valid");
    let denial = |what| {
        let denied = gateway.access.check(&who, &gateway.context, what);
        denied.expect_err("not allowed").reason
    };
    assert_eq!(
        denial(Permission::Request(B)),
        "acme/demo/a/1 may not request acme/demo/b/1: no policy permits it; ask the operator, who sees more by \
         `ringgate policy why acme/demo/a/1 request 'acme/demo/b/1'`"
    );
    assert_eq!(
        denial(Permission::Subscribe("**")),
        "acme/demo/a/1 may not subscribe ** (at secret, which the pattern covers): forbidden by `secret`; ask the operator, who \
         sees more by `ringgate policy why acme/demo/a/1 subscribe '**'`"
    );
    assert!(denial(Permission::Request("a/b")).contains("2 segments"));
    assert!(
        gateway
            .access
            .check(&who, &gateway.context, Permission::Publish("t"))
            .is_ok()
    );
}

#[test]
fn why_names_policies_roles_and_what_would_permit_it() {
    let gateway = Gateway::with(
        r#"
        @id("writers") permit (principal in Role::"writer", action == Action::"publish", resource in Topic::"orders");
        @id("from-node-2") permit (principal, action == Action::"subscribe", resource) when { context.node == "node-2" };
        "#,
    )
    .grant("acme/demo", "writer");
    let who = AgentName::new(A).expect("valid");
    let why = |action, resource| {
        let asked = Asked::new(&who, action, resource).expect("valid");
        gateway.access.why(&who, &gateway.context, asked)
    };
    let allowed = why(Action::Publish, "orders/eu");
    assert_eq!(allowed.roles, ["writer"]);
    assert_eq!(
        allowed.text,
        "acme/demo/a/1 may publish orders/eu: permitted by `writers`, and nothing forbids it.\nIt holds `writer`."
    );
    let refused = why(Action::Subscribe, "orders/*");
    assert_eq!(
        refused.text,
        "acme/demo/a/1 may not subscribe orders/*: no policy permits it.\nIt holds `writer`.\n\
         In scope, but with conditions that do not hold: `from-node-2`.\n\
         This would permit it: permit (principal == Agent::\"acme/demo/a/1\", action == Action::\"subscribe\", resource in \
         Topic::\"orders\");"
    );
    let advised = refused.text.rsplit("permit it: ").next().expect("advice");
    assert!(
        Gateway::with(advised).may(A, Action::Subscribe, "orders/*"),
        "the advice holds"
    );
}

fn parsed(text: &str) -> Arc<PolicySet> {
    Arc::new(PolicySet::parse(text).unwrap_or_else(|problems| panic!("{}", problems[0])))
}

fn crowd<const N: usize>(agents: [&str; N]) -> Crowd {
    Crowd {
        agents: agents.map(|name| AgentName::new(name).expect("valid")).into(),
        ..Crowd::default()
    }
}

fn told(found: &Comparison) -> Vec<(&str, &str, &str, bool)> {
    let changes = found.changes.iter();
    changes
        .map(|change| {
            let Question { action, resource } = &change.question;
            (
                change.agent.as_str(),
                action.name(),
                resource.as_str(),
                change.allowed_before,
            )
        })
        .collect()
}

const BOUNDS: Bounds = Bounds {
    decisions_max: 1_000,
    listed_bytes_max: 10_000,
};

#[test]
fn a_dry_run_tells_what_would_change_for_whom() {
    let now = Gateway::with(r#"permit (principal, action in Action::"topics", resource);"#)
        .grant("acme/demo/b", "guest");
    let after = parsed(
        r#"
        permit (principal, action in Action::"topics", resource);
        forbid (principal in Role::"guest", action == Action::"subscribe", resource in Topic::"orders/secret");
        permit (principal in Role::"guest", action == Action::"request", resource == Capability::"help");
        "#,
    );
    let found = compare(&now.access, after, &now.context, &crowd([A, B, C]), BOUNDS);
    assert_eq!(
        told(&found),
        [
            (B, "subscribe", "orders/secret", true),
            (B, "subscribe", "orders/secret/**", true),
            (B, "request", "help", false),
        ]
    );
    assert_eq!(
        (
            found.agents_concerned,
            found.agents_examined,
            found.decisions_examined
        ),
        (1, 1, 3),
        "the changed policies are about guests alone"
    );
}

#[test]
fn a_dry_run_asks_what_the_other_policies_name_when_a_broad_one_changes() {
    let now = Gateway::with(
        r#"permit (principal, action, resource);
        permit (principal, action == Action::"publish", resource in Topic::"alerts");"#,
    );
    let after = parsed(
        r#"permit (principal, action == Action::"publish", resource in Topic::"alerts");
        permit (principal, action == Action::"publish", resource) when { resource in principal.service.topics };
        permit (principal, action in Action::"reach", resource is Service) when { resource.namespace == principal.namespace };"#,
    );
    let other = "acme/else/x/1";
    let found = compare(&now.access, after, &now.context, &crowd([A, other]), BOUNDS);
    let told = told(&found);
    assert!(
        told.iter().all(|(_, _, _, before)| *before),
        "it only takes: {told:?}"
    );
    let loses = |agent, action, resource| told.contains(&(agent, action, resource, true));
    assert!(loses(A, "register", ""));
    assert!(loses(A, "publish", "(any other)"));
    assert!(
        !loses(A, "publish", "alerts/(any other)"),
        "another policy permits it still"
    );
    assert!(!loses(A, "publish", "acme/demo/a/(any other)"), "its own");
    assert!(loses(A, "publish", "acme/demo/(any other)"));
    assert!(!loses(A, "request", "acme/demo/a"), "its namespace");
    assert!(
        loses(other, "request", "acme/demo/a"),
        "services there are, are asked for"
    );
}

#[test]
fn a_dry_run_is_bounded_and_sees_every_kind_of_agent_first() {
    let now = Gateway::with("").grant("acme/demo/a/3", "guest");
    let after = parsed(r#"permit (principal, action == Action::"publish", resource == Topic::"t");"#);
    let agents = crowd(["acme/demo/a/1", "acme/demo/a/2", "acme/demo/a/3", "acme/demo/b/1"]);
    let some = Bounds {
        decisions_max: 6,
        ..BOUNDS
    };
    let found = compare(&now.access, after.clone(), &now.context, &agents, some);
    let who: Vec<_> = told(&found).into_iter().map(|(agent, ..)| agent).collect();
    assert_eq!(who, ["acme/demo/a/1", "acme/demo/a/3", "acme/demo/b/1"]);
    assert_eq!(
        (
            found.agents_concerned,
            found.agents_examined,
            found.decisions_examined
        ),
        (4, 3, 6)
    );
    let little = Bounds {
        listed_bytes_max: 40,
        ..BOUNDS
    };
    let found = compare(&now.access, after, &now.context, &agents, little);
    assert_eq!(
        (found.changes.len(), found.unlisted, found.agents_examined),
        (2, 2, 4)
    );
}

#[test]
fn policies_that_only_moved_concern_nobody() {
    let (one, two) = (
        r#"permit (principal, action == Action::"publish", resource);"#,
        r#"forbid (principal, action == Action::"subscribe", resource);"#,
    );
    let now = Gateway::with(&format!("{one}\n{two}"));
    let found = compare(
        &now.access,
        parsed(&format!("// moved\n{two}\n{one}")),
        &now.context,
        &crowd([A]),
        BOUNDS,
    );
    assert_eq!(found, Comparison::default());
}
