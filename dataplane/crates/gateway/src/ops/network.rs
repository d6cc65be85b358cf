//! The door to other nodes: one core stands for all of them.
//!
//! To the other cores, what other nodes want is wanted on this core: so a publish crosses to this core once, as always, and from here goes to
//! the network. What comes from the network is routed as a publish of this core. No core but this one knows that there is a network.
//! Queue groups do not span nodes yet.

use std::sync::Arc;

use bytes::Bytes;
use ringgate_policy::Pattern;

use crate::action::DeliveryPolicy;
use crate::core_message::Body;
use crate::effect::Effect;
use crate::gateway::{Gateway, RUN_DIALECT};
use crate::ids::{CoreId, Now};
use crate::ops::publish::SentRun;
use crate::outgoing::Encoder;
use crate::queue::Run;
use crate::table::{MatchSet, Remote};

impl Gateway {
    /// From now on this core stands for the other nodes of a network; of a node's cores, one may. What is wanted on this node is told at
    /// once, and whenever it changes ([`Effect::Wanted`]).
    pub fn join_network(&mut self) {
        if std::mem::replace(&mut self.network, true) {
            return;
        }
        for entry in self.table.all().collect::<Vec<_>>() {
            self.tell_network(entry);
        }
    }

    /// Other nodes say how many subscribers a pattern has on them.
    pub fn wanted_elsewhere<E: Encoder>(&mut self, pattern: &str, subscribers: u32, now: &Now, enc: &mut E) {
        if !self.network || Pattern::new(pattern).is_err() {
            return;
        }
        self.flush_run(enc);
        let entry = self.table.ensure(&Arc::from(pattern));
        self.table.set_remote(
            entry,
            Remote {
                core: CoreId::NETWORK,
                subscribers,
                blocking: false,
            },
        );
        for core in self.others() {
            let body = self.interest(entry, None, None);
            self.send(core, body);
        }
        self.table.tidy(entry, None);
        self.finish(now, enc);
    }

    /// Messages of one topic from another node, as an [`Effect::ToNetwork`] there gave them.
    pub fn published_elsewhere<E: Encoder>(
        &mut self,
        topic: &str,
        bytes: Bytes,
        messages: u32,
        now: &Now,
        enc: &mut E,
    ) {
        self.flush_run(enc);
        let (set, matched) = self.table.set_for(topic);
        self.sessions.ledger.stats.matches += u64::from(matched);
        let run = Run {
            dialect: RUN_DIALECT,
            topic: &set.topic,
            bytes: &bytes,
            messages,
        };
        let mut blocking = false;
        for local in &set.locals {
            match local.policy {
                DeliveryPolicy::Block => blocking = true,
                _ if self.following.is_on() => drop(self.deliver_followed::<E>(*local, run)),
                _ => drop(self.deliver::<E>(*local, run)),
            }
        }
        for remote in set.remotes.iter().filter(|remote| remote.core != CoreId::NETWORK) {
            let body = Body::Run {
                topic: Arc::clone(&set.topic),
                bytes: bytes.clone(),
                messages,
                hold: None,
            };
            self.send(remote.core, body);
        }
        if blocking {
            let sent = SentRun {
                topic: Arc::clone(&set.topic),
                bytes,
                messages,
                hold: None,
            };
            self.receive_blocking(self.core, &set, sent, now, enc);
        }
        self.finish(now, enc);
    }

    /// Messages of a topic were lost on their way from another node: its subscribers here are told by a `Gap`.
    pub fn lost_elsewhere<E: Encoder>(&mut self, topic: &str, messages: u64, now: &Now, enc: &mut E) {
        self.flush_run(enc);
        let topic: Arc<str> = topic.into();
        self.lost_here(&topic, messages);
        self.broadcast(|| Body::Lost {
            topic: Arc::clone(&topic),
            messages,
        });
        self.finish(now, enc);
    }

    /// Tells this core's subscribers of a loss.
    pub(crate) fn lost_here(&mut self, topic: &Arc<str>, messages: u64) {
        let (set, _) = self.table.set_for(topic);
        for local in &set.locals {
            self.sessions.tell_lost(*local, messages, &set.topic);
        }
    }

    /// Passes on what another core's agents published, if other nodes want it.
    pub(crate) fn pass_to_network(&mut self, set: &MatchSet, run: Run<'_>) {
        if set.remotes.iter().any(|remote| remote.core == CoreId::NETWORK) {
            self.push_effect(Effect::ToNetwork {
                topic: Arc::clone(&set.topic),
                bytes: run.bytes.clone(),
                messages: run.messages,
            });
        }
    }

    pub(crate) fn send_network(&mut self, body: Body) {
        match body {
            Body::Run {
                topic,
                bytes,
                messages,
                ..
            } => self.push_effect(Effect::ToNetwork {
                topic,
                bytes,
                messages,
            }),
            other => unreachable!("other nodes announce plain subscribers only: {other:?}"),
        }
    }

    /// Tells other nodes how many subscribers a pattern has on this one.
    pub(crate) fn tell_network(&mut self, entry: u32) {
        let known = self.table.entry(entry);
        let pattern = Arc::clone(&known.pattern);
        let here = known.locals.len() as u32 + self.count_departing(&pattern, "");
        let others = self.table.remotes(entry).iter();
        let there: u32 = others
            .filter(|remote| remote.core != CoreId::NETWORK)
            .map(|remote| remote.subscribers)
            .sum();
        self.push_effect(Effect::Wanted {
            pattern,
            subscribers: here + there,
        });
    }
}
