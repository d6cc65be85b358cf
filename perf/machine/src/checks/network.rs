//! Which CPUs the network disturbs.

use crate::{CpuList, Finding, Machine, NetworkDevice};

pub(super) fn interrupts(machine: &Machine, device: &NetworkDevice) -> Finding {
    let check = "interrupts";
    let name = &device.name;
    let interrupted = device.interrupted();
    if device.interrupts.is_empty() {
        return Finding::note(check, format!("{name}: its interrupts cannot be told"));
    }
    let everywhere = machine.topology.online();
    let numbers = device.interrupts.iter().map(|it| it.number).collect::<CpuList>();
    let found = format!(
        "{name}: {} receive queues, interrupts {numbers} taken by CPUs {interrupted}",
        device.receive_queues
    );
    // A line that may go anywhere is moved about by irqbalance, onto data cores too.
    let wandering = device.interrupts.iter().filter(|it| !it.allowed.is_empty());
    match wandering.clone().all(|it| it.allowed == everywhere) && everywhere.len() > 1 {
        true => Finding::note(check, found).with_remedy(format!(
            "Where traffic comes through {name}, bind each queue's interrupt to the data core that should serve it: `systemctl stop \
             irqbalance`, then write the CPU to /proc/irq/NUMBER/smp_affinity_list."
        )),
        false => Finding::good(check, found),
    }
}

pub(super) fn steering(device: &NetworkDevice) -> Option<Finding> {
    if device.steered.is_empty() {
        return None;
    }
    Some(
        Finding::note(
            "packet steering",
            format!("{}: packets are handed to CPUs of masks {} by software", device.name, device.steered.join(" ")),
        )
        .with_remedy(format!(
            "With a receive queue for each data core it only costs: write 0 to /sys/class/net/{}/queues/rx-*/rps_cpus.",
            device.name
        )),
    )
}
