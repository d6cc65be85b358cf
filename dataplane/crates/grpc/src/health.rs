//! The gRPC health checking protocol, `grpc.health.v1`
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): a registry, and functions from request message to
//! response message, both without the prefix of [`frame`](crate::frame).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use ringgate_proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus as WireStatus,
};

use crate::status::{Code, Status};

/// Full name of the service.
pub const SERVICE: &str = "grpc.health.v1.Health";

/// The name under which the server as a whole is asked for.
pub const SERVER: &str = "";

/// Longest service name that is asked for, in bytes; a watch holds one for its whole life. Names in use are a tenth of it.
pub const SERVICE_NAME_BYTES_MAX: usize = 512;

/// Most services in one answer of `List`, as the protocol says.
pub const LIST_SERVICES_MAX: usize = 100;

/// Whether a service takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingStatus {
    /// It does.
    Serving,
    /// It does not, for now or for good.
    NotServing,
}

impl From<ServingStatus> for WireStatus {
    fn from(status: ServingStatus) -> Self {
        match status {
            ServingStatus::Serving => Self::Serving,
            ServingStatus::NotServing => Self::NotServing,
        }
    }
}

/// The status of each service of a server.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: BTreeMap<String, ServingStatus>,
}

impl Registry {
    /// A registry in which the server as a whole, and each of `services`, has `status`.
    pub fn new<'a>(services: impl IntoIterator<Item = &'a str>, status: ServingStatus) -> Self {
        let names = services.into_iter().chain([SERVER]);
        Self {
            services: names.map(|name| (name.to_owned(), status)).collect(),
        }
    }

    /// Sets the status of one service, which may be new. Watches learn of it by [`Watch::poll`].
    pub fn set(&mut self, service: &str, status: ServingStatus) {
        self.services.insert(service.to_owned(), status);
    }

    /// Sets the status of the server and all its services: draining, for one.
    pub fn set_all(&mut self, status: ServingStatus) {
        self.services.values_mut().for_each(|known| *known = status);
    }

    /// The status of a service, `None` if it is not known.
    pub fn get(&self, service: &str) -> Option<ServingStatus> {
        self.services.get(service).copied()
    }

    /// `Check`: the status of one service.
    ///
    /// # Errors
    /// `NOT_FOUND` if the service is not known, `INVALID_ARGUMENT` if the request cannot be read.
    pub fn check(&self, request: &[u8]) -> Result<Bytes, Status> {
        let service = requested(request)?;
        let known = self.get(&service);
        let status =
            known.ok_or_else(|| Status::new(Code::NotFound, format!("unknown service {service:?}")))?;
        Ok(response(status.into()))
    }

    /// `List`: the status of all services.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are more than [`LIST_SERVICES_MAX`], `INVALID_ARGUMENT` if the request cannot be read.
    pub fn list(&self, request: &[u8]) -> Result<Bytes, Status> {
        HealthListRequest::decode(request).map_err(undecodable)?;
        if self.services.len() > LIST_SERVICES_MAX {
            let message = format!("more than {LIST_SERVICES_MAX} services; ask for them one by one");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let status = |status| HealthCheckResponse {
            status: WireStatus::from(status).into(),
        };
        let statuses = self
            .services
            .iter()
            .map(|(name, known)| (name.clone(), status(*known)))
            .collect();
        Ok(HealthListResponse { statuses }.encode_to_vec().into())
    }
}

/// `Watch`: one call that is told a service's status, and then each change of it. A service that is not known is watched too,
/// as it may become known.
#[derive(Clone, Debug)]
pub struct Watch {
    service: Box<str>,
    told: Option<WireStatus>,
}

impl Watch {
    /// A watch as requested.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the request cannot be read.
    pub fn open(request: &[u8]) -> Result<Self, Status> {
        Ok(Self {
            service: requested(request)?.into(),
            told: None,
        })
    }

    /// The message to send, if the status is another than was told last. To be asked at once after
    /// [`open`](Self::open), and whenever the registry changed.
    pub fn poll(&mut self, registry: &Registry) -> Option<Bytes> {
        let status = registry
            .get(&self.service)
            .map_or(WireStatus::ServiceUnknown, WireStatus::from);
        (self.told.replace(status) != Some(status)).then(|| response(status))
    }
}

fn requested(request: &[u8]) -> Result<String, Status> {
    let service = HealthCheckRequest::decode(request).map_err(undecodable)?.service;
    if service.len() > SERVICE_NAME_BYTES_MAX {
        let message = format!("service name is longer than {SERVICE_NAME_BYTES_MAX} bytes");
        return Err(Status::new(Code::InvalidArgument, message));
    }
    Ok(service)
}

fn undecodable(error: prost::DecodeError) -> Status {
    Status::new(
        Code::InvalidArgument,
        format!("request cannot be decoded: {error}"),
    )
}

fn response(status: WireStatus) -> Bytes {
    HealthCheckResponse {
        status: status.into(),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENTS: &str = "agp.v1.AgentGateway";

    fn ask(service: &str) -> Vec<u8> {
        HealthCheckRequest {
            service: service.to_owned(),
        }
        .encode_to_vec()
    }

    fn told(message: Bytes) -> WireStatus {
        HealthCheckResponse::decode(message)
            .expect("own encoding")
            .status()
    }

    #[test]
    fn check_knows_its_services() {
        let mut registry = Registry::new([AGENTS], ServingStatus::Serving);
        assert_eq!(registry.check(&ask("")).map(told), Ok(WireStatus::Serving));
        assert_eq!(registry.check(&ask(AGENTS)).map(told), Ok(WireStatus::Serving));
        assert_eq!(registry.check(&ask("other")).unwrap_err().code(), Code::NotFound);

        registry.set(AGENTS, ServingStatus::NotServing);
        assert_eq!(registry.check(&ask(AGENTS)).map(told), Ok(WireStatus::NotServing));
        assert_eq!(registry.check(&ask("")).map(told), Ok(WireStatus::Serving));
    }

    #[test]
    fn list_names_all() {
        let mut registry = Registry::new([AGENTS], ServingStatus::Serving);
        let list = HealthListResponse::decode(registry.list(b"").unwrap()).unwrap();
        assert_eq!(list.statuses.keys().collect::<Vec<_>>(), ["", AGENTS]);
        assert!(
            list.statuses
                .values()
                .all(|status| status.status() == WireStatus::Serving)
        );

        (0..LIST_SERVICES_MAX).for_each(|number| registry.set(&number.to_string(), ServingStatus::Serving));
        assert_eq!(registry.list(b"").unwrap_err().code(), Code::ResourceExhausted);
    }

    #[test]
    fn watch_tells_the_status_and_then_changes() {
        let mut registry = Registry::new([AGENTS], ServingStatus::Serving);
        let mut watch = Watch::open(&ask(AGENTS)).unwrap();
        assert_eq!(watch.poll(&registry).map(told), Some(WireStatus::Serving));
        assert_eq!(watch.poll(&registry), None);
        registry.set_all(ServingStatus::NotServing);
        assert_eq!(watch.poll(&registry).map(told), Some(WireStatus::NotServing));
        assert_eq!(watch.poll(&registry), None);
    }

    #[test]
    fn watch_waits_for_an_unknown_service() {
        let mut registry = Registry::new([], ServingStatus::Serving);
        let mut watch = Watch::open(&ask("later")).unwrap();
        assert_eq!(watch.poll(&registry).map(told), Some(WireStatus::ServiceUnknown));
        registry.set("later", ServingStatus::Serving);
        assert_eq!(watch.poll(&registry).map(told), Some(WireStatus::Serving));
    }

    #[test]
    fn requests_are_checked() {
        let registry = Registry::default();
        for request in [
            &b"\x0a\x05ab"[..],
            b"\x0a\x02\xff\xff",
            &ask(&"x".repeat(SERVICE_NAME_BYTES_MAX + 1)),
        ] {
            assert_eq!(registry.check(request).unwrap_err().code(), Code::InvalidArgument);
            assert_eq!(Watch::open(request).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
