//! How cores tell each other things: one single-producer ring for each ordered pair of cores, and a wake-up for those that sleep.
//!
//! # Invariants worth naming
//!
//! * Messages of one core to another arrive in the order they were sent. What does not fit into the ring waits at the sender, in order.
//! * A sender never blocks. When too much waits, [`Port::is_congested`] tells the shard to take no more from its clients.
//! * A core is woken only if it sleeps. Either the receiver sees the message before it sleeps, or the sender sees that it sleeps: both
//!   write before they read, with a sequentially consistent fence between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use ringgate_uring::Waker;

/// Messages in the ring from one core to another. A turn of a busy core sends a few hundred; more wait at the sender.
const RING_MESSAGES: usize = 4096;
/// Messages waiting at the sender beyond which it takes no more from its clients. With what the ring holds, this is the most that one
/// core can be behind another.
const WAITING_MESSAGES_MAX: usize = 4096;

/// Whether a core sleeps, and how to wake it.
#[derive(Debug)]
struct Sleeper {
    asleep: AtomicBool,
    waker: std::sync::OnceLock<Waker>,
}

/// Wakes a core from any thread.
#[derive(Debug, Clone)]
pub struct Alarm(Arc<Sleeper>);

impl Alarm {
    /// Wakes the core if it sleeps. What was written before is seen by it.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed)
            && self.0.asleep.swap(false, Ordering::AcqRel)
            && let Some(waker) = self.0.waker.get()
        {
            waker.wake();
        }
    }
}

/// One core's ends of all rings.
#[derive(Debug)]
pub struct Port<M> {
    core: usize,
    peers: Vec<Option<Peer<M>>>,
    own: Arc<Sleeper>,
}

#[derive(Debug)]
struct Peer<M> {
    outgoing: rtrb::Producer<M>,
    incoming: rtrb::Consumer<M>,
    waiting: VecDeque<M>,
    alarm: Alarm,
    sent: bool,
}

/// Connects `cores` cores with each other.
pub fn mesh<M>(cores: usize) -> Vec<Port<M>> {
    let sleepers: Vec<Arc<Sleeper>> = (0..cores)
        .map(|_| {
            Arc::new(Sleeper {
                asleep: AtomicBool::new(false),
                waker: std::sync::OnceLock::new(),
            })
        })
        .collect();
    let mut producers: Vec<Vec<Option<rtrb::Producer<M>>>> = Vec::new();
    let mut consumers: Vec<Vec<Option<rtrb::Consumer<M>>>> = (0..cores).map(|_| Vec::new()).collect();
    for from in 0..cores {
        let mut row = Vec::new();
        for (to, inbox) in consumers.iter_mut().enumerate() {
            let (producer, consumer) = if from == to {
                (None, None)
            } else {
                split(rtrb::RingBuffer::new(RING_MESSAGES))
            };
            row.push(producer);
            inbox.push(consumer);
        }
        producers.push(row);
    }
    let ports = producers.into_iter().zip(consumers).enumerate();
    ports
        .map(|(core, (out, inn))| Port {
            core,
            own: sleepers[core].clone(),
            peers: out
                .into_iter()
                .zip(inn)
                .enumerate()
                .map(|(other, pair)| match pair {
                    (Some(outgoing), Some(incoming)) => Some(Peer {
                        outgoing,
                        incoming,
                        waiting: VecDeque::new(),
                        alarm: Alarm(sleepers[other].clone()),
                        sent: false,
                    }),
                    _ => None,
                })
                .collect(),
        })
        .collect()
}

fn split<M>(
    (producer, consumer): (rtrb::Producer<M>, rtrb::Consumer<M>),
) -> (Option<rtrb::Producer<M>>, Option<rtrb::Consumer<M>>) {
    (Some(producer), Some(consumer))
}

impl<M> Port<M> {
    /// The core this port belongs to.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Wakes this core, from any thread.
    pub fn alarm(&self) -> Alarm {
        Alarm(self.own.clone())
    }

    /// Tells the others how this core is woken. To be called once, on the core, before it first sleeps.
    pub fn set_waker(&self, waker: Waker) {
        // A second call would keep the first waker, which is as good: both belong to this core's ring.
        let _ = self.own.waker.set(waker);
    }

    /// Sends to another core. It is told of at [`flush`](Port::flush).
    pub fn send(&mut self, to: usize, message: M) {
        let Some(peer) = self.peers[to].as_mut() else {
            debug_assert!(false, "core {to} sends to itself");
            return;
        };
        peer.sent = true;
        if !peer.waiting.is_empty() {
            peer.waiting.push_back(message);
        } else if let Err(rtrb::PushError::Full(message)) = peer.outgoing.push(message) {
            peer.waiting.push_back(message);
        }
    }

    /// Moves on what waits, and wakes those who got something and sleep.
    pub fn flush(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            while let Some(message) = peer.waiting.pop_front() {
                if let Err(rtrb::PushError::Full(message)) = peer.outgoing.push(message) {
                    peer.waiting.push_front(message);
                    break;
                }
                peer.sent = true;
            }
            if std::mem::take(&mut peer.sent) {
                peer.alarm.ring();
            }
        }
    }

    /// Whether a peer is so far behind that this core must take no more from its clients.
    pub fn is_congested(&self) -> bool {
        self.peers
            .iter()
            .flatten()
            .any(|peer| peer.waiting.len() >= WAITING_MESSAGES_MAX)
    }

    /// Whether something waits for room in a ring, so that this core must not sleep.
    pub fn has_waiting(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.waiting.is_empty())
    }

    /// Takes what the others have sent until now.
    pub fn receive(&mut self, mut take: impl FnMut(usize, M)) -> bool {
        let mut any = false;
        for (from, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let waiting = peer.incoming.slots();
            any |= waiting > 0;
            // Only as many as there were: a fast sender must not keep this core from its own clients.
            for _ in 0..waiting {
                let Ok(message) = peer.incoming.pop() else { break };
                take(from, message);
            }
        }
        any
    }

    /// Whether another core has sent something.
    pub fn has_incoming(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.incoming.is_empty())
    }

    /// Announces that this core is about to sleep. It must look at everything that could wake it after this, and call
    /// [`awake`](Port::awake) when it goes on.
    pub fn falling_asleep(&self) {
        self.own.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends [`falling_asleep`](Port::falling_asleep).
    pub fn awake(&self) {
        self.own.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_order_through_a_full_ring() {
        let mut ports = mesh::<usize>(2);
        let mut b = ports.pop().expect("two ports");
        let mut a = ports.pop().expect("two ports");
        let total = RING_MESSAGES + WAITING_MESSAGES_MAX;
        (0..total).for_each(|n| a.send(1, n));
        assert!(a.is_congested());
        let mut got = Vec::new();
        while got.len() < total {
            a.flush();
            b.receive(|from, n| {
                assert_eq!(from, 0);
                got.push(n);
            });
        }
        assert!(got.iter().copied().eq(0..total));
        assert!(!a.is_congested() && !a.has_waiting() && !b.has_incoming());
    }

    #[test]
    fn cores_do_not_hear_themselves() {
        let mut ports = mesh::<usize>(3);
        (0..3).for_each(|from| {
            (0..3)
                .filter(|to| *to != from)
                .for_each(|to| ports[from].send(to, from))
        });
        ports.iter_mut().for_each(Port::flush);
        for (core, port) in ports.iter_mut().enumerate() {
            let mut from = Vec::new();
            port.receive(|core, _| from.push(core));
            assert_eq!(from, (0..3).filter(|other| *other != core).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_sleepers_are_woken() {
        let mut ring = ringgate_uring::Ring::new(&ringgate_uring::RingConfig {
            receive_buffers: 2,
            sockets_max: 2,
            ..Default::default()
        })
        .expect("ring");
        let ports = mesh::<()>(1);
        ports[0].set_waker(ring.waker());
        let alarm = ports[0].alarm();
        alarm.ring();
        ring.submit().expect("enter");
        assert!(ring.next_completion().is_none(), "nobody has woken it");
        ports[0].falling_asleep();
        alarm.ring();
        ring.submit().expect("enter");
        assert!(matches!(
            ring.next_completion(),
            Some(ringgate_uring::Completion::Woken)
        ));
    }
}
