//! What the kernel's rings can do.

use crate::{Finding, Machine};

/// A feature of io_uring that matters to a gateway.
struct Feature {
    name: &'static str,
    since: (u32, u32),
    /// Whether this gateway uses it where it is there.
    used: bool,
    good_for: &'static str,
}

/// Versions are those of the kernel release that brought the feature (liburing's man pages, io_uring_setup(2) and others).
const FEATURES: [Feature; 8] = [
    Feature {
        name: "multishot accept and receive, provided buffers",
        since: (6, 0),
        used: true,
        good_for: "one submission serves a connection for its life",
    },
    Feature {
        name: "DEFER_TASKRUN",
        since: (6, 1),
        used: true,
        good_for: "completions are handled when the core asks for them",
    },
    Feature {
        name: "SEND_ZC",
        since: (6, 0),
        used: false,
        good_for: "large messages over real network cards",
    },
    Feature {
        name: "socket options",
        since: (6, 7),
        used: true,
        good_for: "clients with Nagle's algorithm (SLIM, AGP 2025) are answered at once",
    },
    Feature {
        name: "NAPI busy polling",
        since: (6, 9),
        used: false,
        good_for: "latency over real network cards on dedicated cores",
    },
    Feature {
        name: "send bundles",
        since: (6, 10),
        used: false,
        good_for: "many buffers in one send",
    },
    Feature {
        name: "incremental buffers",
        since: (6, 12),
        used: false,
        good_for: "small messages share receive buffers",
    },
    Feature {
        name: "NO_IOWAIT",
        since: (6, 15),
        used: true,
        good_for: "an idle core does not look busy in `top`",
    },
];

pub(super) fn rings_allowed(machine: &Machine) -> Option<Finding> {
    let check = "io_uring allowed";
    let remedy = "Run `sysctl kernel.io_uring_disabled=0`, and put it into /etc/sysctl.d/ to keep it.";
    Some(match machine.io_uring_disabled? {
        0 => Finding::good(check, "for all processes"),
        1 => Finding::warning(
            check,
            "only for processes with CAP_SYS_ADMIN and of the group kernel.io_uring_group",
            remedy,
        ),
        _ => Finding::fatal(check, "for no process", remedy),
    })
}

/// Which features of io_uring this kernel has, and whether the gateway uses them.
pub fn features(machine: &Machine) -> Option<Finding> {
    let check = "io_uring features";
    let version = machine.kernel_version();
    if version == (0, 0) {
        return None;
    }
    let names = |wanted: &dyn Fn(&&Feature) -> bool| -> Vec<String> {
        let chosen = FEATURES.iter().filter(wanted);
        chosen.map(|it| it.name.to_owned()).collect()
    };
    let said = |what: &str, names: Vec<String>| match names.is_empty() {
        true => None,
        false => Some(format!("{what}: {}", names.join(", "))),
    };
    let missing: Vec<String> = FEATURES
        .iter()
        .filter(|it| it.since > version)
        .map(|it| {
            format!(
                "{} (Linux {}.{}: {})",
                it.name, it.since.0, it.since.1, it.good_for
            )
        })
        .collect();
    let parts = [
        said("in use", names(&|it| it.used && it.since <= version)),
        said("there, not used", names(&|it| !it.used && it.since <= version)),
        said("missing", missing),
    ];
    let found = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let lacks = FEATURES
        .iter()
        .filter(|it| it.used && it.since > version)
        .map(|it| it.since)
        .max();
    Some(match lacks {
        None => Finding::good(check, found),
        Some((major, minor)) => Finding {
            remedy: Some(format!("Run on Linux {major}.{minor} or later.")),
            ..Finding::note(check, found)
        },
    })
}
