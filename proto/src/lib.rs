//! Protocol definitions of Ringgate and the gRPC services it serves, with generated types.
//!
//! The `.proto` files beside this crate's manifest are the contract; the types follow them. `bytes` fields are
//! [`bytes::Bytes`], so decoding from a `Bytes` slices the payload and does not copy it.
//!
//! The data path of the gateway does not decode these messages whole: `ringgate-wire` reads the few fields it routes by and
//! passes the bytes on. The types serve clients, tests, and the services off the hot path.
#![forbid(unsafe_code)]

/// Descriptors of all files, with their imports, as an encoded `google.protobuf.FileDescriptorSet` without source info. Served by
/// reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The Agent Gateway Protocol.
pub mod agp {
    /// The native protocol: one stream of messages per agent.
    #[allow(
        missing_docs,
        clippy::all,
        reason = "generated; the .proto file is where these are documented"
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/agp.v1.rs"));
    }

    /// What gateways of one network tell their neighbours.
    pub mod neighbour {
        /// The version in use.
        #[allow(
            missing_docs,
            clippy::all,
            reason = "generated; the .proto file is where these are documented"
        )]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/agp.neighbour.v1.rs"));
        }
    }
}

/// The control process.
pub mod control {
    /// Descriptors of its services, as an encoded `google.protobuf.FileDescriptorSet` without source info.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/control_descriptors.bin"));

    /// Identity, policy, configuration, registry, nodes, audit. Servers and clients of the services are there with the feature
    /// `control`.
    #[allow(
        missing_docs,
        clippy::all,
        reason = "generated; the .proto files are where these are documented"
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/ringgate.control.v1.rs"));
    }
}

/// Services that every gRPC server is expected to have, and those of its interoperability tests.
pub mod grpc {
    /// Health checking.
    pub mod health {
        /// The version in use.
        #[allow(
            missing_docs,
            clippy::all,
            reason = "generated; the .proto file is where these are documented"
        )]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
        }
    }

    /// Server reflection.
    pub mod reflection {
        /// The settled version.
        #[allow(
            missing_docs,
            clippy::all,
            reason = "generated; the .proto file is where these are documented"
        )]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
        }

        /// The version before it, message for message the same on the wire.
        #[allow(
            missing_docs,
            clippy::all,
            reason = "generated; the .proto file is where these are documented"
        )]
        pub mod v1alpha {
            include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.rs"));
        }
    }

    /// The interoperability tests.
    #[allow(
        missing_docs,
        clippy::all,
        reason = "generated; the .proto file is where these are documented"
    )]
    pub mod testing {
        include!(concat!(env!("OUT_DIR"), "/grpc.testing.rs"));
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_payload_is_sliced_not_copied() {
        let publish = agp::v1::Publish {
            topic: "a/b".into(),
            payload: bytes::Bytes::from_static(b"payload"),
            ..Default::default()
        };
        let wire = bytes::Bytes::from(publish.encode_to_vec());
        let decoded = agp::v1::Publish::decode(wire.clone()).expect("own encoding");
        assert_eq!(decoded, publish);
        assert!(wire.as_ptr_range().contains(&decoded.payload.as_ptr()));
    }

    #[test]
    fn shared_bodies_travel_unchanged() {
        let sent = agp::v1::AgentMessage {
            body: Some(agp::v1::agent_message::Body::Publish(agp::v1::Publish {
                topic: "a/b".into(),
                payload: bytes::Bytes::from_static(b"payload"),
                headers: [("k".to_owned(), "v".to_owned())].into(),
                id: 7,
            })),
        };
        let got = agp::v1::GatewayMessage::decode(&sent.encode_to_vec()[..]).expect("shared numbers");
        let Some(agp::v1::gateway_message::Body::Notify(notify)) = got.body else {
            panic!("a Publish is read as a Notify, not as {got:?}");
        };
        assert_eq!(
            (notify.topic.as_str(), &notify.payload[..], notify.id),
            ("a/b", &b"payload"[..], 7)
        );
        assert_eq!(notify.headers["k"], "v");
    }

    #[test]
    fn descriptors_name_every_service() {
        for service in [
            "AgentGateway",
            "Health",
            "ServerReflection",
            "TestService",
            "UnimplementedService",
        ] {
            let name = service.as_bytes();
            assert!(
                FILE_DESCRIPTOR_SET
                    .windows(name.len())
                    .any(|window| window == name),
                "{service}"
            );
        }
    }
}
