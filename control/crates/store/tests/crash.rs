//! kill -9 at any moment: what was acknowledged is there, and nothing is there by half.
//!
//! A child process (this test's own program again) writes and says on its standard output what was acknowledged. It is killed at
//! a random moment, also while it makes the store; then the store is opened and looked at. `RINGGATE_CRASH_ROUNDS` sets how often.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringgate_store::{Condition, Entry, Redb, Revision, Store, StoreError, Transaction, Write};

const ROUNDS: &str = "RINGGATE_CRASH_ROUNDS";
const STORE: &str = "RINGGATE_CRASH_STORE";
/// Rounds on one store; the next ones begin with none.
const ROUNDS_OF_A_STORE: usize = 10;
const WRITERS: usize = 6;

#[test]
fn kill_loses_nothing_that_was_acknowledged() {
    let rounds = env::var(ROUNDS)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(50);
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut round, mut acknowledged) = (0, 0);
    while round < rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store/store.redb");
        let mut known = Known::default();
        for _ in 0..ROUNDS_OF_A_STORE {
            let told = one_life(&path, &mut random);
            acknowledged += told.len();
            for (writer, number, revision) in told {
                known.revision = known.revision.max(revision);
                let newest = known.numbers.entry(writer).or_default();
                *newest = number.max(*newest);
            }
            runtime.block_on(examine(&path, &mut known));
            round += 1;
        }
    }
    eprintln!("{round} rounds, {acknowledged} commits acknowledged");
    assert!(acknowledged > round, "the child writes at all");
}

/// What must be there.
#[derive(Debug, Default)]
struct Known {
    revision: Revision,
    numbers: BTreeMap<usize, u64>,
    lineage: Option<ringgate_store::Lineage>,
}

/// Lets a child write for a while: what was acknowledged to it, as writer, number and revision.
fn one_life(path: &Path, random: &mut fastrand::Rng) -> Vec<(usize, u64, Revision)> {
    let mut child = Command::new(env::current_exe().expect("its own name"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(STORE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut told = Vec::new();
    // Sometimes while it starts.
    let starting = random.u8(..) < 64;
    let mut wait = if starting { 0 } else { random.usize(1..60) };
    while wait > 0 {
        let line = lines
            .next()
            .expect("it writes until it is killed")
            .expect("readable");
        if let Some(commit) = parse(&line) {
            told.push(commit);
            wait -= 1;
        }
    }
    kill_after(&mut child, random.u64(0..if starting { 40_000 } else { 4000 }));
    // What it said before its end counts, whether somebody was listening or not.
    told.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    told
}

fn kill_after(child: &mut Child, micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}

fn parse(line: &str) -> Option<(usize, u64, Revision)> {
    let mut words = line.strip_prefix("ack ")?.strip_suffix('.')?.split(' ');
    let mut word = || words.next();
    Some((
        word()?.parse().ok()?,
        word()?.parse().ok()?,
        Revision(word()?.parse().ok()?),
    ))
}

async fn examine(path: &Path, known: &mut Known) {
    let store = Redb::open(path).expect("whatever happened, it can be opened");
    assert_eq!(*known.lineage.get_or_insert(store.lineage()), store.lineage());
    let (entries, revision) = store.all(b"").await.expect("readable");
    assert!(revision >= known.revision, "{revision} < {}", known.revision);
    let found: BTreeMap<_, _> = entries
        .into_iter()
        .map(|entry| (entry.key.clone(), entry))
        .collect();
    let mut there = 0;
    for writer in 0..WRITERS {
        let head = found.get(head(writer).as_bytes());
        let number = head.map_or(0, number_of);
        let acknowledged = known.numbers.get(&writer).copied().unwrap_or_default();
        assert!(
            number >= acknowledged,
            "writer {writer} is at {number}, and {acknowledged} was acknowledged"
        );
        for number in 1..=number {
            let [first, second] = pair(writer, number).map(|key| found[key.as_bytes()].revision);
            assert_eq!(first, second);
        }
        if let Some(head) = head {
            assert_eq!(found[pair(writer, number)[0].as_bytes()].revision, head.revision);
            there += 1 + 2 * number;
        }
        known.numbers.insert(writer, number);
    }
    known.revision = revision;
    assert_eq!(found.len() as u64, there, "nothing is there by half");
}

fn head(writer: usize) -> String {
    format!("head/{writer}")
}

fn pair(writer: usize, number: u64) -> [String; 2] {
    ["a", "b"].map(|half| format!("{half}/{writer}/{number}"))
}

fn number_of(head: &Entry) -> u64 {
    std::str::from_utf8(&head.value)
        .expect("text")
        .parse()
        .expect("a number")
}

#[test]
#[ignore = "the child of the test above"]
fn child() {
    let Some(path) = env::var_os(STORE) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(Redb::open(Path::new(&path)).expect("it can be opened"));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_for_ever(Arc::clone(&store), writer)))
            .collect();
        for writer in writers {
            writer.await.expect("it does not end").expect("it can write");
        }
    });
}

async fn write_for_ever(store: Arc<dyn Store>, writer: usize) -> Result<(), StoreError> {
    let before = store.get(head(writer).as_bytes()).await?;
    let mut number = before.as_ref().map_or(0, number_of);
    let mut revision = before.map_or(Revision(0), |head| head.revision);
    loop {
        number += 1;
        let [first, second] = pair(writer, number);
        let transaction = Transaction::new()
            .when(Condition::at(head(writer), revision))
            .write(Write::Put(head(writer).into(), number.to_string().into()))
            .write(Write::Put(first.into(), vec![1; 300].into()))
            .write(Write::Put(second.into(), vec![2; 300].into()));
        revision = store.commit(transaction).await?;
        let line = format!("ack {writer} {number} {revision}.\n");
        io::stdout()
            .lock()
            .write_all(line.as_bytes())
            .expect("somebody reads");
    }
}
