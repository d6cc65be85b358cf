//! A log that was cut at any byte, or in which any bit was flipped.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use ringgate_state::Change;
use ringgate_state::log::{BLOCK_BYTES, Batch, Opened, Replay, padded, put_change, put_opened, read};

const SEGMENT: u64 = 9;

fn change(revision: u64, value: usize) -> Change {
    Change {
        key: format!("key/{}", revision % 5).into(),
        value: (!value.is_multiple_of(7)).then(|| Bytes::from(vec![revision as u8; value])),
        revision,
        source: "a/b/c/d".into(),
        time_unix_nanos: revision,
        expires_unix_ms: 0,
    }
}

/// A segment of batches with so many changes each, and where each batch ends.
fn segment(batches: &[(usize, usize)]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends, mut revision) = (Vec::new(), Vec::new(), 0);
    for (number, (changes, value)) in batches.iter().enumerate() {
        let mut records = Vec::new();
        if number == 0 {
            put_opened(
                &mut records,
                Opened {
                    core: 1,
                    previous: 0,
                    batches: 0,
                },
            );
        }
        for _ in 0..*changes {
            revision += 1;
            put_change(&mut records, "kept/space", &change(revision, *value));
        }
        let start = bytes.len();
        bytes.resize(start + padded(records.len()), 0xff);
        let batch = Batch {
            segment: SEGMENT,
            number: number as u64,
        };
        batch.write(&mut bytes[start..], std::iter::once(&records[..]));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn replayed(batches: &[&[u8]]) -> Option<u64> {
    let mut replay = Replay::default();
    batches
        .iter()
        .for_each(|batch| replay.take(batch).expect("well formed"));
    let spaces = replay.finish();
    spaces.get(&Arc::from("kept/space")).map(|space| space.revision)
}

#[test]
fn a_segment_that_was_cut_anywhere_has_all_whole_batches() {
    let (bytes, ends) = segment(&[(1, 10), (0, 0), (2, 2000), (2, 100)]);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut torn = bytes[..cut].to_vec();
        for preallocated in [0, BLOCK_BYTES].into_iter().filter(|_| cut.is_multiple_of(13)) {
            torn.resize(cut.next_multiple_of(BLOCK_BYTES) + preallocated, 0);
            // A cut within what pads a batch loses nothing where zeros stand behind it, as in a file that was made large before.
            let found = read(SEGMENT, &torn).expect("torn is not damaged").records.len();
            assert!(
                found >= whole && found <= whole + 1,
                "{found} of {whole} at {cut}"
            );
        }
        let exact = read(SEGMENT, &bytes[..cut])
            .expect("torn is not damaged")
            .records
            .len();
        assert_eq!(exact, whole, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_flipped_bit_is_never_served(
        batches in proptest::collection::vec((0..6usize, 0..3000usize), 2..6),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (good, ends) = segment(&batches);
        let mut bytes = good.clone();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let hit = ends.iter().filter(|end| **end <= at).count();
        let originals = read(SEGMENT, &good).expect("good").records;
        match read(SEGMENT, &bytes) {
            Err(damage) => {
                prop_assert_eq!(damage.number as usize, hit);
                prop_assert!(hit + 1 < batches.len());
            }
            Ok(found) if found.records.len() == batches.len() => {
                // It hit what pads a batch.
                prop_assert_eq!(replayed(&found.records), replayed(&originals));
                prop_assert_eq!(found.records, originals);
            }
            Ok(found) => {
                prop_assert_eq!(found.records.len(), batches.len() - 1, "only the last may go unnoticed");
                prop_assert_eq!(&found.records[..], &originals[..batches.len() - 1]);
            }
        }
    }

    #[test]
    fn what_was_written_comes_back(batches in proptest::collection::vec((1..6usize, 0..3000usize), 1..6)) {
        let (bytes, ends) = segment(&batches);
        let found = read(SEGMENT, &bytes).expect("good");
        prop_assert_eq!(found.end, *ends.last().expect("one"));
        let changes: usize = batches.iter().map(|(changes, _)| changes).sum();
        prop_assert_eq!(replayed(&found.records), Some(changes as u64));
    }

    #[test]
    fn arbitrary_bytes_are_no_batch(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        prop_assert_eq!(read(SEGMENT, &bytes).expect("nothing good behind it").records.len(), 0);
        // Records that are not of this program are told, and never panic.
        let _ = Replay::default().take(&bytes);
    }
}
