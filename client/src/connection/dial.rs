//! Connecting and registering.

use bytes::Bytes;
use http::uri::PathAndQuery;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::Error;
use crate::config::Config;

/// Messages between the driver and the HTTP/2 stream: enough for a full frame of small ones.
const OUTBOUND_MESSAGES: usize = 256;

/// A registered stream.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) outbound: mpsc::Sender<proto::AgentMessage>,
    pub(crate) inbound: tonic::Streaming<proto::GatewayMessage>,
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
    let channel = config
        .endpoint
        .connect()
        .await
        .map_err(|error| Error::transport(&config.url, &error))?;
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
    let path = PathAndQuery::from_static("/agp.v1.AgentGateway/Open");
    let request = tonic::Request::new(ReceiverStream::new(outgoing));
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
        Some(Heard::Registered(registered)) => Ok((Connection { outbound, inbound }, registered)),
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
