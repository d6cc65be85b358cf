//! Diagnoses of recorded machines: one file for each tree, as `==> path`, then the contents.

use std::fs;
use std::path::{Path, PathBuf};

use ringgate_machine::{CpuList, Diagnosis, Finding, Idle, Verdict, Wanted};

/// Unpacks a recorded tree, and returns where it is.
fn tree(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/trees")
        .join(name)
        .with_extension("txt");
    // Tests run in processes or threads of their own: each unpacks for itself.
    let unique = format!("{name}-{}-{:?}", std::process::id(), std::thread::current().id());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    let text = fs::read_to_string(source).expect("a recorded tree");
    for entry in text.split("==> ").skip(1) {
        let (path, contents) = entry.split_once('\n').expect("a path on a line of its own");
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, contents).expect("a file");
    }
    root
}

fn diagnose(name: &str, wanted: Wanted) -> Diagnosis {
    let root = tree(name);
    let diagnosis = Diagnosis::below(&root, wanted);
    fs::remove_dir_all(root).expect("what was unpacked");
    diagnosis
}

fn finding<'a>(diagnosis: &'a Diagnosis, check: &str) -> &'a Finding {
    let mut matching = diagnosis.findings.iter().filter(|finding| finding.check == check);
    matching
        .next()
        .unwrap_or_else(|| panic!("no finding of `{check}`"))
}

fn list(text: &str) -> CpuList {
    let Ok(list) = text.parse();
    list
}

#[test]
fn a_small_virtual_machine() {
    let diagnosis = diagnose("virtual-2-cpus", Wanted::default());
    let machine = &diagnosis.machine;
    assert!(machine.virtualised);
    assert_eq!(machine.processor, "AMD EPYC");
    assert_eq!((machine.topology.cpus.len(), machine.topology.cores()), (2, 2));
    assert_eq!(machine.topology.cpus[1].cache, list("0-1"));
    assert_eq!(machine.topology.cpus[1].cache_bytes, Some(32 << 20));
    assert_eq!(machine.process.quota_cpus, None);
    let names: Vec<&str> = machine
        .network
        .iter()
        .map(|device| device.name.as_str())
        .collect();
    assert_eq!(names, ["eth0"], "lo has no hardware");
    assert_eq!(machine.network[0].interrupts.len(), 4);
    assert_eq!(machine.network[0].interrupted(), list("0-1"));
    assert_eq!(finding(&diagnosis, "allowed CPUs").verdict, Verdict::Good);
    assert_eq!(finding(&diagnosis, "clock").verdict, Verdict::Good);
    assert_eq!(finding(&diagnosis, "interrupts").verdict, Verdict::Note);
    assert_eq!(finding(&diagnosis, "io_uring features").verdict, Verdict::Good);
    assert!(diagnosis.worst() < Verdict::Fatal);
    // One core for data, and not the one that the kernel uses for itself.
    let placement = diagnosis.placement.expect("there is room");
    assert_eq!((placement.data, placement.others), (list("1"), list("0")));
    assert_eq!(placement.arguments, "--cores 1 --spin-us 50");
}

#[test]
fn a_large_machine_with_much_to_mend() {
    let diagnosis = diagnose(
        "two-nodes-16-cpus",
        Wanted {
            cores: Some(3),
            ..Wanted::default()
        },
    );
    let machine = &diagnosis.machine;
    assert_eq!((machine.topology.cpus.len(), machine.topology.cores()), (16, 8));
    assert_eq!(
        machine.process.quota_cpus,
        Some(6.0),
        "the tightest of the groups above"
    );
    for (check, verdict, remedy) in [
        ("allowed CPUs", Verdict::Note, "--cpuset-cpus"),
        ("CPU quota", Verdict::Warning, "CPUQuota"),
        ("hardware threads", Verdict::Note, "idle"),
        ("frequency", Verdict::Warning, "cpupower frequency-set"),
        ("sleep states", Verdict::Warning, "cpupower idle-set"),
        ("clock", Verdict::Warning, "clocksource=tsc"),
        ("memory nodes", Verdict::Warning, "numa_balancing=0"),
        ("packet steering", Verdict::Note, "rps_cpus"),
        ("seccomp", Verdict::Note, "io_uring_setup"),
        ("io_uring allowed", Verdict::Fatal, "io_uring_disabled=0"),
        ("io_uring features", Verdict::Note, "6.15"),
    ] {
        let finding = finding(&diagnosis, check);
        assert_eq!(finding.verdict, verdict, "{check}: {}", finding.found);
        let said = finding.remedy.as_deref().unwrap_or_default();
        assert!(said.contains(remedy), "{check}: {said}");
    }
    assert_eq!(
        finding(&diagnosis, "interrupts").verdict,
        Verdict::Good,
        "each is bound to a core"
    );
    assert_eq!(diagnosis.worst(), Verdict::Fatal);
    // Where the network is, one CPU of each core, the other left idle.
    let placement = diagnosis.placement.expect("there is room");
    assert_eq!(placement.data, list("4-6"));
    assert_eq!(placement.leave, list("12-14"));
    assert_eq!(placement.arguments, "--cores 4,5,6 --spin-us 50");
}

#[test]
fn the_load_decides_how_many_cores() {
    let wanted = |deliveries_per_second| Wanted {
        deliveries_per_second: Some(deliveries_per_second),
        ..Wanted::default()
    };
    let cores = |rate| {
        let placement = diagnose("two-nodes-16-cpus", wanted(rate)).placement;
        placement.map(|placement| placement.data.len())
    };
    assert_eq!(cores(1_000.0), Some(1));
    assert_eq!(cores(4_000_000.0), Some(3));
    assert_eq!(cores(1e9), None);
    let refusal = diagnose("two-nodes-16-cpus", wanted(1e9)).placement_error;
    assert!(refusal.is_some_and(|error| error.contains("data cores are wanted")));
}

#[test]
fn a_core_never_sleeps_only_where_that_starves_nobody() {
    let idle = |name, cores| {
        let wanted = Wanted {
            cores: Some(cores),
            dedicated: true,
            ..Wanted::default()
        };
        diagnose(name, wanted).placement.map(|placement| placement.idle)
    };
    assert_eq!(idle("virtual-2-cpus", 1), Some(Idle::BusyPoll));
    assert_eq!(idle("virtual-2-cpus", 2), Some(Idle::SpinUs(50)));
    assert_eq!(
        idle("two-nodes-16-cpus", 1),
        Some(Idle::SpinUs(50)),
        "a quota applies there"
    );
}

#[test]
fn a_tree_without_anything_is_no_reason_to_fail() {
    let diagnosis = Diagnosis::below(Path::new("/nonexistent"), Wanted::default());
    assert!(diagnosis.placement.is_none());
    assert!(diagnosis.worst() < Verdict::Fatal);
    assert!(diagnosis.to_string().contains("is /sys mounted?"));
}

#[test]
fn text_and_json_say_the_same() {
    let wanted = Wanted {
        cores: Some(2),
        ..Wanted::default()
    };
    let diagnosis = diagnose("two-nodes-16-cpus", wanted);
    let text = diagnosis.to_string();
    let json = serde_json::to_value(&diagnosis).expect("it can be written");
    assert!(text.contains("FATAL"), "{text}");
    assert_eq!(
        json["findings"].as_array().map(Vec::len),
        Some(diagnosis.findings.len())
    );
    assert_eq!(json["placement"]["data"][0], 4);
    assert!(text.contains(json["placement"]["arguments"].as_str().expect("a string")));
}
