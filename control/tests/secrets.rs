//! Where the secrets of the control process are, and where they are not (MLS.md section 3, T24 and T25).

mod harness;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::Home;
use ringgate_identity::AgentKey;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// All files and folders in a folder.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(all(&path));
        }
        found.push(path);
    }
    found
}

/// What a secret looks like where somebody wrote it down: as it is, as hex, and in base64 however it is aligned.
fn shapes(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut shapes = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
        let encoded = STANDARD.encode([&vec![0; before][..], secret].concat());
        // Without the digits that hold bits of what stands before and behind.
        shapes.push(encoded.as_bytes()[skipped..encoded.len() - 4].to_vec());
    }
    shapes
}

fn holds(text: &[u8], secret: &[u8]) -> bool {
    let shapes = shapes(secret);
    shapes
        .iter()
        .any(|shape| text.windows(shape.len()).any(|window| window == shape))
}

/// Whether a file is for everybody to read: the address of the process, or certificates and nothing else.
fn is_public(path: &Path) -> bool {
    if path.ends_with("endpoint") {
        return true;
    }
    let all = std::fs::read(path)
        .ok()
        .and_then(|bytes| pem::parse_many(bytes).ok());
    all.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one.tag() == "CERTIFICATE"))
}

#[tokio::test]
async fn t24_what_the_process_writes_is_its_owners_alone() {
    let home = Home::bare();
    let control = home.start();
    control.enrol("acme/demo/bot/1").await;
    let paths = all(&home.state());
    assert!(paths.len() > 5, "{paths:?}");
    for path in paths {
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        let hidden = if is_public(&path) { 0o022 } else { 0o077 };
        assert_eq!(mode & hidden, 0, "{} has mode {mode:o}", path.display());
    }
}

#[tokio::test]
async fn t25_no_secret_is_in_the_store_or_in_the_log() {
    let home = Home::new();
    let control = home.start();
    let token = control.join_token("acme/demo/bot/1", 1).await;
    let mut client = control.identity(None).await;
    let key = AgentKey::generate().expect("a key");
    let request = harness::enrolment(&key, "acme/demo/bot/1", &token);
    client.enroll(request).await.expect("enrolled");
    let seed = |pem: &str| {
        AgentKey::from_pem(pem)
            .expect("a key")
            .seed()
            .expect("a seed")
            .to_vec()
    };
    let operator = home.state().join("admin/key.pem");
    let operator_pem = std::fs::read_to_string(&operator).expect("a key");
    let token_secret = token.rsplit('.').next().expect("a secret").as_bytes().to_vec();
    let secrets = [
        ("the issuing key", seed(&home.authority.issuing_key_pem)),
        ("the operator's key", seed(&operator_pem)),
        ("the join token's secret", token_secret),
        ("the agent's key", key.seed().expect("a seed").to_vec()),
    ];
    // What is searched with finds what is there.
    assert!(secrets.iter().all(|(_, secret)| secret.len() >= 16));
    let pkcs8 = pem::parse(&operator_pem).expect("PEM").into_contents();
    let written = STANDARD.encode(&pkcs8);
    assert!(holds(&pkcs8, &secrets[1].1) && holds(written.as_bytes(), &secrets[1].1));

    let log = control.log.lock().expect("log").clone().into_bytes();
    assert!(holds(&log, b" serving "), "there is a log: {log:?}");
    let stored: Vec<PathBuf> = all(&home.state())
        .into_iter()
        .filter(|path| path.is_file() && *path != operator)
        .collect();
    assert!(stored.len() > 2, "{stored:?}");
    for (what, secret) in &secrets {
        assert!(!holds(&log, secret), "{what} is in the log");
        for path in &stored {
            let bytes = std::fs::read(path).expect("read");
            assert!(!holds(&bytes, secret), "{what} is in {}", path.display());
        }
    }
}

#[test]
fn t25_it_leaves_no_core_dump() {
    let folder = tempfile::tempdir().expect("a folder");
    let aborted = |child: &mut std::process::Child| {
        let pid = Pid::from_child(child);
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        // Who may not raise it has cores of the size that is allowed.
        let _ = prlimit(Some(pid), Resource::Core, unlimited);
        kill_process(pid, Signal::ABORT).expect("it runs");
        child.wait().expect("it ends")
    };
    let mut other = Command::new("sleep")
        .arg("60")
        .current_dir(folder.path())
        .spawn()
        .expect("sleep");
    if !aborted(&mut other).core_dumped() {
        eprintln!("this machine dumps no cores of anything: there is nothing to test");
        return;
    }
    let home = Home::new();
    let mut control = home.start();
    let status = aborted(&mut control.child);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped(), "the issuing key would be in it");
}
