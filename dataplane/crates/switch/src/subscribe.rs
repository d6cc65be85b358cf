//! Subscribe and Unsubscribe.

use smallvec::smallvec;

use crate::connection::{Listed, Subscribed};
use crate::dialect::Dialect;
use crate::ids::{ConnectionId, Name};
use crate::switch::Switch;
use crate::table::Target;

impl<D: Dialect> Switch<D> {
    /// A connection wants messages to `name`. The same name may be subscribed under several numbers: messages come once, until the last
    /// number is gone.
    pub(crate) fn subscribe(&mut self, id: ConnectionId, name: &Name, subscription: u64) {
        let index = id.index;
        if let Some(instance) = self.table.find(name)
            && let Some(known) = self.connections.at_mut(index).subscriptions.get_mut(&instance)
        {
            if !known.ids.contains(&subscription) {
                let is_full = known.ids.len() >= NUMBERS_MAX;
                if is_full
                    || self.connections.at(index).subscription_count >= self.config.limits.subscriptions_max
                {
                    return self.refuse(index, subscription, TOO_MANY);
                }
                let connection = self.connections.at_mut(index);
                connection.subscription_count += 1;
                if let Some(known) = connection.subscriptions.get_mut(&instance) {
                    known.ids.push(subscription);
                }
                self.connections.stats.subscriptions += 1;
            }
            return self.acknowledge_when_announced(id, instance, subscription);
        }
        if self.connections.at(index).subscription_count >= self.config.limits.subscriptions_max {
            return self.refuse(index, subscription, TOO_MANY);
        }
        if self.table.len() >= self.config.limits.names_max {
            return self.refuse(index, subscription, "the node knows too many names");
        }
        self.flush_run();
        let instance = self.table.ensure(name);
        self.list(index, instance, subscription);
        self.note_changed(instance);
        self.acknowledge_when_announced(id, instance, subscription);
    }

    /// Adds a connection to an audience.
    fn list(&mut self, index: u32, instance: u32, subscription: u64) {
        let entry = self.table.instance(instance).entry;
        let connection = self.connections.at_mut(index);
        let members = &mut self.table.instance_mut(instance).audience.members;
        connection.subscriptions.insert(
            instance,
            Subscribed {
                position: members.len() as u32,
                ids: smallvec![subscription],
            },
        );
        members.push(index);
        let any = &mut self.table.audience_mut(Target::Any(entry)).members;
        let listed = connection.names.entry(entry).or_insert_with(|| {
            any.push(index);
            Listed {
                position: any.len() as u32 - 1,
                instances: 0,
            }
        });
        listed.instances += 1;
        connection.subscription_count += 1;
        self.connections.stats.subscriptions += 1;
    }

    /// A connection no longer wants messages to `name` under a number.
    pub(crate) fn unsubscribe(&mut self, index: u32, name: &Name, subscription: u64) {
        let connection = self.connections.at_mut(index);
        let instance = self.table.find(name);
        let Some((instance, known)) =
            instance.and_then(|instance| Some((instance, connection.subscriptions.get_mut(&instance)?)))
        else {
            return self.refuse(index, subscription, "subscription not found");
        };
        // A client that came back has subscribed anew without a number, but still knows the one it had.
        let place = known.ids.iter().position(|id| *id == subscription);
        let Some(place) = place.or_else(|| known.ids.iter().position(|id| *id == 0)) else {
            return self.refuse(index, subscription, "subscription id not found");
        };
        known.ids.swap_remove(place);
        let is_last = known.ids.is_empty();
        connection.subscription_count -= 1;
        self.connections.stats.subscriptions -= 1;
        if is_last {
            self.flush_run();
            self.unlist(index, instance);
        }
        self.acknowledge(index, subscription, Ok(()));
    }

    /// Takes a connection out of an audience.
    fn unlist(&mut self, index: u32, instance: u32) {
        let entry = self.table.instance(instance).entry;
        let connection = self.connections.at_mut(index);
        let Some(subscribed) = connection.subscriptions.remove(&instance) else {
            return;
        };
        let leaves_name = connection.names.get_mut(&entry).and_then(|listed| {
            listed.instances -= 1;
            (listed.instances == 0).then_some(listed.position)
        });
        if leaves_name.is_some() {
            connection.names.remove(&entry);
        }
        let position = subscribed.position as usize;
        let members = &mut self.table.instance_mut(instance).audience.members;
        members.swap_remove(position);
        if let Some(&moved) = members.get(position)
            && let Some(moved) = self.connections.at_mut(moved).subscriptions.get_mut(&instance)
        {
            moved.position = position as u32;
        }
        if let Some(position) = leaves_name {
            let members = &mut self.table.audience_mut(Target::Any(entry)).members;
            members.swap_remove(position as usize);
            if let Some(&moved) = members.get(position as usize)
                && let Some(moved) = self.connections.at_mut(moved).names.get_mut(&entry)
            {
                moved.position = position;
            }
        }
        self.note_changed(instance);
    }

    /// Takes a connection out of all audiences.
    pub(crate) fn unlist_all(&mut self, index: u32) {
        let connection = self.connections.at_mut(index);
        let instances: Vec<u32> = connection.subscriptions.keys().copied().collect();
        self.connections.stats.subscriptions -= u64::from(std::mem::take(
            &mut self.connections.at_mut(index).subscription_count,
        ));
        for instance in instances {
            self.unlist(index, instance);
        }
    }

    /// Answers that a connection cannot have what it wants.
    pub(crate) fn refuse(&mut self, index: u32, subscription: u64, reason: &'static str) {
        self.connections.stats.refused += 1;
        self.acknowledge(index, subscription, Err(reason));
    }

    /// Answers a Subscribe or Unsubscribe that asked for an answer.
    pub(crate) fn acknowledge(&mut self, index: u32, subscription: u64, result: Result<(), &'static str>) {
        if subscription != 0 {
            let dialect = &mut self.dialect;
            self.connections
                .answer(index, |out| dialect.acknowledge(subscription, result, out));
        }
    }
}

/// Numbers under which one connection may subscribe to one name: one for each application of a process that wants it. They are searched.
const NUMBERS_MAX: usize = 1024;

const TOO_MANY: &str = "the connection has too many subscriptions";
