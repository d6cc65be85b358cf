//! The shard's own loop allocates nothing in steady state: with real clients over real sockets, everything but the kernel.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use ringgate_dataplane::agents::AgentsConfig;
use ringgate_dataplane::config::{Config, Profile};
use ringgate_dataplane::front::{Front, FrontConfig};
use ringgate_dataplane::mesh::mesh;
use ringgate_dataplane::observe::{Command, CommandSender, flows, inbox, observations};
use ringgate_dataplane::rules::from_files;
use ringgate_dataplane::shard::{Shard, ShardConfig};
use ringgate_perf::fleet::Dial;
use ringgate_perf::wire::Protocol;
use ringgate_perf::work::{Bounds, Pace, Placed, PubSub, Requests, Target};
use ringgate_uring::Ring;

/// Messages delivered until every buffer has the size it keeps, and while allocations are counted.
const WARM_UP: u64 = 200_000;
const COUNTED: u64 = 200_000;
/// Turns between two looks at how much was delivered.
const TURNS: usize = 256;

/// A shard that is driven by hand.
struct Driven {
    shard: Shard<Front>,
    commands: CommandSender,
}

impl Driven {
    fn start() -> (Driven, SocketAddr) {
        let config = Config {
            profile: Profile::Development,
            ..Config::default()
        };
        let (reporter, _) = observations();
        let agents = AgentsConfig {
            node: "bench".into(),
            seed: 7,
            rules: Arc::new(from_files(&config).expect("rules of the profile development")),
            reporter,
            observe: config.observe.clone(),
            flows: flows().0,
            durable: Arc::from([]),
            topics: Default::default(),
            log: None,
        };
        let front = FrontConfig::new(agents, &config).expect("no dialect has files");
        let settings = ShardConfig {
            http2: Arc::new(config.http2),
            http2_client: Arc::new(config.http2),
            message_bytes_max: config.limits.message_bytes_max as u32,
            send_bytes_max: config.send_bytes_max,
            input_bytes_max: config.connection_input_bytes_max,
            send_timeout: config.send_timeout,
            spin: config.spin,
            busy_poll: true,
            tls: None,
            services: front.services(),
        };
        let port = mesh(1).pop().expect("one core");
        let (commands, inbox) = inbox(port.alarm());
        let ring = Ring::new(&config.ring).expect("a ring can be made here; `ringgate doctor` says why not");
        let mut shard =
            Shard::new(settings, ring, Front::new(front, 0, 1), port, inbox).expect("known services");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        shard.listen(listener);
        (Driven { shard, commands }, address)
    }

    fn turns(&mut self) {
        for _ in 0..TURNS {
            // Others may use this core meanwhile; what counts is what is done.
            if !self.shard.turn().expect("a ring that works") {
                thread::yield_now();
            }
        }
    }

    /// Messages that agents were sent so far. Allocates.
    fn delivered(&mut self) -> u64 {
        let (reply, reports) = sync_channel(1);
        let sessions = false;
        assert!(self.commands.send(Command::Report { sessions, reply }));
        self.shard.turn().expect("a ring that works");
        let report = reports.recv().expect("a report");
        let messages = ["delivered", "queued_forward", "queued_deliver"];
        messages.iter().filter_map(|name| report.count(name)).sum()
    }

    /// Allocations while [`COUNTED`] messages are delivered, after a warm-up.
    fn allocations(mut self) -> u64 {
        while self.delivered() < WARM_UP {
            self.turns();
        }
        let (begin, mut allocations) = (self.delivered(), 0);
        while self.delivered() < begin + COUNTED {
            allocations += allocation_counter::measure(|| self.turns()).count_total;
        }
        allocations
    }
}

fn target(address: SocketAddr) -> Target {
    Target {
        dial: Dial {
            address,
            protocol: Protocol::Agp,
            reset_on_close: true,
            spin: false,
        },
        pid: None,
        stats: None,
        run: 0,
    }
}

/// Longer than the test takes: its end is the end of the process.
const FOR_EVER: Bounds = Bounds {
    warmup: Duration::ZERO,
    duration: Duration::from_secs(3600),
    messages_max: u64::MAX,
};

fn publishes(subscribers: usize, payload_bytes: usize, window: usize) -> u64 {
    let (driven, address) = Driven::start();
    let work = PubSub {
        publishers: 1,
        subscribers,
        topics: 1,
        payload_bytes,
        pace: Pace::Window(window),
        stalled: 0,
        placed: Placed::Anywhere,
    };
    thread::spawn(move || work.run(&target(address), FOR_EVER));
    driven.allocations()
}

#[test]
#[ignore = "the goal is not reached yet; perf/README.md has the counts"]
fn publishes_to_ten() {
    assert_eq!(publishes(10, 256, 64), 0);
}

#[test]
#[ignore = "the goal is not reached yet; perf/README.md has the counts"]
fn publishes_to_many_one_at_a_time() {
    assert_eq!(publishes(1_000, 256, 1), 0);
}

#[test]
#[ignore = "the goal is not reached yet; perf/README.md has the counts"]
fn large_publishes() {
    assert_eq!(publishes(10, 16_384, 16), 0);
}

#[test]
#[ignore = "the goal is not reached yet; perf/README.md has the counts"]
fn requests() {
    let (driven, address) = Driven::start();
    let work = Requests {
        responders: 1,
        payload_bytes: 256,
        pace: Pace::Window(16),
    };
    thread::spawn(move || work.run(&target(address), FOR_EVER));
    assert_eq!(driven.allocations(), 0);
}
