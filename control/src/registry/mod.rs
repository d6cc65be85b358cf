//! Who is there: agents, by the word of the data planes that are attached.
//!
//! It is kept in memory. What is there is known again as soon as the data planes attach; until then, and for [`GRACE`] after one was
//! lost, its agents count as there, so that a data plane that only changes its control process makes no noise.
//!
//! Where several control processes share the store, each knows only the data planes that are attached to it. It tells the others
//! through the store ([`share`]), under a session: what a process told vanishes with it. Asking each other instead would need another
//! way between the processes, with credentials and failures of its own, and lists that wait for the slowest.

mod claims;
mod share;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream};
use ringgate_policy::{AgentName, Pattern};
use ringgate_proto::control::v1::agent_event::Kind;
use ringgate_proto::control::v1::registry_server::Registry as Service;
use ringgate_proto::control::v1::{
    Agent, AgentEvent, ListAgentsRequest, ListAgentsResponse, ListNodesRequest, ListNodesResponse, Node,
    Presence, WatchAgentsRequest,
};
use ringgate_store::{Store, StoreError};
use tokio::sync::broadcast;
use tonic::{Code, Request, Response, Status};

use crate::errors::{refusal, store_refusal};
use crate::keys;
use claims::{Claims, Origin, Shift};
use share::Shared;

/// How long the agents of a data plane that was lost count as there: it attaches again within a second or two.
pub const GRACE: Duration = Duration::from_secs(10);
/// Agents that are known at once, of all data planes together; with their names that is some 500 MiB.
pub const AGENTS_MAX: usize = 1_000_000;
/// Bytes of one agent's capabilities and labels.
const AGENT_BYTES_MAX: usize = 64 * 1024;
/// Events that one who watches may be behind.
const EVENTS_MAX: usize = 8192;
/// Data planes that are read from the store at once.
const NODES_PAGE: usize = 500;

/// Who is there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    table: Arc<Table>,
    /// Where others share the store.
    shared: Option<Shared>,
    store: Arc<dyn Store>,
    page_size_max: usize,
    attachments: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Table {
    known: Mutex<Known>,
    events: broadcast::Sender<(Kind, Arc<Agent>)>,
}

#[derive(Debug, Default)]
struct Known {
    agents: Claims<Agent>,
    nodes: Claims<Node>,
    /// Of the newest claim, where this process alone makes them.
    order: u64,
}

impl Registry {
    /// One over a store. It needs a runtime where the store is shared.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, page_size_max: usize) -> Registry {
        let table = Arc::new(Table {
            known: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
        });
        let shared = store.is_shared().then(|| Shared::start(store.clone(), &table));
        Registry {
            table,
            shared,
            store,
            page_size_max,
            attachments: Arc::default(),
        }
    }

    /// A data plane attaches. What it tells goes through what this returns, and is forgotten some time after that is dropped.
    #[must_use]
    pub fn attach(&self, node: &str) -> Attached {
        let number = self.attachments.fetch_add(1, Ordering::Relaxed) + 1;
        let process = self.shared.as_ref().map_or("", |shared| &*shared.process);
        Attached {
            registry: self.clone(),
            node: node.into(),
            origin: format!("{process}/{node}/{number}").into(),
        }
    }

    fn put_agent(&self, origin: &Origin, agent: Agent) {
        match &self.shared {
            Some(shared) => shared.put(
                &keys::PRESENT_AGENTS.at(&format!("{origin}/{}", agent.name)),
                &agent,
            ),
            None => self
                .table
                .known()
                .put_agent(&self.table.events, origin, None, agent),
        }
    }

    fn remove_agent(&self, origin: &Origin, name: &str) {
        match &self.shared {
            Some(shared) => shared.remove(&keys::PRESENT_AGENTS.at(&format!("{origin}/{name}"))),
            None => self.table.known().remove_agent(&self.table.events, origin, name),
        }
    }

    fn put_node(&self, origin: &Origin, node: Node) {
        match &self.shared {
            Some(shared) => shared.put(&keys::PRESENT_NODES.at(origin), &node),
            None => self.table.known().put_node(origin, None, node),
        }
    }

    fn remove_node(&self, origin: &Origin, node: &str) {
        match &self.shared {
            Some(shared) => shared.remove(&keys::PRESENT_NODES.at(origin)),
            None => {
                self.table.known().nodes.remove(node, origin);
            }
        }
    }

    /// Forgets the agents of an attachment, but those that are to stay.
    fn forget(&self, origin: &Origin, stays: impl Fn(&str) -> bool) {
        match &self.shared {
            Some(shared) => shared.remove_all(&keys::PRESENT_AGENTS.at(&format!("{origin}/")), stays),
            None => self.table.retain_agents(|name, of| of != origin || stays(name)),
        }
    }

    /// Agents by name after the token, that match; and the token of the next page.
    fn page(&self, request: &ListAgentsRequest) -> Result<ListAgentsResponse, Status> {
        let pattern = pattern(&request.pattern)?;
        let limit = match request.page_size as usize {
            0 => self.page_size_max,
            size => size.min(self.page_size_max),
        };
        let known = self.table.known();
        let mut response = ListAgentsResponse::default();
        for (name, agent) in known.agents.after(&request.page_token) {
            let wanted = pattern.is_none_or(|pattern| pattern.matches(name))
                && (request.capability.is_empty() || agent.capabilities.contains(&request.capability));
            if !wanted {
                continue;
            }
            if let Some(last) = response.agents.last()
                && response.agents.len() == limit
            {
                response.next_page_token.clone_from(&last.name);
                break;
            }
            response.agents.push(Agent::clone(&agent));
        }
        Ok(response)
    }

    /// All data planes, attached or not.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let mut nodes = BTreeMap::new();
        let mut beyond = String::new();
        loop {
            let page = keys::NODES.page(&*self.store, &beyond, NODES_PAGE).await?;
            for (id, stored) in page.items {
                beyond.clone_from(&id);
                nodes.insert(
                    id,
                    Node {
                        attached: false,
                        ..stored.value
                    },
                );
            }
            if !page.more {
                break;
            }
        }
        let known = self.table.known();
        nodes.extend(
            known
                .nodes
                .after("")
                .map(|(id, node)| (id.to_string(), Node::clone(&node))),
        );
        Ok(nodes.into_values().collect())
    }

    /// What is there, then what changes.
    fn events(&self, pattern: String) -> impl Stream<Item = Result<AgentEvent, Status>> + Send + 'static {
        let matches = move |agent: &Agent| {
            let pattern = Pattern::new(&pattern).ok();
            pattern.is_none_or(|pattern| pattern.matches(&agent.name))
        };
        // Both at once, so that nothing falls in between.
        let (present, events) = {
            let known = self.table.known();
            let present: Vec<_> = known.agents.after("").map(|(_, agent)| agent).collect();
            (present, self.table.events.subscribe())
        };
        let matches = Arc::new(matches);
        let wanted = Arc::clone(&matches);
        let present = stream::iter(present)
            .filter(move |agent| std::future::ready(wanted(agent)))
            .map(|agent| Ok(event(Kind::Present, Some(&agent))));
        let synced = stream::iter([Ok(event(Kind::Synced, None))]);
        let changes = stream::unfold(Some(events), move |events| {
            let matches = Arc::clone(&matches);
            async move {
                let mut events = events?;
                loop {
                    match events.recv().await {
                        Ok((kind, agent)) if matches(&agent) => {
                            return Some((Ok(event(kind, Some(&agent))), Some(events)));
                        }
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => return Some((Err(too_slow()), None)),
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            }
        });
        present.chain(synced).chain(changes)
    }
}

#[async_trait]
impl Service for Registry {
    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        self.page(request.get_ref()).map(Response::new)
    }

    type WatchAgentsStream = Pin<Box<dyn Stream<Item = Result<AgentEvent, Status>> + Send>>;

    async fn watch_agents(
        &self,
        request: Request<WatchAgentsRequest>,
    ) -> Result<Response<Self::WatchAgentsStream>, Status> {
        let text = request.into_inner().pattern;
        pattern(&text)?;
        Ok(Response::new(self.events(text).boxed()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        let nodes = self.nodes().await.map_err(|error| store_refusal(&error))?;
        Ok(Response::new(ListNodesResponse { nodes }))
    }
}

/// What one attachment of a data plane tells.
#[derive(Debug)]
pub struct Attached {
    registry: Registry,
    node: Arc<str>,
    origin: Origin,
}

impl Attached {
    /// Which agents are there, or what changed. What makes no sense is left out, and said in the log.
    pub fn agents(&self, presence: Presence) {
        if presence.all {
            let told: std::collections::BTreeSet<&str> =
                presence.up.iter().map(|agent| agent.name.as_str()).collect();
            self.registry.forget(&self.origin, |name| told.contains(name));
        }
        for agent in presence.up {
            let size: usize = agent.capabilities.iter().map(String::len).sum::<usize>()
                + agent
                    .labels
                    .iter()
                    .map(|(key, value)| key.len() + value.len())
                    .sum::<usize>();
            if AgentName::new(&agent.name).is_err() || size > AGENT_BYTES_MAX {
                tracing::warn!(
                    node = &*self.node,
                    agent = agent.name,
                    size,
                    "a node tells of an agent that cannot be"
                );
                continue;
            }
            let node = self.node.to_string();
            self.registry.put_agent(&self.origin, Agent { node, ..agent });
        }
        for name in presence.down {
            self.registry.remove_agent(&self.origin, &name);
        }
    }

    /// What is known of the data plane itself.
    pub fn node(&self, node: Node) {
        self.registry.put_node(&self.origin, node);
    }
}

impl Drop for Attached {
    /// The data plane is not attached any more; its agents are forgotten when it does not come back.
    fn drop(&mut self) {
        self.registry.remove_node(&self.origin, &self.node);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (registry, origin) = (self.registry.clone(), Arc::clone(&self.origin));
            runtime.spawn(async move {
                tokio::time::sleep(GRACE).await;
                registry.forget(&origin, |_| false);
            });
        }
    }
}

impl Table {
    fn known(&self) -> MutexGuard<'_, Known> {
        // No change is left half-made by a panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retain_agents(&self, stays: impl Fn(&str, &Origin) -> bool) {
        let mut known = self.known();
        for shift in known.agents.retain(stays) {
            tell(&self.events, shift);
        }
    }
}

type Events = broadcast::Sender<(Kind, Arc<Agent>)>;

impl Known {
    /// `order`: which claim is newer; `None`: this one.
    fn put_agent(&mut self, events: &Events, origin: &Origin, order: Option<u64>, agent: Agent) {
        let order = self.order(order);
        let name = agent.name.clone();
        if self.agents.len() >= AGENTS_MAX && !self.agents.contains(&name) {
            tracing::warn!(
                name,
                limit = AGENTS_MAX,
                "too many agents are there to know of one more"
            );
            return;
        }
        if let Some(shift) = self.agents.put(&name, origin, order, agent) {
            tell(events, shift);
        }
    }

    fn remove_agent(&mut self, events: &Events, origin: &str, name: &str) {
        if let Some(shift) = self.agents.remove(name, origin) {
            tell(events, shift);
        }
    }

    fn put_node(&mut self, origin: &Origin, order: Option<u64>, node: Node) {
        let order = self.order(order);
        let id = node.id.clone();
        self.nodes.put(&id, origin, order, node);
    }

    fn order(&mut self, order: Option<u64>) -> u64 {
        self.order = order.unwrap_or(self.order + 1);
        self.order
    }
}

fn tell(events: &Events, shift: Shift<Agent>) {
    // That nobody watches is no error.
    let _ = events.send(match shift {
        Shift::Up(agent) => (Kind::Up, agent),
        Shift::Changed(agent) => (Kind::Changed, agent),
        Shift::Down(agent) => (Kind::Down, agent),
    });
}

fn event(kind: Kind, agent: Option<&Arc<Agent>>) -> AgentEvent {
    AgentEvent {
        kind: kind.into(),
        agent: agent.map(|agent| Agent::clone(agent)),
    }
}

fn pattern(text: &str) -> Result<Option<Pattern<'_>>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Pattern::new(text).map(Some).map_err(|error| {
        refusal(
            Code::InvalidArgument,
            "PATTERN_MALFORMED",
            format!("{text:?} is no pattern of names: {error}"),
        )
    })
}

fn too_slow() -> Status {
    refusal(
        Code::DataLoss,
        "TOO_SLOW",
        format!("more than {EVENTS_MAX} events waited to be read; watch again to be told everything anew"),
    )
}

#[cfg(test)]
mod tests;
