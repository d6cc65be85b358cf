//! The archive against a list of all that was ever kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use ringgate_policy::Limits;
use ringgate_state::log::{Replay, put_kept};
use ringgate_state::{Archive, Kept, Moment, TopicRules, merge};

const TOPICS: [&str; 4] = ["few/a", "few/b", "last/a", "last/b"];

fn rules() -> TopicRules {
    let list = |pattern: &str| Arc::from([Box::from(pattern)]);
    TopicRules {
        retain: list("last/*"),
        replay: list("few/*"),
        durable: list("few/a"),
    }
}

fn limits() -> Limits {
    Limits {
        replay_messages_max: 4,
        replay_bytes_max: 300,
        replay_ms: 50,
        kept_bytes_max: 2500,
        ..Limits::default()
    }
}

fn by_topic(messages: &[Arc<Kept>]) -> BTreeMap<&str, Vec<&Arc<Kept>>> {
    let mut topics: BTreeMap<&str, Vec<&Arc<Kept>>> = BTreeMap::new();
    for kept in messages {
        topics.entry(&kept.topic).or_default().push(kept);
    }
    topics
}

proptest! {
    /// Whatever two cores keep, each keeps the newest of a topic within all bounds, and what a subscriber gets of both is the newest of both.
    #[test]
    fn what_is_kept_is_the_newest_and_within_bounds(
        steps in prop::collection::vec((0..2usize, 0..TOPICS.len(), 0..200usize, 0..20u64), 1..80)
    ) {
        let limits = limits();
        let mut archives = [0, 1].map(|core| Archive::new(7, core, rules()));
        let mut all: Vec<Arc<Kept>> = Vec::new();
        let mut log = Vec::new();
        let mut now = Moment(1_000_000_000);
        for (core, topic, len, ms) in steps {
            now.0 += ms * 1_000_000;
            let topic = Arc::from(TOPICS[topic]);
            let keep = rules().keep(&topic).expect("it keeps");
            let archive = &mut archives[core];
            let kept = archive.keep(&topic, keep, &vec![b'x'; len], now, &limits);
            if keep.durable {
                put_kept(&mut log, &kept);
            }
            all.push(kept);
            prop_assert!(archive.bytes() <= limits.kept_bytes_max);
            prop_assert_eq!(archive.is_empty(), archive.bytes() == 0);
            let matching = archive.matching("**", now, &limits);
            let held: u64 = matching.iter().map(|kept| kept.cost()).sum();
            prop_assert!(held <= archive.bytes());
            for (topic, messages) in by_topic(&matching) {
                let ever: Vec<_> = all.iter().filter(|it| *it.topic == *topic && usize::from(it.place.core) == core).collect();
                prop_assert_eq!(&ever[ever.len() - messages.len()..], &messages[..], "the newest, without a hole");
                let bytes: usize = messages.iter().map(|kept| kept.bytes.len()).sum();
                let most = if topic.starts_with("few/") { 4 } else { 1 };
                prop_assert!(messages.len() <= most && (messages.len() == 1 || bytes <= 300));
                prop_assert!(!topic.starts_with("few/") || messages[0].place.at + 50_000_000 > now.0);
            }
        }
        let mut found = Vec::new();
        for archive in &mut archives {
            found.extend(archive.matching("*/*", now, &limits));
        }
        let told = merge(found.clone(), false, &limits);
        prop_assert!(told.is_sorted_by(|a, b| a.place < b.place));
        for (topic, messages) in by_topic(&told) {
            let mut there: Vec<_> = found.iter().filter(|it| *it.topic == *topic).collect();
            there.sort_by_key(|it| it.place);
            prop_assert_eq!(&there[there.len() - messages.len()..], &messages[..]);
            let bytes: usize = messages.iter().map(|kept| kept.bytes.len()).sum();
            prop_assert!(messages.len() <= 4 && (messages.len() == 1 || bytes <= 300));
        }
        for (_, messages) in by_topic(&merge(found, true, &limits)) {
            prop_assert_eq!(messages.len(), 1);
        }
        // What the log had is there again, on a core that has none of it, in the same bounds.
        let mut replay = Replay::default();
        replay.take(&log).expect("well formed");
        replay.take(&log).expect("a snapshot repeats what is there");
        let mut again = Archive::new(8, 5, rules());
        again.restore(replay.take_kept(), &Limits { replay_ms: 0, kept_bytes_max: 1 << 30, ..limits });
        let mut durable: Vec<_> = all.iter().filter(|it| it.keep.durable).cloned().collect();
        durable.sort_by_key(|it| it.place);
        let wanted = merge(durable, false, &limits);
        prop_assert_eq!(again.matching("few/a", now, &Limits { replay_ms: 0, ..limits }), wanted);
    }
}
