//! The gateway node: thread-per-core data plane on io_uring
