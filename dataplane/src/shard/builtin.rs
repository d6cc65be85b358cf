//! Calls that every node answers by itself: gRPC health and reflection, and `GET /healthz` over HTTP/2.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use ringgate_grpc::health::{self, Registry, ServingStatus, Watch};
use ringgate_grpc::reflection::{self, Reflection, ReflectionError};
use ringgate_grpc::request::Reply;
use ringgate_grpc::{Message, Request, Status, frame};
use ringgate_http2::HeaderList;

use super::service::Handler;

/// Path of the plain HTTP health check, for tools that do not speak gRPC.
const HEALTH_PATH: &[u8] = b"/healthz";

/// The services that a shard has besides its own.
pub(crate) struct Builtin {
    registry: Rc<RefCell<Registry>>,
    reflection: Rc<Reflection>,
}

impl Builtin {
    /// Speaks for `services`, which are full names found in the descriptor set.
    pub(crate) fn new(services: &[&'static str]) -> Result<Builtin, ReflectionError> {
        let own = [
            health::SERVICE,
            reflection::SERVICE_V1,
            reflection::SERVICE_V1ALPHA,
        ];
        let all: Vec<&str> = services.iter().copied().chain(own).collect();
        Ok(Builtin {
            registry: Rc::new(RefCell::new(Registry::new(
                all.iter().copied(),
                ServingStatus::Serving,
            ))),
            reflection: Rc::new(Reflection::new(ringgate_proto::FILE_DESCRIPTOR_SET, &all)?),
        })
    }

    /// From now on health says that no new calls are taken.
    pub(crate) fn stop_serving(&self) {
        self.registry.borrow_mut().set_all(ServingStatus::NotServing);
    }

    /// The handler of a call, where it is to one of these services.
    pub(crate) fn call(&self, request: &Request) -> Option<Box<dyn Handler>> {
        let registry = || self.registry.clone();
        match (request.service(), request.method()) {
            (health::SERVICE, "Check") => Some(Box::new(Unary(
                move |message: &[u8], registry: &Registry| registry.check(message),
                registry(),
            ))),
            (health::SERVICE, "List") => Some(Box::new(Unary(
                move |message: &[u8], registry: &Registry| registry.list(message),
                registry(),
            ))),
            (health::SERVICE, "Watch") => Some(Box::new(HealthWatch {
                registry: registry(),
                watch: None,
            })),
            (reflection::SERVICE_V1 | reflection::SERVICE_V1ALPHA, "ServerReflectionInfo") => {
                Some(Box::new(Reflect(self.reflection.clone())))
            }
            _ => None,
        }
    }
}

/// The answer to a request that is plain HTTP and for this node.
pub(crate) fn plain_http(headers: &HeaderList) -> Option<Reply> {
    if headers.path() != Some(HEALTH_PATH) || !matches!(headers.method(), Some(b"GET" | b"HEAD")) {
        return None;
    }
    let mut answer = HeaderList::new();
    answer.push(b":status", b"200");
    answer.push(b"content-type", b"text/plain");
    answer.push(b"content-length", b"3");
    let body: &[u8] = if headers.method() == Some(b"GET") {
        b"ok\n"
    } else {
        b""
    };
    Some(Reply {
        headers: answer,
        body,
    })
}

/// A unary method: one message, one answer.
struct Unary<F>(F, Rc<RefCell<Registry>>);

impl<F: Fn(&[u8], &Registry) -> Result<Bytes, Status>> Handler for Unary<F> {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<Bytes>) -> Result<(), Status> {
        out.push(frame::framed(&(self.0)(message.payload, &self.1.borrow())?));
        // The answer is complete whatever else the client sends.
        Err(Status::OK)
    }

    fn half_closed(&mut self, _: &mut Vec<Bytes>) -> Option<Status> {
        Some(Status::new(
            ringgate_grpc::Code::Internal,
            "the call ended before its request message came",
        ))
    }
}

struct HealthWatch {
    registry: Rc<RefCell<Registry>>,
    watch: Option<Watch>,
}

impl Handler for HealthWatch {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<Bytes>) -> Result<(), Status> {
        let mut watch = Watch::open(message.payload)?;
        out.extend(
            watch
                .poll(&self.registry.borrow())
                .map(|message| frame::framed(&message)),
        );
        self.watch = Some(watch);
        Ok(())
    }

    fn half_closed(&mut self, _: &mut Vec<Bytes>) -> Option<Status> {
        // It goes on until the client gives it up.
        None
    }

    fn wants_poll(&self) -> bool {
        self.watch.is_some()
    }

    fn poll(&mut self, out: &mut Vec<Bytes>) {
        if let Some(watch) = &mut self.watch {
            out.extend(
                watch
                    .poll(&self.registry.borrow())
                    .map(|message| frame::framed(&message)),
            );
        }
    }
}

struct Reflect(Rc<Reflection>);

impl Handler for Reflect {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<Bytes>) -> Result<(), Status> {
        out.push(frame::framed(&self.0.answer(message.payload)?));
        Ok(())
    }

    fn half_closed(&mut self, _: &mut Vec<Bytes>) -> Option<Status> {
        Some(Status::OK)
    }
}
