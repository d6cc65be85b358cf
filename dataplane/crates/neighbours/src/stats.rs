//! Figures of one node's network.

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Control messages sent.
    pub control_sent: u64,
    /// Their bytes.
    pub control_bytes_sent: u64,
    /// Messages for topics or nodes sent, each once for each link.
    pub carried_sent: u64,
    /// Of those, passed on for other nodes.
    pub passed_on: u64,
    /// Came a second time, or far too late.
    pub duplicates: u64,
    /// Had crossed as many links as allowed.
    pub hops_exceeded: u64,
    /// Their origin is not known here, or has restarted since.
    pub origin_unknown: u64,
    /// No way to where they should go.
    pub no_way: u64,
    /// Link states and interest that did not fit.
    pub left_out: u64,
    /// Nodes refused because another name has their number.
    pub same_number: u64,
    /// Interest tables that came out wrong, and were asked for again.
    pub tables_broken: u64,
    /// Interest tables asked for.
    pub pulls: u64,
    /// What this node told and asked others of agents, and answered them.
    pub directory_sent: u64,
    /// Its bytes, each once however many links they crossed.
    pub directory_bytes_sent: u64,
    /// Messages of other directories that were none.
    pub bad_directory: u64,
    /// How often a neighbour's digest made this node tell what it holds.
    pub healed: u64,
    /// How often another node spoke in this one's name with a later word; this one then speaks louder.
    pub outbid: u64,
}

/// How much a node holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkSizes {
    /// Nodes known.
    pub nodes: usize,
    /// Nodes that can be reached, without this one.
    pub reached: usize,
    /// Different keys of interest.
    pub keys: usize,
    /// Entries of all interest tables.
    pub entries: usize,
    /// Topics of this node that are counted.
    pub topics_counted: usize,
    /// Topics of others that are followed.
    pub topics_heard: usize,
    /// Agents of this node.
    pub agents: usize,
    /// Names of which this node is the home.
    pub names_held: usize,
}

/// A node, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// What the way there costs; none: it cannot be reached.
    pub cost: Option<u64>,
    /// The neighbour through which it is reached; none for this node.
    pub through: Option<String>,
    /// Entries of its interest table.
    pub wants: usize,
    /// Its neighbours, with the costs it tells.
    pub links: Vec<(String, u32)>,
    /// It is about to leave.
    pub leaving: bool,
}

/// A link, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The neighbour.
    pub name: String,
    /// As configured.
    pub cost: u32,
    /// Whether messages go over it, or both ends still tell each other what they know.
    pub used: bool,
    /// Link states that the neighbour has not got or not acknowledged.
    pub behind: usize,
}
