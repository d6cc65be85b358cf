//! Load generator, raw-relay limit, peer comparisons and placement tools for perf engineers
