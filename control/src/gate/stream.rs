//! Streams end when the credential of their caller does, or when the process does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use ringgate_identity::{Reason, SharedVerifier, UnixTime};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::caller::Presented;
use crate::errors::refusal;

/// What ends a stream.
pub(super) struct Ending {
    verifier: Arc<SharedVerifier>,
    verifier_changed: watch::Receiver<u64>,
    draining: watch::Receiver<bool>,
    presented: Presented,
}

impl Ending {
    pub(super) fn new(
        verifier: Arc<SharedVerifier>,
        mut verifier_changed: watch::Receiver<u64>,
        draining: watch::Receiver<bool>,
        presented: Presented,
    ) -> Ending {
        // The credential was verified a moment ago, maybe by the verifier before this one.
        verifier_changed.mark_changed();
        Ending {
            verifier,
            verifier_changed,
            draining,
            presented,
        }
    }

    /// The body of a response, until the end.
    pub(super) fn watch(self, body: Body) -> Body {
        Body::new(Ended {
            body,
            ending: Some(Box::pin(self.ended())),
            done: false,
        })
    }

    async fn ended(mut self) -> Status {
        loop {
            let left = match &self.presented {
                Presented::Verified(credential) => {
                    let end = credential.not_after().as_secs().saturating_add(1);
                    Duration::from_secs(end.saturating_sub(UnixTime::now().as_secs()))
                }
                Presented::Nothing | Presented::Void { .. } => Duration::MAX,
            };
            tokio::select! {
                // An hour at most: the clock that a credential ends by may be set meanwhile.
                () = tokio::time::sleep(left.min(Duration::from_secs(3600))) => {}
                _ = self.verifier_changed.changed() => {}
                _ = self.draining.wait_for(|draining| *draining) => {
                    return refusal(Code::Unavailable, "DRAINING", "the control process is ending; connect again");
                }
            }
            // A timer may be early by the part of a second; then this goes round once more.
            if let Err(reason) = self.still_good() {
                return refusal(Code::Unauthenticated, reason.code(), reason.to_string());
            }
        }
    }

    fn still_good(&self) -> Result<(), Reason> {
        match &self.presented {
            Presented::Verified(credential) => credential.recheck(&self.verifier.load(), UnixTime::now()),
            Presented::Nothing | Presented::Void { .. } => Ok(()),
        }
    }
}

/// A body that ends early.
struct Ended {
    body: Body,
    ending: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    done: bool,
}

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(ending) = &mut self.ending
            && let Poll::Ready(status) = ending.as_mut().poll(context)
        {
            // What the handler holds is dropped now, not when the client has read the end.
            self.body = Body::empty();
            self.ending = None;
            self.done = true;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(
                status
                    .add_header(&mut trailers)
                    .map(|()| Frame::trailers(trailers)),
            ));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.body.is_end_stream()
    }
}
