//! Texts that are refused, with where and why.

use ringgate_access::{POLICY_TEXT_BYTES_MAX, PolicySet, Problem};

fn refused(text: &str) -> Vec<Problem> {
    PolicySet::parse(text)
        .err()
        .unwrap_or_else(|| panic!("taken: {text}"))
}

/// The first problem must stand there, in that policy, and say that.
#[track_caller]
fn refused_at(text: &str, (line, column): (u32, u32), policy: &str, words: &str) {
    let problems = refused(text);
    let problem = &problems[0];
    assert_eq!(
        (problem.line, problem.column, problem.policy.as_str()),
        (line, column, policy),
        "{problem}"
    );
    assert!(problem.message.contains(words), "{problem}");
}

#[test]
fn syntax() {
    refused_at(
        "permit (principal, action, resource)",
        (1, 37),
        "",
        "unexpected end of input",
    );
    refused_at(
        "permit (principal, action, resource);\n\npermit (principal, acton, resource);",
        (3, 20),
        "",
        "acton",
    );
    refused_at(
        "permit (principal, action, resource) when { \"ü\" == \"a\" && };",
        (1, 59),
        "",
        "unexpected token `}`",
    );
}

#[test]
fn every_syntax_error_is_told() {
    let problems = refused("permit (principal, act, resource);\npermit (prince, action, resource);");
    assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn words_the_schema_does_not_have() {
    refused_at(
        "@id(\"x\")\npermit (principal, action == Action::\"publsh\", resource);",
        (2, 30),
        "x",
        "publish",
    );
    refused_at(
        "permit (principal in Team::\"a\", action, resource);",
        (1, 22),
        "policy0",
        "Team",
    );
    refused_at(
        "permit (principal, action, resource)\nwhen { principal.colour == \"red\" };",
        (2, 8),
        "policy0",
        "attribute `colour`",
    );
    refused_at(
        "permit (principal, action, resource) when { context.credential == Credential::\"passport\" };",
        (1, 67),
        "policy0",
        "passport",
    );
}

#[test]
fn types_that_do_not_fit() {
    refused_at(
        "permit (principal, action, resource) when { context.node > 3 };",
        (1, 45),
        "policy0",
        "Long",
    );
    refused_at(
        "permit (principal, action in Action::\"reach\", resource) when { principal.namespace == resource.namespace };",
        (1, 87),
        "policy0",
        "attribute `namespace`",
    );
}

#[test]
fn names_that_can_never_be() {
    refused_at(
        "permit (principal, action == Action::\"subscribe\",\n  resource in Topic::\"orders/*\");",
        (2, 15),
        "policy0",
        "no wildcards",
    );
    refused_at(
        "permit (principal == Agent::\"acme/demo\", action, resource);",
        (1, 22),
        "policy0",
        "2 segments",
    );
    refused_at(
        "permit (principal in Namespace::\"acme\", action, resource);",
        (1, 22),
        "policy0",
        "organization/namespace",
    );
}

#[test]
fn the_text_of_a_topic_cannot_limit_patterns() {
    refused_at(
        "@id(\"eu\")\nforbid (principal, action in Action::\"topics\", resource)\nwhen { resource.path like \"*/eu\" };",
        (3, 17),
        "eu",
        "no one path",
    );
    let publish =
        "permit (principal, action == Action::\"publish\", resource) when { resource.path like \"*/eu\" };";
    assert!(PolicySet::parse(publish).is_ok());
}

#[test]
fn ids_are_unique_and_printable() {
    refused_at(
        "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") permit (principal, action, resource);",
        (2, 1),
        "x",
        "another policy",
    );
    refused_at(
        "@id(\"\") permit (principal, action, resource);",
        (1, 1),
        "",
        "@id",
    );
}

#[test]
fn templates_are_refused() {
    refused_at(
        "permit (principal == ?principal, action, resource);",
        (1, 22),
        "policy0",
        "template",
    );
}

#[test]
fn too_long() {
    let text = " ".repeat(POLICY_TEXT_BYTES_MAX + 1);
    refused_at(&text, (1, 1), "", "at most 524288");
}

#[test]
fn what_can_never_apply_is_a_warning() {
    let set =
        PolicySet::parse("@id(\"odd\")\npermit (principal is Service, action, resource);").expect("taken");
    assert!(
        set.warnings()
            .iter()
            .any(|warning| warning.message.contains("impossible"))
    );
    for warning in set.warnings() {
        assert_eq!(
            (warning.policy.as_str(), warning.line, warning.fatal),
            ("odd", 1, false)
        );
    }
}
