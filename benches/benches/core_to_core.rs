//! A message to another core and its answer: through the mesh's rings, with the other core awake or asleep.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringgate_benches::results;
use ringgate_dataplane::mesh::{Port, mesh};
use ringgate_perf::machine;
use ringgate_uring::{Ring, RingConfig};

/// What a core does that waits.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// It looks again and again.
    Spin,
    /// It sleeps until it is woken, as a gateway's core does.
    Park,
}

fn hop(criterion: &mut Criterion) {
    let cores: Vec<usize> = machine::allowed_cores().iter().take(2).collect();
    let [here, there] = cores[..] else {
        eprintln!("core-to-core: not measured, two CPUs are needed");
        return;
    };
    let _placement = machine::Placement::hold();
    let mut group = criterion.benchmark_group("core-to-core/there and back");
    for (name, wait) in [("both spin", Wait::Spin), ("both park", Wait::Park)] {
        let mut ports = mesh::<u64>(2);
        let (Some(other), Some(mut own)) = (ports.pop(), ports.pop()) else {
            return;
        };
        let stop = Arc::new(AtomicBool::new(false));
        let echo = thread::spawn({
            let stop = stop.clone();
            move || echo(other, there, wait, &stop)
        });
        if let Err(error) = machine::pin(here) {
            eprintln!("core-to-core: {error}");
        }
        let mut ring = sleeper(&own);
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                own.send(1, number);
                own.flush();
                number += 1;
                let mut answer = None;
                while answer.is_none() {
                    await_message(&own, &mut ring, wait);
                    own.receive(|_, message| answer = Some(message));
                }
                assert_eq!(answer, Some(number));
            });
        });
        stop.store(true, Ordering::Relaxed);
        own.send(1, 0);
        own.flush();
        echo.join().expect("the other core only echoes");
    }
    group.finish();
}

/// Answers each message with the next number, until told to stop.
fn echo(mut port: Port<u64>, core: usize, wait: Wait, stop: &AtomicBool) {
    if let Err(error) = machine::pin(core) {
        eprintln!("core-to-core: {error}");
    }
    let mut ring = sleeper(&port);
    while !stop.load(Ordering::Relaxed) {
        await_message(&port, &mut ring, wait);
        let mut answers = Vec::with_capacity(1);
        port.receive(|_, message| answers.push(message + 1));
        answers.into_iter().for_each(|answer| port.send(0, answer));
        port.flush();
    }
}

/// What wakes this thread when `port` gets something: the event of a ring, as in the gateway.
fn sleeper(port: &Port<u64>) -> Ring {
    let ring = Ring::new(&RingConfig {
        receive_buffers: 2,
        sockets_max: 2,
        ..RingConfig::default()
    })
    .expect("a ring can be made here; `ringgate doctor` says why not");
    port.set_waker(ring.waker());
    ring
}

/// Returns when something may be there.
fn await_message(port: &Port<u64>, ring: &mut Ring, wait: Wait) {
    match wait {
        Wait::Spin => hint::spin_loop(),
        Wait::Park => {
            port.falling_asleep();
            if !port.has_incoming() {
                ring.submit_and_wait(Duration::from_secs(1))
                    .expect("a ring that works");
                while ring.next_completion().is_some() {}
            }
            port.awake();
        }
    }
}

criterion_group! {
    name = benches;
    config = results::criterion();
    targets = hop
}
criterion_main!(benches);
