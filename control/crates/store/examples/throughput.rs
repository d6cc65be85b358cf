//! How many durable commits a second the embedded store does: `cargo run --release -p ringgate-store --example throughput [FOLDER]`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ringgate_store::{Redb, Store, Transaction, Write};

/// Of each writer.
const COMMITS: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args()
        .nth(1)
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let store = Arc::new(Redb::open(&folder.join("throughput.redb"))?);
    println!("{:>8} {:>12}", "writers", "commits/s");
    for writers in [1, 8, 64, 256] {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| tokio::spawn(write(Arc::clone(&store), writer)))
            .collect();
        for task in tasks {
            task.await??;
        }
        let rate = (writers * COMMITS) as f64 / begun.elapsed().as_secs_f64();
        println!("{writers:>8} {rate:>12.0}");
    }
    Ok(())
}

/// Three keys of 400 bytes each, about what an enrolment writes.
async fn write(store: Arc<Redb>, writer: usize) -> Result<(), ringgate_store::StoreError> {
    for number in 0..COMMITS {
        let put = |part: &str| {
            Write::Put(
                format!("{part}/{writer}/{number}").into(),
                Bytes::from(vec![7; 400]),
            )
        };
        store
            .commit(Transaction::new().writes(["log", "index", "audit"].map(put)))
            .await?;
    }
    Ok(())
}
