//! An etcd of a test's own.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Etcd, EtcdOptions, StoreError};

/// Where Debian's package `etcd-server` puts it.
const PROGRAM: &str = "/usr/bin/etcd";
/// How long it may take to start, on a machine that does other things too.
const START: Duration = Duration::from_secs(60);

/// An etcd on free loopback ports, with its data in a temporary folder. Dropping it ends it.
#[derive(Debug)]
pub struct EtcdServer {
    process: Child,
    /// Its URL for clients.
    pub url: String,
    _folder: TempDir,
}

impl EtcdServer {
    /// Starts one. `None`, with the reason printed, where etcd is not installed.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub async fn start() -> Option<EtcdServer> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is missing; `apt-get install etcd-server` brings it");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [clients, peers] = free_ports().map(|port| format!("http://127.0.0.1:{port}"));
        let process = Command::new(PROGRAM)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--name", "one", "--initial-cluster", &format!("one={peers}")])
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--logger", "zap", "--log-level", "error"])
            .stdin(Stdio::null())
            .spawn()
            .expect("etcd can be started");
        let server = EtcdServer {
            process,
            url: clients,
            _folder: folder,
        };
        let begun = Instant::now();
        // There is no event to wait for: it serves when it answers.
        while let Err(error) = server.open("start/").await {
            assert!(begun.elapsed() < START, "etcd does not answer: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(server)
    }

    /// A store in it, below a namespace.
    ///
    /// # Errors
    /// Those of [`Etcd::open`].
    pub async fn open(&self, namespace: &str) -> Result<Etcd, StoreError> {
        let mut options = EtcdOptions::new(vec![self.url.clone()]);
        namespace.clone_into(&mut options.namespace);
        Etcd::open(options).await
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        // Nothing it holds is needed any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Both at once, so that they differ.
fn free_ports() -> [u16; 2] {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    let listeners = [listen(), listen()];
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
