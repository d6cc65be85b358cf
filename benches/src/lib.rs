//! What cargo bench runs
