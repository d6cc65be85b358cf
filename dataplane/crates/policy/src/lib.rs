//! Names, identity, permissions and limits of agents
