//! What is under way on a connection.

use std::collections::HashMap;
use std::sync::Arc;

use ringgate_proto::agp::v1 as proto;
use tokio::sync::watch;

use crate::connection::Done;
use crate::connection::routes::Routes;
use crate::state::Answered;
use crate::stream::StreamState;
use crate::watch::WatchState;
use crate::{Code, Error, Reply};

/// Everything that waits for the gateway, by the id it will answer on.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) routes: Routes,
    pub(crate) publishes: HashMap<u64, Done<u32>>,
    pub(crate) unsubscribes: HashMap<u64, Done<()>>,
    pub(crate) requests: HashMap<u64, Done<Reply>>,
    /// Questions to state spaces, and changes of them.
    pub(crate) asks: HashMap<u64, Done<Answered>>,
    pub(crate) watches: HashMap<u64, Watching>,
    pub(crate) introductions: HashMap<u64, Done<proto::Connected>>,
    /// By the gateway's number of the introduction, in the order of acceptance.
    pub(crate) accepts: Vec<Accepting>,
    pub(crate) streams: HashMap<u64, Arc<StreamState>>,
    /// Requests of other agents that are unanswered, by the gateway's number; turned true when they are cancelled.
    pub(crate) incoming: HashMap<u64, watch::Sender<bool>>,
}

/// A watch as the driver knows it.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) state: Arc<WatchState>,
    /// Who waits for its begin.
    pub(crate) done: Option<Done<()>>,
}

/// An introduction that this agent has agreed to.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) introduction: u64,
    pub(crate) source: String,
    pub(crate) done: Done<proto::Connected>,
}

impl Tables {
    pub(crate) fn on_ack(&mut self, ack: proto::Ack) {
        if let Some(done) = self.publishes.remove(&ack.id) {
            answer(done, Ok(ack.receivers));
        } else if let Some(done) = self.asks.remove(&ack.id) {
            let revision = ack.revision;
            answer(done, Ok(Answered::Done { revision }));
        } else if let Some(watching) = self.watches.get_mut(&ack.id) {
            watching.state.acknowledged();
            watching
                .done
                .take()
                .into_iter()
                .for_each(|done| answer(done, Ok(())));
        } else if let Some(done) = self.unsubscribes.remove(&ack.id) {
            answer(done, Ok(()));
        } else if let Some(done) = self.routes.get_mut(ack.id).and_then(|route| route.done.take()) {
            answer(done, Ok(()));
        }
    }

    /// An error on something of this agent; given back if it is on nothing known.
    pub(crate) fn on_error(&mut self, error: proto::Error) -> Option<Error> {
        let id = error.id;
        let code = error.code();
        let error = Error::gateway(error);
        if let Some(done) = self.requests.remove(&id) {
            answer(done, Err(error));
        } else if let Some(done) = self.asks.remove(&id) {
            answer(done, Err(error));
        } else if let Some(watching) = self.watches.remove(&id) {
            watching.state.end(Err(error.clone()));
            watching
                .done
                .into_iter()
                .for_each(|done| answer(done, Err(error.clone())));
        } else if let Some(done) = self.publishes.remove(&id) {
            answer(done, Err(error));
        } else if let Some(done) = self.introductions.remove(&id) {
            answer(done, Err(error));
        } else if let Some(done) = self.unsubscribes.remove(&id) {
            answer(done, Err(error));
        } else if self.routes.get_mut(id).is_some() {
            self.on_subscribe_error(id, code, error);
        } else if let Some(stream) = self.streams.remove(&id) {
            stream.end(Err(error));
        } else if let Some(at) = self.accepts.iter().position(|accept| accept.introduction == id) {
            answer(self.accepts.remove(at).done, Err(error));
        } else {
            return Some(error);
        }
        None
    }

    fn on_subscribe_error(&mut self, id: u64, code: Code, error: Error) {
        // The Subscribe had been carried out before the connection was lost, and the session was resumed.
        if code == Code::AlreadyExists {
            return self.on_ack(proto::Ack {
                id,
                ..Default::default()
            });
        }
        let Some(route) = self.routes.remove(id) else {
            return;
        };
        if let Some(done) = route.done {
            answer(done, Err(error.clone()));
        }
        route.state.end(Err(error));
    }

    pub(crate) fn on_deliver(&mut self, deliver: proto::Deliver) {
        let Some(done) = self.requests.remove(&deliver.id) else {
            return;
        };
        answer(
            done,
            match deliver.code() {
                Code::Unspecified if deliver.code == 0 => Ok(Reply {
                    payload: deliver.payload,
                    headers: deliver.headers,
                    source: deliver.source,
                }),
                code => Err(Error::Peer {
                    source_name: deliver.source,
                    code,
                    message: deliver.message,
                }),
            },
        );
    }

    pub(crate) fn on_value(&mut self, value: proto::StateValue) {
        if let Some(done) = self.asks.remove(&value.id) {
            answer(done, Ok(Answered::Value(value)));
        }
    }

    pub(crate) fn on_connected(&mut self, connected: proto::Connected) {
        if let Some(done) = self.introductions.remove(&connected.id) {
            return answer(done, Ok(connected));
        }
        // To the one who accepted, the gateway may say the number of the introduction, or only who the peer is.
        let number = connected.introduction;
        let is_it = |accept: &Accepting| match number {
            0 => accept.source == connected.source,
            number => accept.introduction == number,
        };
        if let Some(at) = self.accepts.iter().position(is_it) {
            answer(self.accepts.remove(at).done, Ok(connected));
        }
    }

    pub(crate) fn on_rejected(&mut self, reject: proto::Reject) {
        if let Some(done) = self.introductions.remove(&reject.id) {
            let code = reject.code();
            let error = Error::Peer {
                source_name: reject.source,
                code,
                message: reject.message,
            };
            answer(done, Err(error));
        }
    }

    pub(crate) fn on_stream_close(&mut self, close: proto::StreamClose) {
        let Some(stream) = self.streams.remove(&close.stream) else {
            return;
        };
        stream.end(match close.code() {
            Code::Unspecified if close.code == 0 => Ok(()),
            code => Err(Error::Peer {
                source_name: "the other end of the stream".into(),
                code,
                message: close.message,
            }),
        });
    }

    pub(crate) fn on_cancel(&mut self, cancel: proto::Cancel) {
        match cancel.what {
            Some(proto::cancel::What::Request(number)) => {
                if let Some(cancelled) = self.incoming.remove(&number) {
                    cancelled.send_replace(true);
                }
            }
            Some(proto::cancel::What::Introduction(number)) => {
                let is_it = |accept: &Accepting| accept.introduction == number;
                if let Some(at) = self.accepts.iter().position(is_it) {
                    let Accepting { source, done, .. } = self.accepts.remove(at);
                    let message = "it no longer waits for the introduction".to_owned();
                    answer(
                        done,
                        Err(Error::Peer {
                            source_name: source,
                            code: Code::Cancelled,
                            message,
                        }),
                    );
                }
            }
            None => {}
        }
    }

    /// The connection is gone: what waited on it fails. Subscriptions stay.
    pub(crate) fn lost(&mut self) {
        let lost = || Error::ConnectionLost;
        self.publishes
            .drain()
            .for_each(|(_, done)| answer(done, Err(lost())));
        self.unsubscribes
            .drain()
            .for_each(|(_, done)| answer(done, Err(lost())));
        self.requests
            .drain()
            .for_each(|(_, done)| answer(done, Err(lost())));
        self.introductions
            .drain()
            .for_each(|(_, done)| answer(done, Err(lost())));
        self.asks.drain().for_each(|(_, done)| answer(done, Err(lost())));
        self.accepts
            .drain(..)
            .for_each(|accept| answer(accept.done, Err(lost())));
        self.streams
            .drain()
            .for_each(|(_, stream)| stream.end(Err(lost())));
        self.incoming
            .drain()
            .for_each(|(_, cancelled)| _ = cancelled.send_replace(true));
        self.routes.forget_copies();
    }
}

/// Tells whoever waits; nobody may.
pub(crate) fn answer<T>(done: Done<T>, result: Result<T, Error>) {
    let _ = done.send(result);
}
