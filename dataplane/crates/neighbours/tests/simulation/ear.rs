//! A subscriber that checks what it is told.

use std::collections::HashMap;

use ringgate_neighbours::NodeId;

/// What one node's subscribers heard, by origin and topic.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) heard: HashMap<(NodeId, String), Place>,
    pub(crate) messages: usize,
    pub(crate) gaps: usize,
}

/// How far a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) incarnation: u64,
    pub(crate) life: u64,
    /// The last message, or what was told to be lost behind it.
    pub(crate) count: u64,
    /// It was told that the origin counts anew.
    anew: bool,
}

impl Ear {
    pub(crate) fn message(&mut self, origin: NodeId, topic: &str, body: &[u8]) {
        self.messages += 1;
        let text = std::str::from_utf8(body).expect("as published");
        let parts: Vec<&str> = text.splitn(6, ' ').collect();
        let number = |at: usize| parts[at].parse::<u64>().expect("as published");
        let (incarnation, life, count) = (number(2), number(3), number(4));
        assert_eq!(parts[5], topic);
        let place = Place {
            incarnation,
            life,
            count,
            anew: false,
        };
        let Some(known) = self.heard.insert((origin, topic.into()), place) else {
            return;
        };
        let same = (known.incarnation, known.life) == (incarnation, life);
        assert!(
            (incarnation, life) >= (known.incarnation, known.life),
            "{text}: the past"
        );
        match known.anew {
            false if same => assert_eq!(count, known.count + 1, "{text} after {known:?}"),
            false => panic!("{text} after {known:?}: not told that its origin counts anew"),
            true => assert!(!same, "{text} after {known:?}"),
        }
    }

    pub(crate) fn gap(&mut self, origin: NodeId, topic: &str, missing: u64, exact: bool) {
        self.gaps += 1;
        let Some(known) = self.heard.get_mut(&(origin, topic.into())) else {
            return;
        };
        match exact {
            // Before the first message of the new count, this counts to what the origin calls it; the next message sets it.
            true if known.anew => {}
            true => known.count += missing,
            false => known.anew = true,
        }
    }

    /// Nobody here wants the pattern any more.
    pub(crate) fn stop(&mut self, pattern: &str) {
        self.heard
            .retain(|(_, topic), _| !ringgate_policy::matches(pattern, topic));
    }
}
