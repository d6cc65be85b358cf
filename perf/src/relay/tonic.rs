//! What the same fan-out costs when it is written in the usual way: a tonic service over the native protocol's messages, decoded by
//! prost, with a channel for each subscriber that each delivery is encoded for. A reader that stalls stalls its publishers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ringgate_proto::agp::v1 as agp;
use ringgate_proto::agp::v1::agent_message::Body as Says;
use ringgate_proto::agp::v1::gateway_message::Body as Hears;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::Grpc;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::Error;

/// Messages that may wait for one subscriber; its publishers wait beyond.
const QUEUE_MESSAGES: usize = 1024;
/// What publishers may send ahead, on a connection and on its stream: what SLIM's server allows too.
const WINDOW_BYTES: u32 = 1 << 20;

/// Serves on one thread, for ever.
pub(super) fn run(listener: TcpListener) -> Result<Infallible, Error> {
    let ended = |source| Error::Io {
        what: "the tonic relay has ended",
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .and_then(|runtime| runtime.block_on(serve(listener)))
        .map_err(ended)
}

/// Returns only when it cannot go on.
async fn serve(listener: TcpListener) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let hub = Arc::new(Hub::default());
    // There is one method, so nothing looks at the path.
    let service = service_fn(move |request: http::Request<tonic::body::Body>| {
        let hub = Arc::clone(&hub);
        async move {
            let open = service_fn(move |request| {
                let opened = open(Arc::clone(&hub), request);
                async { Ok::<_, Status>(opened) }
            });
            Ok::<_, Infallible>(Grpc::new(ProstCodec::default()).streaming(open, request).await)
        }
    });
    Server::builder()
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .serve_with_incoming(service, incoming)
        .await
        .map_err(io::Error::other)?;
    Err(io::Error::other("no more connections come"))
}

type Said = Result<agp::GatewayMessage, Status>;

/// One subscription: whose, under which number, and the way to its agent.
#[derive(Clone)]
struct Subscription {
    agent: u64,
    id: u64,
    sender: mpsc::Sender<Said>,
}

/// Who has subscribed to what.
#[derive(Default)]
struct Hub(Mutex<Table>);

#[derive(Default)]
struct Table {
    agents: u64,
    /// Replaced at each change, so that a publish takes it without a copy.
    topics: HashMap<String, Arc<[Subscription]>>,
}

impl Hub {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, topic: String, change: impl FnOnce(&mut Vec<Subscription>)) {
        let mut table = self.table();
        let mut all = table.topics.get(&topic).map_or_else(Vec::new, |all| all.to_vec());
        change(&mut all);
        table.topics.insert(topic, all.into());
    }

    fn subscriptions(&self, topic: &str) -> Option<Arc<[Subscription]>> {
        self.table().topics.get(topic).cloned()
    }
}

fn open(hub: Arc<Hub>, request: Request<Streaming<agp::AgentMessage>>) -> Response<ReceiverStream<Said>> {
    let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
    let number = {
        let mut table = hub.table();
        table.agents += 1;
        table.agents
    };
    let agent = Agent {
        hub,
        number,
        name: String::new(),
        sequence: 0,
        topics: HashMap::new(),
        sender,
    };
    tokio::spawn(agent.listen(request.into_inner()));
    Response::new(ReceiverStream::new(receiver))
}

/// One stream.
struct Agent {
    hub: Arc<Hub>,
    number: u64,
    name: String,
    sequence: u64,
    /// What it has subscribed to, by the number it gave.
    topics: HashMap<u64, String>,
    sender: mpsc::Sender<Said>,
}

impl Agent {
    async fn listen(mut self, mut messages: Streaming<agp::AgentMessage>) {
        // An error is an agent that has gone, or talks nonsense; either way it is over.
        while let Ok(Some(message)) = messages.message().await {
            let Some(body) = message.body else { continue };
            let answered = match self.hear(body).await {
                Some(answer) => self.sender.send(Ok(said(answer))).await.is_ok(),
                None => true,
            };
            if !answered {
                break;
            }
        }
        for id in self.topics.keys().copied().collect::<Vec<u64>>() {
            self.unsubscribe(id);
        }
    }

    async fn hear(&mut self, body: Says) -> Option<Hears> {
        match body {
            Says::Register(register) => {
                self.name = register.name;
                Some(Hears::Registered(agp::Registered::default()))
            }
            Says::Subscribe(subscribe) => {
                let subscription = Subscription {
                    agent: self.number,
                    id: subscribe.id,
                    sender: self.sender.clone(),
                };
                self.topics.insert(subscribe.id, subscribe.pattern.clone());
                self.hub.change(subscribe.pattern, |all| all.push(subscription));
                Some(ack(subscribe.id))
            }
            Says::Unsubscribe(unsubscribe) => {
                self.unsubscribe(unsubscribe.id);
                Some(ack(unsubscribe.id))
            }
            Says::Publish(publish) => {
                self.publish(publish).await;
                None
            }
            _ => Some(Hears::Error(agp::Error {
                code: agp::Code::Unsupported.into(),
                message: "the tonic relay knows topics only".into(),
                ..agp::Error::default()
            })),
        }
    }

    fn unsubscribe(&mut self, id: u64) {
        if let Some(topic) = self.topics.remove(&id) {
            let number = self.number;
            self.hub
                .change(topic, |all| all.retain(|it| (it.agent, it.id) != (number, id)));
        }
    }

    async fn publish(&mut self, publish: agp::Publish) {
        self.sequence += 1;
        let Some(subscriptions) = self.hub.subscriptions(&publish.topic) else {
            return;
        };
        let notify = agp::Notify {
            topic: publish.topic,
            payload: publish.payload,
            headers: publish.headers,
            source: self.name.clone(),
            sequence: self.sequence,
            time_unix_nanos: unix_nanos(),
            ..agp::Notify::default()
        };
        for subscription in subscriptions.iter() {
            // Fails for one that has just gone.
            let _ = subscription
                .sender
                .send(Ok(said(Hears::Notify(notify.clone()))))
                .await;
        }
    }
}

fn said(body: Hears) -> agp::GatewayMessage {
    agp::GatewayMessage { body: Some(body) }
}

fn ack(id: u64) -> Hears {
    Hears::Ack(agp::Ack {
        id,
        ..agp::Ack::default()
    })
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64
}
