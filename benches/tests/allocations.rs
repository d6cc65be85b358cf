//! The hot path allocates nothing in steady state.
//!
//! Counted on the calling thread by a global allocator that counts, over all layers but the kernel's.

use ringgate_benches::pipeline::Pipeline;

/// Turns until every buffer has the size it keeps.
const WARM_UP: usize = 200;
const TURNS: usize = 200;

/// Allocations of [`TURNS`] turns of a warm pipeline, every one of which delivers everything.
fn allocations(subscribers: usize, payload_bytes: usize, batch: usize) -> u64 {
    let mut pipeline = Pipeline::new(subscribers, payload_bytes, batch);
    let mut deliver = |turns: usize| {
        for _ in 0..turns {
            let sent = pipeline.turn();
            assert!(
                sent > subscribers * payload_bytes * batch,
                "only {sent} bytes were delivered"
            );
        }
    };
    deliver(WARM_UP);
    allocation_counter::measure(|| deliver(TURNS)).count_total
}

#[test]
fn small_messages_to_few() {
    assert_eq!(allocations(10, 256, 64), 0);
}

#[test]
fn small_messages_to_many() {
    assert_eq!(allocations(1_000, 256, 1), 0);
}

#[test]
fn large_messages() {
    assert_eq!(allocations(10, 16_384, 16), 0);
}

#[test]
fn tiny_messages_in_large_batches() {
    assert_eq!(allocations(100, 64, 256), 0);
}
