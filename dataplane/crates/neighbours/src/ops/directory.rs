//! Agents of the network: telling homes, and asking them.

use bytes::Bytes;
use ringgate_policy::AgentName;

use crate::directory::{Directory, Location};
use crate::effect::Effect;
use crate::ids::NodeId;
use crate::network::Network;
use crate::wire;

impl Network {
    /// An agent of this node came, or left.
    pub fn agent(&mut self, name: AgentName, here: bool, now: u64) {
        self.directory.place(self.own, &self.reached, name, here);
        self.turn(now);
    }

    /// Where an agent is. Several who ask at once get one [`Effect::Located`].
    pub fn locate(&mut self, name: &AgentName, now: u64) -> Location {
        if self.directory.is_here(name) {
            return Location::Here;
        }
        if let Some(node) = self.directory.place_of(name) {
            if self.reached.contains(&node) {
                return Location::At(node);
            }
            self.directory.forget_place(name);
        }
        let home = Directory::whom_to_ask(self.own, &self.reached, name);
        if home == self.own {
            return self.held_at(name).map_or(Location::Nowhere, Location::At);
        }
        if self.directory.asking() >= self.limits.locates_max {
            self.stats.left_out += 1;
            return Location::Nowhere;
        }
        if self.directory.ask(name, now + self.limits.locate_ms_max) {
            self.send_directory(home, &wire::Directory::Locate { name: name.clone() });
        }
        Location::Asking
    }

    /// An agent was not where [`locate`](Network::locate) said: it moved, and the next to ask hears where to.
    pub fn mislocated(&mut self, name: &AgentName) {
        self.directory.forget_place(name);
    }

    fn held_at(&self, name: &AgentName) -> Option<NodeId> {
        let at = self.directory.held(name.as_str()).iter().rev();
        at.copied().find(|node| self.reached.contains(node))
    }

    /// Another node's directory says something.
    pub(crate) fn directory_told(&mut self, origin: NodeId, incarnation: u64, body: Bytes) {
        let Some(message) = wire::directory_of(body) else {
            self.stats.bad_directory += 1;
            return;
        };
        match message {
            wire::Directory::Place { batch, here, gone } => {
                let names_max = self.limits.names_held_max;
                let taken = self
                    .directory
                    .take(origin, (incarnation, batch), &here, &gone, names_max);
                self.stats.left_out += taken.unwrap_or(0);
                self.send_directory(origin, &wire::Directory::Placed { batch });
            }
            wire::Directory::Placed { batch } => self.directory.placed(origin, batch),
            wire::Directory::Locate { name } => {
                let node = match self.directory.is_here(&name) {
                    true => Some(self.own),
                    false => self.held_at(&name),
                };
                self.send_directory(origin, &wire::Directory::Located { name, node });
            }
            wire::Directory::Located { name, node } => {
                if self.directory.located(&name, node) {
                    self.effects.push_back(Effect::Located { name, node });
                }
            }
        }
    }

    pub(crate) fn flush_directory(&mut self, now: u64) {
        if self.directory.due_at().is_none_or(|at| at > now) {
            return;
        }
        for ship in self.directory.ships(now, self.limits.place_ms_max) {
            let message = wire::Directory::Place {
                batch: ship.batch,
                here: ship.here,
                gone: ship.gone,
            };
            self.send_directory(ship.home, &message);
        }
        for name in self.directory.give_up(now) {
            self.effects.push_back(Effect::Located { name, node: None });
        }
    }

    /// What is lost on the way is told again, or given up.
    fn send_directory(&mut self, to: NodeId, message: &wire::Directory) {
        let body = wire::directory(message);
        self.stats.directory_sent += 1;
        self.stats.directory_bytes_sent += body.len() as u64;
        self.send_on_way(to, body, true);
    }
}
