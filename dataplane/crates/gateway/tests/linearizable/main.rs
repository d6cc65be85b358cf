//! Whether state spaces are what one memory would be, whatever cores, disks and crashes do.
//!
//! Writers and readers on several cores work on a few keys; links deliver, and disks sync or fail, when chance says so; now and then
//! the node is killed and starts with what is on its disks, on another number of cores. Every write that was acknowledged has a
//! revision, which is its place in the one order of its space; so the history can be checked without a search:
//! * what ended before another began comes before it in the order;
//! * a read, at some moment between its question and its answer, was what the newest write before that moment had put;
//! * a write that expected a revision found it;
//! * nothing that was acknowledged, or read, is gone after a crash.
//!
//! `RINGGATE_SIMULATION_SEEDS=n` runs n seeds, `RINGGATE_SIMULATION_SEED=s` one of them.

#[path = "../simulation/dice.rs"]
mod dice;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashMap};

use dice::Dice;
use ringgate_gateway::Closing;
use ringgate_gateway::action::{Action, StateGet, StateWrite};
use ringgate_gateway::code::Code;
use ringgate_policy::Limits;
use support::{Agent, Node, Said};

const AGENTS: usize = 5;
const SPACES: [&str; 2] = ["kept/one", "kept/two"];
const KEYS: [&str; 2] = ["a", "b"];

/// Something that an agent asked for.
#[derive(Debug, Clone)]
struct Op {
    register: (usize, usize),
    /// What is put, none of them twice; none: a read.
    value: Option<u64>,
    delete: bool,
    expect: Option<u64>,
    began: u64,
}

/// A value of a key: what put it, and from which revision on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Version {
    revision: u64,
    /// None: deleted.
    value: Option<u64>,
    began: u64,
    /// None: nobody knows whether it was acknowledged.
    ended: u64,
}

#[derive(Debug)]
struct Read {
    register: (usize, usize),
    revision: u64,
    value: Option<u64>,
    began: u64,
    ended: u64,
}

struct World {
    node: Node,
    dice: Dice,
    agents: Vec<Option<Agent>>,
    open: HashMap<(usize, u64), Op>,
    clock: u64,
    values: u64,
    ids: u64,
    /// Of each space, by revision: acknowledged.
    versions: Vec<BTreeMap<u64, (Version, usize)>>,
    /// Writes that were never answered: value, key.
    unknown: HashMap<u64, Op>,
    reads: Vec<Read>,
    /// Writes that found what they expected.
    expecting: Vec<(Op, u64)>,
    lives: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let cores = 1 + dice.below(3) as u16;
        World {
            node: Node::keeping(cores, limits(), seed, &["kept/**"]),
            dice,
            agents: vec![None; AGENTS],
            open: HashMap::new(),
            clock: 0,
            values: 0,
            ids: 0,
            versions: vec![BTreeMap::new(); SPACES.len()],
            unknown: HashMap::new(),
            reads: Vec::new(),
            expecting: Vec::new(),
            lives: 0,
        }
    }

    fn step(&mut self) {
        self.clock += 1;
        match self.dice.below(100) {
            0..=29 => {
                let link = self.dice.below(self.node.links.len());
                self.node.carry(link);
            }
            30..=39 => {
                let core = self.dice.below(self.node.cores());
                self.node.turn_end(core);
            }
            40..=54 => {
                let (core, most) = (self.dice.below(self.node.cores()), 1 + self.dice.below(3));
                self.node.sync(core, most);
            }
            55 if self.dice.one_in(4) => {
                let core = self.dice.below(self.node.cores());
                self.node.fail(core);
            }
            56 => self.node.advance(1 + self.dice.below(700) as u64),
            57 if self.dice.one_in(5) => self.crash(),
            58..=79 => {
                let agent = self.dice.below(AGENTS);
                self.read_answers(agent);
            }
            _ => {
                let agent = self.dice.below(AGENTS);
                self.ask(agent);
            }
        }
    }

    /// The node dies: what is on its disks is what is left.
    fn crash(&mut self) {
        for (_, op) in self.open.drain() {
            if let Some(value) = op.value {
                self.unknown.insert(value, op);
            }
        }
        let cores = 1 + self.dice.below(3) as u16;
        let mut later = Node::keeping(cores, limits(), self.dice.next(), &["kept/**"]);
        later.now = self.node.now;
        later.restore(&self.node);
        self.node = later;
        self.agents = vec![None; AGENTS];
        self.lives += 1;
        for space in 0..SPACES.len() {
            for key in 0..KEYS.len() {
                self.check_kept(space, key);
            }
        }
    }

    /// The newest acknowledged version of a key is there, or one that was never answered has followed it.
    fn check_kept(&mut self, space: usize, key: usize) {
        let reader = self.node.agent(0, "lin/check/reader/1");
        let get = StateGet {
            id: 1,
            space: SPACES[space],
            key: KEYS[key],
        };
        let _ = self.node.apply(0, reader.session, Action::StateGet(get));
        let said = self.node.told_all(&reader);
        let [Said::Value { value, revision, .. }] = &said[..] else {
            panic!("{said:?}")
        };
        self.node.leave(&reader, Closing::Orderly);
        self.node.settle();
        let found = value.as_ref().map(|bytes| number(bytes));
        let newest = self.versions[space]
            .values()
            .rfind(|(_, of)| *of == key)
            .map(|(version, _)| *version);
        let unknown = found.is_some_and(|value| self.unknown.contains_key(&value));
        match newest {
            Some(version) if version.value == found => {
                assert!(found.is_none() || version.revision == *revision)
            }
            // One whose writer never heard of it.
            Some(version) if unknown => assert!(*revision > version.revision),
            Some(version) => assert!(
                found.is_none()
                    && self
                        .unknown
                        .values()
                        .any(|op| op.delete && op.register == (space, key)),
                "{version:?} is gone, {found:?} is there"
            ),
            None => assert!(found.is_none() || unknown),
        }
    }

    fn ask(&mut self, index: usize) {
        let Some(agent) = self.agents[index].clone() else {
            let core = self.dice.below(self.node.cores());
            let name = format!("lin/world/agent/{}-{index}", self.lives);
            self.agents[index] = Some(self.node.agent(core, &name));
            return;
        };
        self.ids += 1;
        let register = (self.dice.below(SPACES.len()), self.dice.below(KEYS.len()));
        let (space, key) = (SPACES[register.0], KEYS[register.1]);
        let mut op = Op {
            register,
            value: None,
            delete: false,
            expect: None,
            began: self.clock,
        };
        if self.dice.one_in(3) {
            let _ = self.node.apply(
                agent.core,
                agent.session,
                Action::StateGet(StateGet {
                    id: self.ids,
                    space,
                    key,
                }),
            );
        } else {
            self.values += 1;
            op.value = Some(self.values);
            op.delete = self.dice.one_in(6);
            if self.dice.one_in(3) {
                let known = self.versions[register.0]
                    .values()
                    .rfind(|(_, of)| *of == register.1);
                op.expect =
                    Some(known.map_or(0, |(version, _)| version.value.map_or(0, |_| version.revision)));
            }
            let value = self.values.to_be_bytes();
            let write = StateWrite {
                id: self.ids,
                space,
                key,
                value: (!op.delete).then_some(&value[..]),
                expect: op.expect,
                ttl_ms: 0,
            };
            let _ = self
                .node
                .apply(agent.core, agent.session, Action::StateWrite(write));
        }
        self.open.insert((index, self.ids), op);
    }

    fn read_answers(&mut self, index: usize) {
        let Some(agent) = self.agents[index].clone() else {
            return;
        };
        let mut stream = Vec::new();
        while let Some(bytes) = self.node.pull(agent.core, agent.session, usize::MAX) {
            stream.extend_from_slice(&bytes);
        }
        for said in self.node.parse(&mut stream) {
            match said {
                Said::Done { id, revision } => {
                    let op = self.open.remove(&(index, id)).expect("asked");
                    let version = Version {
                        revision,
                        value: op.value.filter(|_| !op.delete),
                        began: op.began,
                        ended: self.clock,
                    };
                    if op.expect.is_some() {
                        self.expecting.push((op.clone(), revision));
                    }
                    let twice = self.versions[op.register.0].insert(revision, (version, op.register.1));
                    assert_eq!(twice, None, "two writes have one revision");
                }
                Said::Value {
                    id, value, revision, ..
                } => {
                    let op = self.open.remove(&(index, id)).expect("asked");
                    self.reads.push(Read {
                        register: op.register,
                        revision,
                        value: value.as_deref().map(number),
                        began: op.began,
                        ended: self.clock,
                    });
                }
                Said::Error { id, code, .. } => {
                    let op = self.open.remove(&(index, id)).expect("asked");
                    assert!(
                        matches!(code, Code::Conflict | Code::NotFound | Code::Unavailable),
                        "{code:?}"
                    );
                    assert!(code != Code::Conflict || op.expect.is_some());
                    assert!(code != Code::NotFound || op.delete);
                    if let (Code::Unavailable, Some(value)) = (code, op.value) {
                        self.unknown.insert(value, op);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What a write expected was so: no acknowledged version lies between.
    fn check_expected(&self, op: &Op, revision: u64) {
        let Some(expected) = op.expect else { return };
        let mut between = self.versions[op.register.0].range(expected + 1..revision);
        let foreign = between.rfind(|(_, (_, key))| *key == op.register.1);
        // Where it was to be absent, the last before it must be a deletion.
        assert!(
            foreign.is_none_or(|(_, (version, _))| expected == 0 && version.value.is_none())
                || (expected == 0
                    && self
                        .unknown
                        .values()
                        .any(|it| it.delete && it.register == op.register)),
            "{op:?} found {foreign:?}"
        );
    }

    fn finish(&mut self) {
        for _ in 0..30 {
            self.node.settle();
            (0..self.node.cores()).for_each(|core| self.node.sync(core, usize::MAX));
            self.clock += 1;
            (0..AGENTS).for_each(|agent| self.read_answers(agent));
            self.node.advance(100);
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        for (space, versions) in self.versions.iter().enumerate() {
            // Real time: none that began after another ended comes before it.
            let mut began_latest = 0;
            for (version, _) in versions.values() {
                assert!(
                    version.ended >= began_latest,
                    "{version:?} comes behind one that began later in {space}"
                );
                began_latest = began_latest.max(version.began);
            }
        }
        for read in &self.reads {
            self.check_read(read);
        }
        for (op, revision) in &self.expecting {
            self.check_expected(op, *revision);
        }
        self.crash();
    }

    fn check_read(&self, read: &Read) {
        let (space, key) = read.register;
        let of_key = || {
            self.versions[space]
                .values()
                .filter(move |(_, of)| *of == key)
                .map(|(version, _)| version)
        };
        if read.revision > 0 {
            match self.versions[space].get(&read.revision) {
                Some((version, of)) => {
                    assert_eq!((*of, version.value), (key, read.value), "{read:?}");
                    assert!(
                        version.began <= read.ended,
                        "{read:?} saw what was not yet asked for"
                    );
                }
                None => assert!(
                    read.value.is_some_and(|value| self.unknown.contains_key(&value)),
                    "{read:?}"
                ),
            }
            let newer =
                of_key().find(|version| version.revision > read.revision && version.ended < read.began);
            assert_eq!(newer, None, "{read:?} saw an old version");
            return;
        }
        // It was not there: no version that was acknowledged before, except where a deletion may have followed.
        let newest = of_key().rfind(|version| version.ended < read.began);
        let deleted = newest.is_none_or(|newest| {
            newest.value.is_none()
                || of_key()
                    .any(|it| it.value.is_none() && it.revision > newest.revision && it.began <= read.ended)
                || self
                    .unknown
                    .values()
                    .any(|op| op.delete && op.register == read.register)
        });
        assert!(deleted, "{read:?} did not see {newest:?}");
    }
}

fn limits() -> Limits {
    Limits {
        state_log_bytes_max: 4000,
        ..Limits::default()
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..3000 {
        world.step();
    }
    world.finish();
}

#[test]
fn spaces_are_linearizable_over_cores_failures_and_crashes() {
    let wanted = |key: &str| -> Option<u64> { std::env::var(key).ok()?.parse().ok() };
    if let Some(seed) = wanted("RINGGATE_SIMULATION_SEED") {
        return run(seed);
    }
    for seed in 0..wanted("RINGGATE_SIMULATION_SEEDS").unwrap_or(60) {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("failed; repeat it with RINGGATE_SIMULATION_SEED={seed}");
        }
    }
}
