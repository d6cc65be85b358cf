//! How long the first decision takes, by the number of policies: `cargo run --release -p ringgate-access --example first_decision`.
//!
//! Policies are as installations write them: each lets one service do one thing to one subtree, service or capability; a tenth speak of
//! a role, a twentieth forbid. One hundred thousand agents have grants. Prints medians; asserts nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate_access::{Access, Action, Asked, Context, Credential, Grants, PolicySet};
use ringgate_policy::AgentName;

fn main() {
    let context = Context::new(Credential::Certificate, "node-1");
    for count in [10, 100, 1_000, 3_000] {
        let text = policies(count);
        let started = Instant::now();
        let set = PolicySet::parse(&text).unwrap_or_else(|problems| panic!("{}", problems[0]));
        println!("{count} policies, parsed in {:?}", started.elapsed());
        let started = Instant::now();
        let access = Access::new(Arc::new(set), grants(100_000));
        println!("  100000 grants, made in {:?}", started.elapsed());
        for (action, resource) in [
            (Action::Register, ""),
            (Action::Publish, "topics/7/orders/eu"),
            (Action::Subscribe, "topics/7/orders"),
            (Action::Subscribe, "topics/7/**"),
            (Action::Subscribe, "topics/**"),
            (Action::Request, "acme/ns3/service3/1"),
            (Action::Request, "forecast"),
            (Action::StateWrite, "plans/x"),
        ] {
            let took = median(|n| {
                let who =
                    AgentName::new(&format!("acme/ns{}/service{}/{n}", n % 10, n % 1_000)).expect("valid");
                let started = Instant::now();
                let asked = Asked::new(&who, action, resource).expect("valid");
                let decision = access.decide(&who, &context, asked);
                let took = started.elapsed();
                drop(decision);
                took
            });
            println!("  {action:<12} {resource:<22} {took:?}");
        }
    }
}

fn policies(count: usize) -> String {
    let mut text = String::from("permit (principal, action in Action::\"attach\", resource);\n");
    text += "permit (principal in Role::\"staff\", action == Action::\"subscribe\", resource in Topic::\"topics\");\n";
    for n in 2..count {
        let service = format!("Service::\"acme/ns{}/service{n}\"", n % 10);
        let line = match n % 20 {
            0 => {
                format!("forbid (principal in {service}, action, resource in Topic::\"topics/{n}/secret\");")
            }
            1 | 2 => format!(
                "permit (principal in Role::\"role{n}\", action in Action::\"topics\", resource in Topic::\"topics/{n}\");"
            ),
            3..=8 => format!(
                "permit (principal in {service}, action == Action::\"publish\", resource in Topic::\"topics/{n}\");"
            ),
            9..=13 => format!(
                "permit (principal in {service}, action == Action::\"subscribe\", resource in Topic::\"topics/{n}\");"
            ),
            14..=17 => format!(
                "permit (principal in {service}, action in Action::\"reach\", resource in Service::\"acme/ns1/service{n}\");"
            ),
            _ => format!(
                "permit (principal, action == Action::\"request\", resource == Capability::\"capability{n}\");"
            ),
        };
        writeln!(text, "@id(\"p{n}\") {line}").expect("a String takes all");
    }
    text
}

fn grants(count: usize) -> Grants {
    let mut grants = Grants::default();
    for n in 0..count {
        let name = format!("acme/ns{}/service{}/{n}", n % 10, n % 1_000);
        grants
            .set(&name, [format!("role{}", n % 1_000), "staff".to_owned()])
            .expect("valid");
    }
    grants
}

fn median(run: impl Fn(usize) -> Duration) -> Duration {
    let mut took: Vec<Duration> = (0..2_001).map(run).collect();
    took.sort_unstable();
    took[took.len() / 2]
}
