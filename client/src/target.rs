//! Whom a message is for.

use ringgate_proto::agp::v1 as proto;

/// How the gateway chooses among several agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The less loaded of two picked at random.
    LeastOutstanding,
    /// By the target's affinity key: the same key meets the same agent while the set of candidates stays.
    Hash,
}

/// Target of a request, stream or introduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    to: proto::target::To,
    balance: Balance,
    affinity: String,
}

impl Target {
    /// One agent, by its full name: `organization/namespace/service/instance`.
    pub fn agent(name: impl Into<String>) -> Target {
        Target::new(proto::target::To::Agent(name.into()))
    }

    /// One instance of a service: `organization/namespace/service`.
    pub fn service(name: impl Into<String>) -> Target {
        Target::new(proto::target::To::Service(name.into()))
    }

    /// One of the agents that declare a capability.
    pub fn capability(capability: impl Into<String>) -> Target {
        Target::new(proto::target::To::Capability(capability.into()))
    }

    /// The peer of a channel, by the channel's name.
    pub fn channel(name: impl Into<String>) -> Target {
        Target::new(proto::target::To::Channel(name.into()))
    }

    /// How to choose among several.
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Target {
        self.balance = balance;
        self
    }

    /// Always the same agent for the same key: [`Balance::Hash`] by `key`.
    #[must_use]
    pub fn affinity(mut self, key: impl Into<String>) -> Target {
        self.balance = Balance::Hash;
        self.affinity = key.into();
        self
    }

    /// The same as a text, for what is bound to it.
    pub(crate) fn route(&self) -> String {
        route(&self.to)
    }

    fn new(to: proto::target::To) -> Target {
        Target {
            to,
            balance: Balance::default(),
            affinity: String::new(),
        }
    }
}

/// Whom a message is for, as a text: `agent:…`, `service:…`, `capability:…`, `channel:…`.
pub(crate) fn route(to: &proto::target::To) -> String {
    match to {
        proto::target::To::Agent(name) => format!("agent:{name}"),
        proto::target::To::Service(name) => format!("service:{name}"),
        proto::target::To::Capability(name) => format!("capability:{name}"),
        proto::target::To::Channel(name) => format!("channel:{name}"),
    }
}

impl From<Target> for proto::Target {
    fn from(target: Target) -> Self {
        let balance = match target.balance {
            Balance::RoundRobin => proto::Balance::RoundRobin,
            Balance::LeastOutstanding => proto::Balance::LeastOutstanding,
            Balance::Hash => proto::Balance::Hash,
        };
        proto::Target {
            to: Some(target.to),
            balance: balance.into(),
            affinity: target.affinity,
        }
    }
}
