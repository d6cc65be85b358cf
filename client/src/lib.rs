//! The Rust agent SDK of Ringgate.
//!
//! An [`Agent`] holds one stream to the gateway and reaches other agents through it: by topic, by capability, by name.
//!
//! ```no_run
//! use ringgate_client::{Agent, Event, Target};
//!
//! # async fn demo() -> Result<(), ringgate_client::Error> {
//! let agent = Agent::builder("http://127.0.0.1:46357").name("acme/demo/reader/1").connect().await?;
//!
//! let mut weather = agent.subscribe("weather/*").await?;
//! agent.publish("weather/berlin", "sunny").await?;
//! if let Some(Event::Notification(notification)) = weather.next().await {
//!     println!("{}: {:?}", notification.topic, notification.payload);
//! }
//!
//! let reply = agent.request(Target::capability("forecast"), "berlin").await?;
//! println!("{} says {:?}", reply.source, reply.payload);
//! # Ok(())
//! # }
//! ```
//!
//! What to know:
//!
//! * **Clones are handles.** An [`Agent`] and all it gave out (subscriptions, streams, requests) share one session. It ends when the
//!   last of them is dropped, or with [`Agent::close`].
//! * **The connection comes back by itself**, with exponential backoff and jitter, and resumes the session where the gateway still
//!   has it. Subscriptions go on; one that may have missed messages says so ([`Event::Interrupted`]). What waited for an answer
//!   fails with [`Error::ConnectionLost`]; whether it was carried out is not known.
//! * **A gateway of the profile `strict` wants to know who an agent is.** A [`Credential`] says it: [`Enrollment`] gets one from the
//!   control process, [`Builder::identity`] presents it. It is renewed before it expires, and the agent changes over to a
//!   connection with the new one without missing a message.
//! * **Payloads are end-to-end encrypted** with [`groups`]: a gateway of the profile `strict` passes nothing else on.
//! * **Every queue is bounded** ([`Limits`]). Towards the gateway, calls wait. Towards the application, a subscription loses
//!   messages as its policy says, and tells how many ([`Event::Gap`]); requests, streams and introductions that find their queue
//!   full are refused.
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod config;
mod connection;
mod context;
mod credential;
mod error;
mod inbox;
mod introduce;
mod mls;
mod pattern;
mod publish;
mod request;
mod serve;
mod state;
mod stream;
mod subscription;
mod target;
mod watch;

pub use agent::{Agent, ConnectionState};
pub use config::{Builder, Limits, Tls};
pub use context::{ConversationContext, Participant, Turn};
pub use credential::{Credential, CredentialError, Enrollment, Held, Trust};
pub use error::Error;
pub use introduce::{Channel, Introduce, Introduction, Introductions};
pub use publish::Publication;
pub use request::{Reply, Request};
pub use ringgate_identity::keystore::Seal;
pub use ringgate_identity::tls::Expected;
pub use ringgate_identity::{Fingerprint, NodeId};
pub use ringgate_proto::agp::v1::Code;
pub use serve::{IncomingRequest, Requests, Response};
pub use state::{Entry, Put, Space};
pub use stream::{AgentStream, IncomingStream, IncomingStreams, OpenStream, StreamReceiver, StreamSender};
pub use subscription::{DeliveryPolicy, Event, Gap, Notification, Subscribe, Subscription};
pub use target::{Balance, Target};
pub use watch::{Change, Watch, WatchSpace};

/// End-to-end encryption: groups of agents, and what they say to each other.
pub mod groups {
    pub use crate::mls::{
        Group, GroupError, GroupInfo, GroupOptions, Groups, Opened, Peer, ProtectedEvent, ProtectedReceiver,
        ProtectedReply, ProtectedRequest, ProtectedRequests, ProtectedSender, ProtectedStream,
        ProtectedStreams, ProtectedSubscription, Route,
    };
}

/// Names and values that travel beside a payload.
pub type Headers = std::collections::BTreeMap<String, String>;
