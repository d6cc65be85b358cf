//! Every metric, declared once: which counts of the cores it shows, under which labels. Labels have closed lists of values; names that
//! clients choose are never among them.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name, without `_total`.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) kind: Type,
    /// What it means.
    pub(super) help: &'static str,
    /// Whether the counts are in nanoseconds; they are shown in seconds.
    pub(super) nanos: bool,
    /// Its series on each core.
    pub(super) series: &'static [Series],
}

/// One series of a metric.
#[derive(Debug)]
pub(super) struct Series {
    /// The count of a core that it shows.
    pub(super) count: &'static str,
    /// Its labels, besides the core.
    pub(super) labels: &'static [(&'static str, &'static str)],
}

macro_rules! series {
    ($($count:expr => { $($label:ident = $value:expr),* }),* $(,)?) => {
        &[$(Series { count: $count, labels: &[$((stringify!($label), $value)),*] }),*]
    };
}

macro_rules! family {
    ($kind:ident $name:literal, $help:literal, $series:expr) => {
        Family { name: concat!("ringgate_", $name), kind: Type::$kind, help: $help, nanos: false, series: $series }
    };
    ($kind:ident $name:literal, $help:literal) => {
        family!($kind $name, $help, series!($name => {}))
    };
    ($kind:ident $name:literal nanos, $help:literal, $series:expr) => {
        Family { nanos: true, ..family!($kind $name, $help, $series) }
    };
}

/// The same count of all three dialects.
macro_rules! of_dialects {
    ($count:literal) => {
        series!(
            $count => { dialect = "agp.v1" },
            concat!("slim_", $count) => { dialect = "slim" },
            concat!("agp2025_", $count) => { dialect = "agp2025" },
        )
    };
}

macro_rules! received {
    ($($kind:literal),*) => {
        series!($(concat!("received_", $kind) => { dialect = "agp.v1", kind = $kind }),*)
    };
}

macro_rules! queued {
    ($($kind:literal),*) => {
        series!(
            "delivered" => { dialect = "agp.v1", kind = "notify" },
            $(concat!("queued_", $kind) => { dialect = "agp.v1", kind = $kind },)*
            "slim_delivered" => { dialect = "slim", kind = "message" },
            "agp2025_delivered" => { dialect = "agp2025", kind = "message" },
        )
    };
}

macro_rules! refused {
    ($($reason:literal),*) => {
        series!(
            $(
                concat!("slim_", $reason) => { dialect = "slim", reason = $reason },
                concat!("agp2025_", $reason) => { dialect = "agp2025", reason = $reason },
            )*
        )
    };
}

/// All of them, but for those of the node as a whole and the histograms, which are not counts of cores.
pub(super) const FAMILIES: &[Family] = &[
    // The core.
    family!(Counter "core_seconds" nanos, "What the core did with its time: work, look for work (spin), sleep (park).", series!(
        "busy_nanos" => { state = "busy" },
        "spin_nanos" => { state = "spin" },
        "park_nanos" => { state = "park" },
    )),
    family!(Counter "turns", "Turns of the loop that did something."),
    family!(Counter "parks", "Times the core went to sleep."),
    family!(Counter "core_messages", "Messages to other cores."),
    family!(Counter "congestions", "Times that input was held because another core was too far behind."),
    // Connections.
    family!(Gauge "connections", "Open connections."),
    family!(Counter "connections_accepted", "Connections accepted."),
    family!(Counter "connections_closed", "Connections closed."),
    family!(Counter "accept_failures", "Accepts that failed."),
    family!(Counter "receives", "Receives completed."),
    family!(Counter "received_bytes", "Bytes received, TLS and HTTP/2 included."),
    family!(Counter "sends", "Sends completed."),
    family!(Counter "sent_bytes", "Bytes sent, TLS and HTTP/2 included."),
    family!(Counter "credit_stalls", "Times that a stream had something to send and its client had given no window for it."),
    family!(Counter "quickacks", "Acknowledgements that were asked for at once, and that could not be.", series!(
        "quickacks" => { result = "asked" },
        "quickacks_missing" => { result = "missing" },
    )),
    // Messages.
    family!(Counter "messages_received", "Messages of agents, by kind; of SLIM and AGP 2025 those that are passed on.", received!(
        "register", "subscribe", "unsubscribe", "publish", "request", "response", "stream_open", "chunk", "stream_close",
        "stream_credit", "introduce", "accept", "reject", "status", "cancel", "state", "invalid"
    )),
    family!(Counter "message_bytes_received", "Bytes of messages of native agents, headers and payload."),
    family!(Counter "messages_queued", "Messages queued for agents, by kind; to subscribers (notify) each copy.", queued!(
        "registered", "ack", "error", "forward", "deliver", "stream_open", "chunk", "stream_close", "stream_credit", "introduce",
        "connected", "rejected", "drain", "cancel", "other"
    )),
    family!(Counter "delivered_bytes", "Bytes of messages queued for subscribers."),
    family!(Counter "published", "Messages published.", of_dialects!("published")),
    family!(Counter "unrouted", "Messages that nobody wants.", series!(
        "slim_unrouted" => { dialect = "slim" },
        "agp2025_unrouted" => { dialect = "agp2025" },
    )),
    family!(Counter "dropped", "Messages dropped because their reader was too slow, by the policy that said so.", series!(
        "dropped_oldest" => { dialect = "agp.v1", reason = "drop_oldest" },
        "dropped_newest" => { dialect = "agp.v1", reason = "drop_newest" },
        "dropped_latest" => { dialect = "agp.v1", reason = "latest" },
        "dropped_disconnect" => { dialect = "agp.v1", reason = "disconnect" },
        "dropped_block" => { dialect = "agp.v1", reason = "block" },
        "slim_dropped_oldest" => { dialect = "slim", reason = "drop_oldest" },
        "slim_dropped_newest" => { dialect = "slim", reason = "drop_newest" },
        "slim_dropped_disconnect" => { dialect = "slim", reason = "disconnect" },
        "agp2025_dropped_oldest" => { dialect = "agp2025", reason = "drop_oldest" },
        "agp2025_dropped_newest" => { dialect = "agp2025", reason = "drop_newest" },
        "agp2025_dropped_disconnect" => { dialect = "agp2025", reason = "disconnect" },
    )),
    family!(Counter "refused", "Messages and streams of SLIM and AGP 2025 that were refused, by reason.", refused!(
        "malformed", "unauthenticated", "expired", "oversize", "not_mls", "unused", "refused", "turned_away"
    )),
    family!(Counter "gaps", "Gap messages: losses that subscribers were told."),
    family!(Counter "errors", "Errors that agents were told."),
    family!(Counter "denied", "Errors that say that policy does not allow it."),
    family!(Counter "resumed", "Sessions resumed."),
    family!(Counter "matches", "Topics matched against all patterns because no earlier result was there."),
    family!(Counter "copied_out", "Waiting messages copied out of shared memory because they waited too long.", of_dialects!("copied_out")),
    family!(Counter "ended", "Connections ended by the gateway.", series!(
        "slim_ended" => { dialect = "slim", reason = "error" },
        "slim_stale" => { dialect = "slim", reason = "came_back" },
        "agp2025_ended" => { dialect = "agp2025", reason = "error" },
        "agp2025_stale" => { dialect = "agp2025", reason = "came_back" },
    )),
    // What is held.
    family!(Gauge "streams_open", "Streams of clients.", series!(
        "agent_calls" => { dialect = "agp.v1" },
        "slim_connections" => { dialect = "slim" },
        "agp2025_connections" => { dialect = "agp2025" },
    )),
    family!(Gauge "sessions", "Registered agents of this core.", series!(
        "sessions" => { state = "attached" },
        "detached_sessions" => { state = "detached" },
    )),
    family!(Gauge "subscriptions", "Subscriptions.", of_dialects!("subscriptions")),
    family!(Gauge "subscribes_waiting", "Subscribes that wait until every core knows them.", series!(
        "slim_subscribes_waiting" => { dialect = "slim" },
        "agp2025_subscribes_waiting" => { dialect = "agp2025" },
    )),
    family!(Gauge "queued_bytes", "Bytes that wait in queues.", of_dialects!("queued_bytes")),
    family!(Gauge "queue_bytes_longest", "Bytes that wait in the longest queue of a native agent."),
    family!(Gauge "requests", "Requests that wait, at the core of who asked and of who is to answer.", series!(
        "requests" => { side = "asked" },
        "requests_inbound" => { side = "answers" },
    )),
    family!(Gauge "introductions", "Introductions that wait, likewise.", series!(
        "introductions" => { side = "asked" },
        "introductions_inbound" => { side = "answers" },
    )),
    family!(Gauge "streams", "Ends of streams between agents."),
    family!(Gauge "channels", "Ends of channels between agents."),
    family!(Gauge "publishes_held", "Publishes held by BLOCK subscriptions."),
    family!(Gauge "agents", "Agents of the node, as this core knows it."),
    family!(Gauge "patterns", "Patterns that this core knows."),
    family!(Gauge "names", "Names that this core looks after.", of_dialects!("names")),
    // State spaces.
    family!(Gauge "watches", "Watches of state spaces."),
    family!(Gauge "state_spaces", "State spaces that this core owns."),
    family!(Gauge "state_keys", "Keys of them."),
    family!(Gauge "state_bytes", "Memory of them, with what is kept of their past."),
    family!(Gauge "state_unsynced_bytes", "Changes of durable ones that wait for the disk."),
    family!(Counter "state_changes", "Changes of them."),
    family!(Counter "state_gets", "Questions to them."),
    family!(Counter "state_catchups", "Times that a watch had to catch up because its agent read too slowly."),
    // What topics keep.
    family!(Gauge "kept", "Messages that topics keep for later subscribers."),
    family!(Gauge "kept_bytes", "Memory of them."),
    family!(Counter "kept_evicted", "Those that gave way because a core's memory for them was used up."),
    family!(Gauge "replaying", "Subscriptions that are still being told what topics keep."),
    family!(Gauge "replaying_bytes", "What they have still to be told, in bytes."),
    family!(Counter "replayed", "Kept messages queued for later subscribers."),
];

/// Counts that no metric shows: somebody forgot to declare them.
pub(super) fn undeclared<'a>(counts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let declared = |count: &str| {
        let mut series = FAMILIES.iter().flat_map(|family| family.series);
        series.any(|series| series.count == count)
    };
    counts.filter(|count| !declared(count)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_metric_names_and_series_differ() {
        let mut names = HashSet::new();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert!(
                family
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(
                !family.name.ends_with("_total") && family.help.ends_with('.'),
                "{}",
                family.name
            );
            let labels: HashSet<_> = family.series.iter().map(|series| series.labels).collect();
            assert_eq!(
                labels.len(),
                family.series.len(),
                "{}: two series with the same labels",
                family.name
            );
        }
    }

    #[test]
    fn a_count_that_was_forgotten_is_found() {
        assert_eq!(
            undeclared(["turns", "slim_published", "no_such_count"].into_iter()),
            ["no_such_count"]
        );
    }
}
