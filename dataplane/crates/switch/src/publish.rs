//! A message's way from its name to the queues.

use crate::clients::Clients;
use crate::connections::{Connections, Run};
use crate::core_message::{Body, SentRun};
use crate::dialect::{Dialect, Fanout, Publish};
use crate::ids::Name;
use crate::switch::Switch;
use crate::table::{Audience, Remote, Target};

/// The run being built in the dialect, and where it goes.
#[derive(Debug, Default)]
pub(crate) struct RunBuilt {
    way: Option<Way>,
    messages: u32,
}

/// Where a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To all of an audience but the sender.
    All {
        target: Target,
        except: Option<u32>,
        /// See [`SentRun::node`].
        node: u128,
    },
    /// To one connection of this core.
    One(u32),
    /// To one of another core's connections.
    Elsewhere { target: Target, core: u16, node: u128 },
}

impl<D: Dialect> Switch<D> {
    /// A connection sends a message.
    #[inline]
    pub(crate) fn publish(&mut self, sender: u32, publish: &Publish<D::Letter<'_>>) {
        let Some(way) = self.way(sender, &publish.to, publish.fanout) else {
            self.connections.stats.unrouted += 1;
            return;
        };
        // The core that chooses among its connections chooses for each message, so that they take turns there too.
        if self.run.way != Some(way) || matches!(way, Way::Elsewhere { .. }) {
            self.flush_run();
            self.run.way = Some(way);
        }
        self.dialect.append(&publish.letter);
        self.run.messages += 1;
        self.connections.stats.published += 1;
        self.connections.at_mut(sender).published += 1;
        if self.dialect.pending() >= self.config.limits.run_bytes_max {
            self.flush_run();
        }
    }

    /// Where a message goes; `None`: to nobody.
    #[inline]
    fn way(&mut self, sender: u32, to: &Name, fanout: Fanout) -> Option<Way> {
        let target = match self.table.target(to) {
            Some(target) => target,
            None if self.config.falls_back_to_only => self.table.only(to)?,
            None => return None,
        };
        let connection = self.connections.at(sender);
        let node = connection.node_key;
        match fanout {
            Fanout::One => self.choose(target, Some(sender), node),
            Fanout::All => {
                let is_member = match target {
                    Target::Instance(instance) => connection.subscriptions.contains_key(&instance),
                    Target::Any(entry) => connection.names.contains_key(&entry),
                };
                let Audience { members, remotes, .. } = self.table.audience(target);
                if members.len() == usize::from(is_member) && remotes.is_empty() {
                    return None;
                }
                // Senders that are no members can share runs.
                let sent_node = match remotes.is_empty() && !connection.has_twin {
                    true => 0,
                    false => node,
                };
                Some(Way::All {
                    target,
                    except: is_member.then_some(sender),
                    node: sent_node,
                })
            }
        }
    }

    /// One of an audience, in turn over all cores. `sender` is `None` where the message came from another core, which has chosen this one.
    fn choose(&mut self, target: Target, sender: Option<u32>, node: u128) -> Option<Way> {
        let audience = self.table.audience_mut(target);
        let local = audience.members.len() as u64;
        let all = match sender {
            Some(_) => audience.len(),
            None => local,
        };
        for _ in 0..all {
            let turn = u64::from(audience.turn) % all;
            audience.turn = audience.turn.wrapping_add(1);
            if turn >= local {
                let core = core_at(&audience.remotes, turn - local)?;
                return Some(Way::Elsewhere { target, core, node });
            }
            let member = audience.members[turn as usize];
            if sender != Some(member) && (node == 0 || self.connections.at(member).node_key != node) {
                return Some(Way::One(member));
            }
        }
        None
    }

    /// Hands the run being built to its receivers.
    #[inline]
    pub(crate) fn flush_run(&mut self) {
        let Some(way) = self.run.way.take() else { return };
        let messages = std::mem::take(&mut self.run.messages);
        let bytes = self.dialect.take();
        match way {
            Way::One(member) => {
                self.connections
                    .deliver(member, &mut Run::new(bytes, messages), &mut self.dialect);
            }
            Way::All { target, except, node } => {
                let audience = self.table.audience(target);
                for remote in &audience.remotes {
                    let run = SentRun {
                        to: self.table.name_of(target),
                        one: false,
                        bytes: bytes.clone(),
                        messages,
                        node,
                    };
                    self.outbound
                        .push_back((remote.core, crate::CoreMessage(Body::Run(run))));
                }
                let run = Run::new(bytes, messages);
                deliver_to_all(
                    &mut self.connections,
                    &mut self.clients,
                    &mut self.dialect,
                    &audience.members,
                    run,
                    except,
                    node,
                );
            }
            Way::Elsewhere { target, core, node } => {
                let run = SentRun {
                    to: self.table.name_of(target),
                    one: true,
                    bytes,
                    messages,
                    node,
                };
                self.send(core, Body::Run(run));
            }
        }
    }

    /// A run from another core.
    pub(crate) fn receive_run(&mut self, sent: SentRun) {
        let Some(target) = self.table.target(&sent.to) else {
            self.connections.stats.unrouted += u64::from(sent.messages);
            return;
        };
        let node = match self.clients.knows_node(sent.node) {
            true => sent.node,
            false => 0,
        };
        let mut run = Run::new(sent.bytes, sent.messages);
        if sent.one {
            match self.choose(target, None, node) {
                Some(Way::One(member)) => self.connections.deliver(member, &mut run, &mut self.dialect),
                _ => self.connections.stats.unrouted += u64::from(sent.messages),
            }
            return;
        }
        let members = &self.table.audience(target).members;
        deliver_to_all(
            &mut self.connections,
            &mut self.clients,
            &mut self.dialect,
            members,
            run,
            None,
            node,
        );
    }
}

/// Queues a run for everyone of `members` but the sender and its node's other connections; each node gets it once.
fn deliver_to_all<D: Dialect>(
    connections: &mut Connections<D::Link>,
    clients: &mut Clients,
    dialect: &mut D,
    members: &[u32],
    mut run: Run,
    except: Option<u32>,
    node: u128,
) {
    clients.begin_round();
    for &member in members {
        if except == Some(member) {
            continue;
        }
        let connection = connections.at(member);
        if (node != 0 && connection.node_key == node)
            || (connection.has_twin && !clients.is_first_of(connection.node_key))
        {
            continue;
        }
        connections.deliver(member, &mut run, dialect);
    }
}

/// The core that has the connection numbered `at` among those of other cores.
fn core_at(remotes: &[Remote], mut at: u64) -> Option<u16> {
    for remote in remotes {
        match at.checked_sub(u64::from(remote.members)) {
            Some(rest) => at = rest,
            None => return Some(remote.core),
        }
    }
    None
}
