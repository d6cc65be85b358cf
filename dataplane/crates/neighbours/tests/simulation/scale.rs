//! How fast a network knows of a failure, and what it costs.

use ringgate_neighbours::{Key, NetworkLimits, NetworkSizes};
use ringgate_policy::AgentName;

use crate::number;
use crate::world::World;

/// One way; a round trip is twice that.
const DELAY_MS: u64 = 10;

#[test]
fn fifty_nodes_know_of_a_cut_within_three_round_trips() {
    let mut worst = 0;
    for seed in 0..4 {
        let mut world = World::new(seed, NetworkLimits::default());
        // No jitter, so that a round trip is one: `send` adds up to half of the delay.
        world.jitter = false;
        world.build(50, 4, DELAY_MS..DELAY_MS + 1);
        world.run(3_000);
        assert!(world.nodes.iter().all(|node| node.reached.len() == 49));
        for _ in 0..5 {
            let wire = world.dice.below(world.wires.len());
            world.watch();
            let cut = world.now;
            world.cut(wire, 0);
            world.run(1_000);
            assert!(
                world.nodes.iter().all(|node| node.reached.len() == 49),
                "one cut parts nobody"
            );
            let took = world.watch.take().expect("watching").last_change - cut;
            worst = worst.max(took);
            world.heal(wire);
            world.run(2_000);
        }
    }
    let trips = worst as f64 / (2 * DELAY_MS) as f64;
    println!("50 nodes of 4 links: at most {worst} ms after detection, {trips} round trips");
    assert!(trips <= 3.0, "{trips}");
}

/// `RINGGATE_NETWORK_NODES`, `RINGGATE_NETWORK_AGENTS`: other sizes.
#[test]
#[ignore = "minutes and gigabytes: a thousand nodes; scripts/soak runs it"]
fn a_thousand_nodes_and_a_million_agents() {
    let nodes = number("RINGGATE_NETWORK_NODES").unwrap_or(1000) as usize;
    let agents = number("RINGGATE_NETWORK_AGENTS").unwrap_or(1_000_000) as usize;
    let limits = NetworkLimits {
        // A thousand nodes share this test's memory.
        trees_max: 16,
        ..NetworkLimits::default()
    };
    let mut world = World::new(1, limits);
    world.build(nodes, 4, 5..15);
    let started = std::time::Instant::now();
    let mut ms = 0;
    while world.nodes.iter().any(|node| node.reached.len() + 1 < nodes) {
        world.run(50);
        ms += 50;
        assert!(ms < 60_000, "it does not come together");
    }
    report(
        &world,
        &format!("{nodes} nodes know each other after {ms} ms"),
        nodes,
    );

    // Agents are told as instances of services and bearers of capabilities, and by what they subscribe to.
    for agent in 0..agents {
        let node = agent % nodes;
        let name = AgentName::new(&format!("acme/area-{}/worker/{agent}", node % 50)).expect("valid");
        world.nodes[node].network.agent(name, true, world.now);
        let service = world.dice.below(8);
        *world.agents(
            node,
            Key::Service(format!("acme/area-{}/service-{service}", node % 50).into()),
        ) += 1;
        *world.agents(node, Key::Capability(format!("skill-{}", service % 4).into())) += 1;
        if agent % 100 < 1 {
            *world.agents(
                node,
                Key::Pattern(format!("area/{}/{}/*", node % 50, service).into()),
            ) += 1;
        }
    }
    world.tell_agents();
    let (began, mut ms) = (world.control_bytes(), 0);
    let all: usize = world.nodes.iter().map(|node| node.wants.len()).sum();
    let names = |world: &World| -> usize {
        world
            .nodes
            .iter()
            .map(|node| node.network.sizes().names_held)
            .sum()
    };
    // Agents whose home is their own node are held nowhere else.
    let away = agents - agents / nodes * 2;
    while world.nodes.iter().any(|node| node.network.sizes().entries < all) || names(&world) < away {
        world.run(50);
        ms += 50;
        assert!(ms < 120_000, "it is not known everywhere");
    }
    let bytes = (world.control_bytes() - began) as f64 / nodes as f64 / 1e6;
    report(
        &world,
        &format!(
            "{agents} agents ({all} entries) are known everywhere after {ms} ms; {bytes:.2} MB sent by a node"
        ),
        nodes,
    );

    let began = world.control_bytes();
    let wire = world.dice.below(world.wires.len());
    world.watch();
    let cut = world.now;
    world.cut(wire, 0);
    world.run(2_000);
    let took = world.watch.take().expect("watching").last_change - cut;
    let bytes = (world.control_bytes() - began) / nodes as u64;
    report(
        &world,
        &format!("a cut is known everywhere {took} ms after detection; {bytes} bytes sent by a node in 2 s"),
        nodes,
    );
    println!("{} s of this machine", started.elapsed().as_secs());
}

fn report(world: &World, what: &str, nodes: usize) {
    let NetworkSizes {
        nodes: known,
        keys,
        entries,
        names_held,
        ..
    } = world.nodes[nodes / 2].network.sizes();
    let sent: u64 = world
        .nodes
        .iter()
        .map(|node| node.network.stats().control_sent)
        .sum();
    let directory: u64 = world
        .nodes
        .iter()
        .map(|node| node.network.stats().directory_bytes_sent)
        .sum();
    println!(
        "{what}\n  a node holds {known} nodes, {keys} keys, {entries} entries, {names_held} names; by a node so far: {} control messages, {:.2} MB, \
         and {:.2} MB for the directory",
        sent / nodes as u64,
        world.control_bytes() as f64 / nodes as f64 / 1e6,
        directory as f64 / nodes as f64 / 1e6
    );
}
