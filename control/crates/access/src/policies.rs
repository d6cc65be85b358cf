//! Policy texts: read, checked, and made ready to decide by.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Effect, EntityUid, Policy, PolicyId, PolicySet as CedarSet, ValidationMode, Validator};
use ringgate_policy::{AgentName, NameError, Topic, capability, service};

use crate::index::{Index, actions};
use crate::problem::Problem;
use crate::vocabulary::{Action, Kind, WORDS};

/// Longest policy text in bytes: some thousand policies. The store takes it twice in one transaction, as what is in force and as
/// history, and one has at most 1.25 MiB.
pub const POLICY_TEXT_BYTES_MAX: usize = 512 * 1024;
/// Most policies of a set: ten times what installations are built for. Bounds the work of reading one.
pub const POLICIES_MAX: usize = 10_000;

/// A set of policies that was checked. Never changes; share it in an [`Arc`].
#[derive(Debug)]
pub struct PolicySet {
    text: Arc<str>,
    pub(crate) policies: CedarSet,
    pub(crate) index: Index,
    /// Whether a decision on a subscription may be stricter at the topics named like the subscriber and what it is in.
    pub(crate) own_topics: bool,
    /// The entities that policies name, with the actions they name them for.
    pub(crate) named: BTreeMap<Action, BTreeSet<(&'static str, String)>>,
    warnings: Vec<Problem>,
}

impl PolicySet {
    /// Reads and checks policies: syntax, then everything that [`crate::SCHEMA`] says of types (Cedar's strict validation), then names.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the text, warnings included.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        if text.len() > POLICY_TEXT_BYTES_MAX {
            let message = format!(
                "the text has {} bytes; at most {POLICY_TEXT_BYTES_MAX} are allowed: join statements that differ in one name by a role",
                text.len()
            );
            return Err(vec![Problem::at(text, 0, "", message)]);
        }
        let read = CedarSet::from_str(text).map_err(|errors| {
            let found = errors.iter().map(|error| Problem::of_cedar(text, "", error, 0));
            sorted(found.collect())
        })?;
        let mut checker = Checker {
            text,
            problems: Vec::new(),
        };
        let statements = checker.statements(&read);
        let policies = checker.named_set(&statements);
        checker.validate(&policies, &statements);
        for statement in &statements {
            checker.literals(statement);
            checker.path(statement);
        }
        let problems = sorted(checker.problems);
        if problems.iter().any(|problem| problem.fatal) {
            return Err(problems);
        }
        Ok(Self::ready(text, policies, problems))
    }

    fn ready(text: &str, policies: CedarSet, warnings: Vec<Problem>) -> Self {
        let mut set = Self {
            text: text.into(),
            index: Index::default(),
            own_topics: false,
            named: BTreeMap::new(),
            warnings,
            policies,
        };
        for policy in set.policies.policies() {
            set.index.insert(policy);
            let literals: Vec<_> = policy.entity_literals().iter().filter_map(name_of).collect();
            for action in actions(policy) {
                let named = set.named.entry(action).or_default();
                named.extend(literals.iter().map(|(kind, id)| (kind.name(), id.clone())));
            }
            // A permit without conditions can only add rights at the topic it names.
            let conditional = policy.effect() == Effect::Forbid || policy.has_non_scope_constraint();
            if conditional && actions(policy).contains(&Action::Subscribe) {
                let topics = literals.into_iter().filter(|(kind, _)| *kind == Kind::Topic);
                set.index.note_strict(policy, topics.map(|(_, id)| id));
                set.own_topics |= reads(policy, "topics");
            }
        }
        set
    }

    /// The text it was read from.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.num_of_policies()
    }

    /// Whether there are none: then nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// What is likely a mistake, in the order of the text: policies that can never apply, above all.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup();
    problems
}

/// One policy and where it stands.
struct Statement {
    policy: Policy,
    id: String,
    start: usize,
    source: String,
}

struct Checker<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn refuse(&mut self, offset: usize, policy: &str, message: String) {
        self.problems
            .push(Problem::at(self.text, offset, policy, message));
    }

    /// The policies in the order of the text, under the ids that people gave them.
    fn statements(&mut self, read: &CedarSet) -> Vec<Statement> {
        for template in read.templates() {
            let source = template.to_cedar();
            let start = self.text.find(&source).unwrap_or(0);
            let slot = ["?principal", "?resource"]
                .iter()
                .find_map(|slot| source.find(slot));
            let message = "a policy with a slot is a template, and nothing fills it here; write a name or a role in its place";
            self.refuse(
                start + slot.unwrap_or(0),
                template.id().as_ref(),
                message.to_owned(),
            );
        }
        // Cedar numbers policies as they come and returns them in no order.
        let number = |policy: &&Policy| -> usize {
            let id: &str = policy.id().as_ref();
            id.trim_start_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap_or(0)
        };
        let mut policies: Vec<&Policy> = read.policies().collect();
        policies.sort_by_key(number);
        if policies.len() > POLICIES_MAX {
            let message = format!(
                "there are {} policies; at most {POLICIES_MAX} are allowed: join statements that differ in one name by a role",
                policies.len()
            );
            self.refuse(0, "", message);
            policies.truncate(POLICIES_MAX);
        }
        let mut from = 0;
        let mut statements = Vec::with_capacity(policies.len());
        for policy in policies {
            let source = policy.to_cedar().unwrap_or_default();
            let start = self.text[from..].find(&source).map_or(from, |at| from + at);
            from = start + source.len();
            statements.push(Statement {
                policy: policy.clone(),
                id: policy.annotation("id").unwrap_or(policy.id().as_ref()).to_owned(),
                start,
                source,
            });
        }
        statements
    }

    fn named_set(&mut self, statements: &[Statement]) -> CedarSet {
        let mut set = CedarSet::new();
        for Statement {
            policy, id, start, ..
        } in statements
        {
            if let Err(error) = capability(id) {
                self.refuse(*start, id, format!("its @id cannot be used: {error}"));
            }
            if set.add(policy.new_id(PolicyId::new(id))).is_err() {
                self.refuse(
                    *start,
                    id,
                    format!("another policy is called {id:?}; give each an @id of its own"),
                );
            }
        }
        set
    }

    fn validate(&mut self, set: &CedarSet, statements: &[Statement]) {
        let start = |id: &PolicyId| {
            let id: &str = id.as_ref();
            let found = statements.iter().find(|statement| statement.id == id);
            found.map_or(0, |statement| statement.start)
        };
        let result = Validator::new(WORDS.schema.clone()).validate(set, ValidationMode::Strict);
        let mut warnings = Vec::new();
        for error in result.validation_errors() {
            let id = error.policy_id();
            self.problems
                .push(Problem::of_cedar(self.text, id.as_ref(), error, start(id)));
        }
        for warning in result.validation_warnings() {
            let id = warning.policy_id();
            let mut problem = Problem::of_cedar(self.text, id.as_ref(), warning, start(id));
            problem.fatal = false;
            // What is wrong with a policy is why it can never apply.
            if !self.problems.iter().any(|other| other.policy == problem.policy) {
                warnings.push(problem);
            }
        }
        self.problems.append(&mut warnings);
    }

    /// An entity that can never be asked about would make a policy silently useless.
    fn literals(&mut self, statement: &Statement) {
        for uid in statement.policy.entity_literals() {
            let Some((kind, id)) = name_of(&uid) else { continue };
            if let Err(reason) = check_literal(kind, &id) {
                let written = format!("{}::\"{}\"", kind.name(), uid.id().escaped());
                let at = statement.source.find(&written).unwrap_or(0);
                let message = format!("{written} can never be: {reason}");
                self.refuse(statement.start + at, &statement.id, message);
            }
        }
    }

    fn path(&mut self, statement: &Statement) {
        if actions(&statement.policy).contains(&Action::Subscribe) && reads(&statement.policy, "path") {
            let at = statement.source.find(".path").map_or(0, |dot| dot + 1);
            let message = "a subscription's pattern has no one path to compare; write `resource in Topic::\"…\"`, or limit the policy \
                           to Action::\"publish\"";
            self.refuse(statement.start + at, &statement.id, message.to_owned());
        }
    }
}

pub(crate) fn name_of(uid: &EntityUid) -> Option<(Kind, String)> {
    Kind::of(uid.type_name()).map(|kind| (kind, uid.id().unescaped().to_owned()))
}

fn check_literal(kind: Kind, id: &str) -> Result<(), String> {
    let words = |error: NameError| error.to_string();
    match kind {
        Kind::Organization | Kind::Role | Kind::Capability => capability(id).map_err(words),
        Kind::Namespace => match id.split_once('/') {
            Some((organization, namespace)) => capability(organization)
                .and_then(|()| capability(namespace))
                .map_err(words),
            None => Err("write organization/namespace".to_owned()),
        },
        Kind::Service => service(id).map_err(words),
        Kind::Agent => AgentName::new(id).map(drop).map_err(words),
        Kind::Topic if id.contains('*') => {
            Err("topics in policies have no wildcards; write `resource in` the topic above them".to_owned())
        }
        // The root, which every topic and space is in.
        Kind::Topic | Kind::Space if id.is_empty() => Ok(()),
        Kind::Topic | Kind::Space => Topic::new(id).map(drop).map_err(|error| error.to_string()),
        // Cedar checks these against the schema.
        Kind::Credential => Ok(()),
    }
}

/// Whether a policy reads an attribute of that name anywhere (Cedar JSON policy format, operator `.`).
fn reads(policy: &Policy, attribute: &str) -> bool {
    fn within(value: &serde_json::Value, attribute: &str) -> bool {
        match value {
            serde_json::Value::Array(items) => items.iter().any(|item| within(item, attribute)),
            serde_json::Value::Object(fields) => fields.iter().any(|(key, item)| {
                let read = key == "." && item.get("attr").and_then(|name| name.as_str()) == Some(attribute);
                read || within(item, attribute)
            }),
            _ => false,
        }
    }
    // A policy that was parsed has a JSON form; if it had none, the cautious answer is yes.
    policy.to_json().map_or(true, |json| within(&json, attribute))
}
