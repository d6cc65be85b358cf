//! Every bound and time of the network, with its reason.

/// Bounds and times of one node. Times are in milliseconds of the caller's monotonic clock.
#[derive(Debug, Clone)]
pub struct NetworkLimits {
    /// Nodes that are known, this one included. Four times the thousand that the design is measured with.
    pub nodes_max: usize,
    /// Links of a node. A full mesh of that many nodes is as much as one node should send each message to.
    pub links_max: usize,
    /// Keys of interest of one node. What its agents want beyond that is served on the node alone, and counted.
    pub keys_per_node_max: usize,
    /// Keys of interest of all nodes together: about 100 bytes each.
    pub keys_max: usize,
    /// Links a message may cross: more than any sensible network is wide. Only a guard, since trees have no loops.
    pub hops_max: u32,
    /// Link states sent on a link that the neighbour has not acknowledged; more wait, newest only.
    pub flood_unacknowledged_max: usize,
    /// Interest tables asked of all neighbours that did not come yet.
    pub pulls_max: usize,
    /// Changes of interest kept for neighbours that are a little behind; who is further behind gets the whole table.
    pub log_changes_max: usize,
    /// Trees kept, one for each origin of recent messages: 2 bytes for each node, so 2 MB in all where there are a thousand.
    pub trees_max: usize,
    /// Topics whose next links are remembered, over all origins.
    pub routes_max: usize,
    /// Topics of which this node counts its messages. Beyond that the one that was silent longest is closed.
    pub topics_counted_max: usize,
    /// Topics of other nodes of which this node knows how far they are.
    pub topics_heard_max: usize,
    /// Names of other nodes' agents of which this node is the home: about 150 bytes each. A thousandth of a million, and room for
    /// when few nodes are left.
    pub names_held_max: usize,
    /// Places of agents that are remembered after asking for them.
    pub places_max: usize,
    /// Agents whose place is asked for; more are answered at once that they are nowhere.
    pub locates_max: usize,
    /// An answer that does not come in this time is none.
    pub locate_ms_max: u64,
    /// A home that does not answer in this time is told again.
    pub place_ms_max: u64,
    /// Own link states follow each other no faster, so that a flapping link costs its neighbours little; the first is not delayed.
    pub originate_ms_min: u64,
    /// Own link state is made anew, though nothing changed.
    pub refresh_ms: u64,
    /// A link state that was not made anew for so long is forgotten: its node is gone. Three times `refresh_ms`.
    pub age_ms_max: u64,
    /// What is known of a node that cannot be reached is kept for so long, so that a partition that heals costs little.
    pub forget_ms: u64,
    /// Changes of interest are collected for so long after one was told; the first is not delayed.
    pub interest_ms_min: u64,
    /// Changes of load alone are told no faster.
    pub load_ms_min: u64,
    /// `Have` is told so long after something came to be held: one message for many.
    pub have_ms: u64,
    /// Who hears of a newer table waits so long for it to come by itself before asking.
    pub pull_after_ms: u64,
    /// A table that was asked for and did not come is asked for again, of somebody else if there is somebody.
    pub pull_ms_max: u64,
    /// A new link is not used before both ends know what the other knows; after so long it is used nevertheless.
    pub exchange_ms_max: u64,
    /// Neighbours compare digests.
    pub digest_ms: u64,
    /// After the network changed, topics that said something within `topic_recent_ms` tell how far they are, so that who lost
    /// their last message learns it.
    pub settle_ms: u64,
    /// See `settle_ms`. Longer than a message can be under way.
    pub topic_recent_ms: u64,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            nodes_max: 4096,
            links_max: 256,
            keys_per_node_max: 65_536,
            keys_max: 1_048_576,
            hops_max: 64,
            flood_unacknowledged_max: 1024,
            pulls_max: 64,
            log_changes_max: 256,
            trees_max: 4096,
            routes_max: 16_384,
            topics_counted_max: 65_536,
            topics_heard_max: 65_536,
            names_held_max: 262_144,
            places_max: 16_384,
            locates_max: 16_384,
            locate_ms_max: 2000,
            place_ms_max: 1000,
            originate_ms_min: 50,
            refresh_ms: 20 * 60_000,
            age_ms_max: 60 * 60_000,
            forget_ms: 10 * 60_000,
            interest_ms_min: 2,
            load_ms_min: 1000,
            have_ms: 50,
            pull_after_ms: 200,
            pull_ms_max: 2000,
            exchange_ms_max: 10_000,
            digest_ms: 10_000,
            settle_ms: 1000,
            topic_recent_ms: 30_000,
        }
    }
}

/// Held entries in one `Summary`, states or versions in one message: about 32 KiB.
pub(crate) const ENTRIES_PER_MESSAGE: usize = 1024;
/// Bytes of changes after which an `InterestUpdate` is cut, so that other messages get between.
pub(crate) const UPDATE_BYTES: usize = 64 * 1024;
/// Names in one batch to a home: under 70 KiB for names of ordinary length.
pub(crate) const NAMES_PER_BATCH: usize = 512;
/// Longest name of a node: one segment of an `agp://` name.
pub(crate) const NODE_NAME_BYTES_MAX: usize = ringgate_policy::SEGMENT_BYTES_MAX;
/// Longest name of a queue group, as the upper cap of `limits.group_bytes_max`.
pub(crate) const GROUP_BYTES_MAX: usize = 255;
/// Highest cost of a link. Sums over 4096 nodes fit into 32 bits.
pub(crate) const COST_MAX: u32 = 65_535;
