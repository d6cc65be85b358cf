//! Commands from the service thread to a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::time::Duration;

use ringgate_gateway::LogReport;

use super::flow::Watch;
use super::inspection::{Inspection, Row};
use super::report::CoreReport;
use crate::mesh::Alarm;
use crate::rules::{Rules, WindowChange};

/// Something for a core to do.
#[derive(Debug)]
pub enum Command {
    /// Count what there is. The sender has room for the answer of every core.
    Report {
        /// Whether each session is told of too, which takes a while where there are many.
        sessions: bool,
        /// Who wants to know.
        reply: SyncSender<CoreReport>,
    },
    /// Answer a question. The sender has room for the answer of every core.
    Inspect(Inspection, SyncSender<Vec<Row>>),
    /// Take no new connections, tell agents to leave, and end when they have or when this time is over.
    Drain(Duration),
    /// Something for the service of the core.
    Order(Order),
    /// Take over a connection that the service asked for.
    Connected(Connected),
}

/// A connection made for the service of a core.
#[derive(Debug)]
pub struct Connected {
    /// By which the service asked for it.
    pub ticket: u64,
    /// The connection.
    pub stream: std::net::TcpStream,
    /// The other end.
    pub address: std::net::SocketAddr,
    /// Path of the call to make on it.
    pub path: &'static str,
    /// TLS, where the connection is to be encrypted. Whom it trusts does not go by the server's address.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Something for the service of a core to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Decide by these rules from now on. The sender is told when they are in force.
    Rules(Arc<Rules>, tokio::sync::mpsc::Sender<()>),
    /// Pass on of these groups what their windows let; before that, forget those of all others, if it says so.
    Windows(Arc<WindowChange>),
    /// Report all agents of this core.
    Presence,
    /// Taps have come or gone.
    Watch(Arc<Watch>),
    /// What became of pieces of the core's log.
    Logged(LogReport),
    /// A connection that the service asked for could not be made.
    Unconnected {
        /// By which the service asked for it.
        ticket: u64,
        /// Why.
        cause: Arc<str>,
    },
}

/// A core's end.
#[derive(Debug)]
pub struct Inbox {
    commands: Receiver<Command>,
    waiting: Arc<AtomicBool>,
}

/// The service thread's end.
#[derive(Debug, Clone)]
pub struct CommandSender {
    commands: Sender<Command>,
    waiting: Arc<AtomicBool>,
    alarm: Alarm,
}

/// Connects the service thread to the core that `alarm` wakes.
pub fn inbox(alarm: Alarm) -> (CommandSender, Inbox) {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicBool::new(false));
    (
        CommandSender {
            commands: sender,
            waiting: waiting.clone(),
            alarm,
        },
        Inbox {
            commands: receiver,
            waiting,
        },
    )
}

impl CommandSender {
    /// Gives the core a command. False when the core has ended.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.waiting.store(true, Ordering::SeqCst);
        self.alarm.ring();
        sent
    }
}

impl Inbox {
    /// Whether a command waits. One load.
    pub fn has_command(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The next command.
    pub fn take(&self) -> Option<Command> {
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        // Cleared before looking: a command that comes after the look sets it again.
        self.waiting.store(false, Ordering::SeqCst);
        let command = self.commands.try_recv().ok()?;
        self.waiting.store(true, Ordering::SeqCst);
        Some(command)
    }
}
