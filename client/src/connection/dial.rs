//! Connecting and registering.

use bytes::Bytes;
use http::uri::PathAndQuery;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::Error;
use crate::config::Config;
use crate::credential::{Metadata, Shown};

/// Messages between the driver and the HTTP/2 stream: enough for a full frame of small ones.
const OUTBOUND_MESSAGES: usize = 256;

/// The one method of the protocol.
const OPEN: &str = "/agp.v1.AgentGateway/Open";

/// A registered stream.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) outbound: mpsc::Sender<proto::AgentMessage>,
    pub(crate) inbound: tonic::Streaming<proto::GatewayMessage>,
    /// What the agent showed of its identity.
    pub(crate) shown: Option<Shown>,
}

/// One attempt.
pub(crate) async fn dial(
    config: &Config,
    resume_token: Bytes,
) -> Result<(Connection, proto::Registered), Error> {
    match tokio::time::timeout(config.connect_timeout, open(config, resume_token)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::Timeout {
            waited: config.connect_timeout,
        }),
    }
}

async fn open(config: &Config, resume_token: Bytes) -> Result<(Connection, proto::Registered), Error> {
    let (channel, shown, metadata) = reach(config).await?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(config.limits.message_bytes_max);
    grpc.ready()
        .await
        .map_err(|error| Error::transport(&config.url, &error))?;
    let (outbound, outgoing) = mpsc::channel(OUTBOUND_MESSAGES);
    let register = proto::Register {
        resume_token,
        ..config.register.clone()
    };
    let register = proto::AgentMessage {
        body: Some(Said::Register(register)),
    };
    outbound.send(register).await.map_err(|_| Error::Closed)?;
    let path = PathAndQuery::from_static(OPEN);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    for (key, value) in metadata {
        request.metadata_mut().insert(key, value);
    }
    let codec = ProstCodec::<proto::AgentMessage, proto::GatewayMessage>::default();
    let response = grpc.streaming(request, path, codec).await;
    let mut inbound = response
        .map_err(|status| Error::status(&config.url, &status))?
        .into_inner();
    let first = inbound
        .message()
        .await
        .map_err(|status| Error::status(&config.url, &status))?;
    match first.and_then(|message| message.body) {
        Some(Heard::Registered(registered)) => {
            let connection = Connection {
                outbound,
                inbound,
                shown,
            };
            Ok((connection, registered))
        }
        Some(Heard::Error(error)) => Err(Error::Refused {
            code: error.code(),
            message: error.message,
        }),
        _ => Err(Error::Unreachable {
            url: config.url.clone(),
            reason: "it did not answer the registration; it may be no agent gateway".into(),
        }),
    }
}

/// Connects, and says what goes with the call.
async fn reach(config: &Config) -> Result<(Channel, Option<Shown>, Metadata), Error> {
    let Some(presenter) = &config.presenter else {
        let channel = config
            .endpoint
            .connect()
            .await
            .map_err(|error| Error::transport(&config.url, &error))?;
        return Ok((channel, None, Metadata::new()));
    };
    let (shown, metadata) = presenter.show(OPEN).await?;
    let channel = presenter.connect(&config.endpoint).await?;
    Ok((channel, Some(shown), metadata))
}
