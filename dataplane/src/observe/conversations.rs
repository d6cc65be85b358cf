//! Conversations that were seen: their events, by the header `conversation-id` or else by the trace.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::{Value, json};

use super::flow::{FlowEvent, Stage};

/// See the module.
#[derive(Debug)]
pub(super) struct Conversations {
    by_name: HashMap<String, Conversation>,
    /// Names by the time of their last event, for the one that was silent longest.
    by_last: BTreeSet<(u64, String)>,
    conversations_max: usize,
    events_max: usize,
    given_way: u64,
}

#[derive(Debug, Default)]
struct Conversation {
    events: VecDeque<FlowEvent>,
    first: u64,
    last: u64,
    /// Messages that began in it, by kind.
    messages: BTreeMap<&'static str, u64>,
    agents: BTreeSet<String>,
    /// Refusals and drops.
    troubles: u64,
    /// Events that gave way to later ones.
    left_out: u64,
}

/// Agents of a conversation that are listed.
const AGENTS_MAX: usize = 64;

impl Conversations {
    pub(super) fn new(conversations_max: usize, events_max: usize) -> Conversations {
        Conversations {
            by_name: HashMap::new(),
            by_last: BTreeSet::new(),
            conversations_max,
            events_max,
            given_way: 0,
        }
    }

    pub(super) fn note(&mut self, name: &str, event: &FlowEvent) {
        if self.conversations_max == 0 {
            return;
        }
        if !self.by_name.contains_key(name) {
            while self.by_name.len() >= self.conversations_max
                && let Some((_, silent)) = self.by_last.pop_first()
            {
                self.by_name.remove(&silent);
                self.given_way += 1;
            }
            let new = Conversation {
                first: event.unix_nanos,
                ..Conversation::default()
            };
            self.by_name.insert(name.to_owned(), new);
        }
        let Some(conversation) = self.by_name.get_mut(name) else {
            return;
        };
        self.by_last.remove(&(conversation.last, name.to_owned()));
        conversation.note(event, self.events_max);
        self.by_last.insert((conversation.last, name.to_owned()));
    }

    /// The latest of them, `most` at most, behind the first `skip`.
    pub(super) fn list(&self, skip: usize, most: usize) -> Value {
        let latest = self.by_last.iter().rev().skip(skip).take(most);
        let listed: Vec<Value> = latest
            .filter_map(|(_, name)| Some(self.by_name.get(name)?.summary(name)))
            .collect();
        json!({
            "conversations": listed,
            "total": self.by_name.len(),
            "given_way": self.given_way,
        })
    }

    /// One with all its events in the order of time.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let conversation = self.by_name.get(name)?;
        let mut events: Vec<&FlowEvent> = conversation.events.iter().collect();
        // Of several cores; within one message the stages are in order of their time too.
        events.sort_by_key(|event| event.unix_nanos);
        let mut json = conversation.summary(name);
        json["events"] = events.into_iter().map(FlowEvent::to_json).collect();
        Some(json)
    }
}

impl Conversation {
    fn note(&mut self, event: &FlowEvent, events_max: usize) {
        self.first = self.first.min(event.unix_nanos);
        self.last = self.last.max(event.unix_nanos);
        if event.stage == Stage::Received {
            *self.messages.entry(event.subject.kind.name()).or_default() += 1;
        }
        let names = [&event.subject.source, &event.receiver];
        for name in names.into_iter().flatten() {
            if self.agents.len() < AGENTS_MAX {
                self.agents.insert(name.to_string());
            }
        }
        let lost = matches!(event.stage, Stage::Dropped { .. } | Stage::Refused { .. });
        self.troubles += u64::from(lost);
        while self.events.len() >= events_max {
            self.events.pop_front();
            self.left_out += 1;
        }
        self.events.push_back(event.clone());
    }

    fn summary(&self, name: &str) -> Value {
        json!({
            "conversation": name,
            "first_unix_nanos": self.first,
            "last_unix_nanos": self.last,
            "messages": self.messages,
            "agents": self.agents,
            "troubles": self.troubles,
            "left_out": self.left_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::{Kind, Subject};

    fn event(unix_nanos: u64) -> FlowEvent {
        let subject = Subject {
            id: unix_nanos,
            kind: Kind::Publish,
            dialect: "agp.v1",
            source: None,
            about: "t".into(),
            number: 0,
            bytes: 1,
            conversation: None,
            trace: None,
            follows: None,
            told: true,
            timed: false,
        };
        FlowEvent {
            subject: Arc::new(subject),
            stage: Stage::Received,
            core: 0,
            unix_nanos,
            nanos: 0,
            receiver: None,
        }
    }

    #[test]
    fn the_one_that_was_silent_longest_gives_way() {
        let mut conversations = Conversations::new(2, 3);
        conversations.note("a", &event(1));
        conversations.note("b", &event(2));
        conversations.note("a", &event(3));
        conversations.note("c", &event(4));
        assert!(conversations.get("b").is_none());
        let list = conversations.list(0, 10);
        assert_eq!((&list["total"], &list["given_way"]), (&json!(2), &json!(1)));
        assert_eq!(list["conversations"][0]["conversation"], "c");
        assert_eq!(conversations.list(1, 10)["conversations"][0]["conversation"], "a");
    }

    #[test]
    fn events_are_bounded_and_in_order() {
        let mut conversations = Conversations::new(2, 3);
        for at in [5, 3, 9, 7] {
            conversations.note("a", &event(at));
        }
        let one = conversations.get("a").expect("there");
        let times: Vec<u64> = one["events"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| event["time_unix_nanos"].as_u64().expect("a time"))
            .collect();
        assert_eq!(times, [3, 7, 9]);
        assert_eq!(
            (&one["left_out"], &one["messages"]["publish"]),
            (&json!(1), &json!(4))
        );
    }
}
