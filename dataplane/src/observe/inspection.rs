//! Questions to a core beyond counts, with bounded answers.

use serde_json::Value;

/// What a core is asked. `most`: rows at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// Its connections, those that read most slowly first.
    Connections {
        /// Rows.
        most: usize,
    },
    /// Its subscriptions, those that are read most slowly first.
    Subscriptions {
        /// Rows.
        most: usize,
    },
    /// Agents of the node by name. Every core knows them all.
    Agents {
        /// Behind this name.
        after: String,
        /// Rows.
        most: usize,
    },
    /// Its links to other nodes.
    Links {
        /// Rows.
        most: usize,
    },
    /// The nodes of its network.
    Nodes {
        /// Rows.
        most: usize,
    },
    /// Topics that its agents publish to, the busiest first.
    Topics {
        /// Rows.
        most: usize,
    },
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it stands: higher ones first.
    pub rank: [u64; 2],
    /// Its order among those of equal rank.
    pub key: String,
    /// What it says.
    pub json: Value,
}

/// Puts the rows of several cores in order.
pub fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|one, other| other.rank.cmp(&one.rank).then_with(|| one.key.cmp(&other.key)));
    rows
}
