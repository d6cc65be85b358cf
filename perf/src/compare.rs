//! The same work against several servers, side by side.
//!
//! Servers take turns within each repetition, each fresh, alone, and on the same core; the order moves on by one each time. So a
//! disturbance of the machine meets all alike, and a ratio is taken between runs that were made within seconds of each other.

use std::time::Duration;

use crate::Error;
use crate::fleet::Dial;
use crate::peers::{Options, Peer, Server};
use crate::report::{Report, Spread, Summary};
use crate::work::{Bounds, Outcome, Pace, PubSub, Requests, Target};

/// One kind of work of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// One publisher, closed loop: so many subscribers, bytes of payload, messages in flight.
    FanOut {
        /// Subscribers.
        subscribers: usize,
        /// Bytes of a payload.
        payload_bytes: usize,
        /// Messages in flight.
        window: usize,
    },
    /// One publisher, open loop.
    Rate {
        /// Subscribers.
        subscribers: usize,
        /// Bytes of a payload.
        payload_bytes: usize,
        /// Deliveries (not publishes) in each second.
        deliveries_per_second: f64,
    },
    /// Requests and answers, closed loop.
    Request {
        /// Bytes of a payload, both ways.
        payload_bytes: usize,
        /// Requests in flight.
        window: usize,
    },
}

impl Shape {
    /// What the headline table shows.
    pub const HEADLINE: [Shape; 5] = [
        Shape::fan_out(10, 256, 64),
        Shape::fan_out(100, 256, 16),
        Shape::fan_out(1000, 256, 1),
        Shape::fan_out(10, 16_384, 16),
        Shape::fan_out(100, 64, 256),
    ];
    /// What the latency table shows.
    pub const LATENCY: [Shape; 3] = [
        Shape::rate(10, 256, 1_000.0),
        Shape::rate(10, 256, 20_000.0),
        Shape::Request {
            payload_bytes: 256,
            window: 1,
        },
    ];

    const fn fan_out(subscribers: usize, payload_bytes: usize, window: usize) -> Shape {
        Shape::FanOut {
            subscribers,
            payload_bytes,
            window,
        }
    }

    const fn rate(subscribers: usize, payload_bytes: usize, deliveries_per_second: f64) -> Shape {
        Shape::Rate {
            subscribers,
            payload_bytes,
            deliveries_per_second,
        }
    }

    /// Reads a comma-separated list of `headline`, `latency`, and single shapes: `SUBSCRIBERSxBYTESxWINDOW`,
    /// `SUBSCRIBERSxBYTES@DELIVERIES_PER_SECOND`, `request:BYTESxWINDOW`.
    ///
    /// # Errors
    /// A sentence for the one who typed it.
    pub fn parse_list(text: &str) -> Result<Vec<Shape>, String> {
        let mut shapes = Vec::new();
        for word in text.split(',') {
            match word {
                "headline" => shapes.extend(Shape::HEADLINE),
                "latency" => shapes.extend(Shape::LATENCY),
                _ => shapes.push(Shape::parse(word).ok_or_else(|| {
                    format!(
                        "`{word}` is no shape: headline, latency, 10x256x64, 10x256@20000 or request:256x1"
                    )
                })?),
            }
        }
        Ok(shapes)
    }

    fn parse(word: &str) -> Option<Shape> {
        if let Some(request) = word.strip_prefix("request:") {
            let (payload_bytes, window) = request.split_once('x')?;
            return Some(Shape::Request {
                payload_bytes: payload_bytes.parse().ok()?,
                window: window.parse().ok()?,
            });
        }
        let (subscribers, rest) = word.split_once('x')?;
        let subscribers = subscribers.parse().ok()?;
        if let Some((payload_bytes, rate)) = rest.split_once('@') {
            return Some(Shape::rate(
                subscribers,
                payload_bytes.parse().ok()?,
                rate.parse().ok()?,
            ));
        }
        let (payload_bytes, window) = rest.split_once('x')?;
        Some(Shape::fan_out(
            subscribers,
            payload_bytes.parse().ok()?,
            window.parse().ok()?,
        ))
    }

    /// Its name in tables.
    pub fn name(self) -> String {
        let bytes = |bytes: usize| match bytes % 1024 {
            0 => format!("{} KiB", bytes / 1024),
            _ => format!("{bytes} B"),
        };
        match self {
            Shape::FanOut {
                subscribers,
                payload_bytes,
                window,
            } => {
                format!("{subscribers} × {} × {window}", bytes(payload_bytes))
            }
            Shape::Rate {
                subscribers,
                payload_bytes,
                deliveries_per_second,
            } => {
                format!(
                    "{subscribers} × {}, {deliveries_per_second}/s",
                    bytes(payload_bytes)
                )
            }
            Shape::Request {
                payload_bytes,
                window,
            } => format!("request {} × {window}", bytes(payload_bytes)),
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// As the work says.
    pub fn run(self, target: &Target, bounds: Bounds) -> Result<Outcome, Error> {
        let fan_out = |subscribers, payload_bytes, pace| PubSub {
            publishers: 1,
            subscribers,
            topics: 1,
            payload_bytes,
            pace,
        };
        match self {
            Shape::FanOut {
                subscribers,
                payload_bytes,
                window,
            } => fan_out(subscribers, payload_bytes, Pace::Window(window)).run(target, bounds),
            Shape::Rate {
                subscribers,
                payload_bytes,
                deliveries_per_second,
            } => {
                let pace = Pace::PerSecond(deliveries_per_second / subscribers as f64);
                fan_out(subscribers, payload_bytes, pace).run(target, bounds)
            }
            Shape::Request {
                payload_bytes,
                window,
            } => Requests {
                responders: 1,
                payload_bytes,
                pace: Pace::Window(window),
            }
            .run(target, bounds),
        }
    }
}

/// A comparison.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The servers.
    pub peers: Vec<Peer>,
    /// The work.
    pub shapes: Vec<Shape>,
    /// How often each meets each.
    pub repetitions: usize,
    /// How long each time.
    pub bounds: Bounds,
    /// How servers are started.
    pub options: Options,
    /// Whether the load never sleeps.
    pub load_spins: bool,
}

impl Comparison {
    /// Runs it; `progress` gets a line for each run. What fails is named in the report.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Report {
        let mut cells = vec![Vec::<(usize, Outcome)>::new(); self.peers.len() * self.shapes.len()];
        let mut missing: Vec<String> = Vec::new();
        let mut runs = 0;
        for repetition in 0..self.repetitions {
            for turn in 0..self.peers.len() {
                let index = (turn + repetition) % self.peers.len();
                let peer = self.peers[index];
                let server = match Server::start(peer, &self.options) {
                    Ok(Ok(server)) => server,
                    Ok(Err(reason)) => {
                        note(&mut missing, reason);
                        continue;
                    }
                    Err(error) => {
                        note(&mut missing, format!("{}: {error}", peer.name()));
                        continue;
                    }
                };
                for (number, shape) in self.shapes.iter().enumerate() {
                    runs += 1;
                    match shape.run(&self.target(peer, &server, runs), self.bounds) {
                        Ok(outcome) => {
                            progress(&line(repetition, self.repetitions, peer, *shape, &outcome));
                            cells[number * self.peers.len() + index].push((repetition, outcome));
                        }
                        Err(error) => note(
                            &mut missing,
                            format!("{} at {}: {error}", peer.name(), shape.name()),
                        ),
                    }
                }
            }
        }
        Report::new(self.summarise(&cells), missing)
    }

    fn target(&self, peer: Peer, server: &Server, run: u32) -> Target {
        let dial = Dial {
            address: server.address,
            protocol: peer.protocol(),
            reset_on_close: false,
            spin: self.load_spins,
        };
        Target {
            dial,
            pid: Some(server.pid()),
            run,
        }
    }

    fn summarise(&self, cells: &[Vec<(usize, Outcome)>]) -> Vec<Summary> {
        let limit = self.peers.iter().position(|peer| *peer == Peer::RelayUring);
        let mut summaries = Vec::new();
        for (row, shape) in cells.chunks(self.peers.len()).zip(&self.shapes) {
            for (cell, peer) in row.iter().zip(&self.peers) {
                if cell.is_empty() {
                    continue;
                }
                let outcomes: Vec<Outcome> = cell.iter().map(|(_, outcome)| outcome.clone()).collect();
                let mut summary = Summary::new(shape.name(), peer.name().into(), &outcomes);
                summary.cpu_to_limit = limit.and_then(|limit| ratios(cell, &row[limit]));
                summaries.push(summary);
            }
        }
        summaries
    }
}

/// The ratio of costs in each repetition that has both.
fn ratios(cell: &[(usize, Outcome)], limit: &[(usize, Outcome)]) -> Option<Spread> {
    Spread::of(cell.iter().filter_map(|(repetition, outcome)| {
        let (_, beside) = limit.iter().find(|(other, _)| other == repetition)?;
        Some(outcome.cpu_ns_per_message()? / beside.cpu_ns_per_message()?)
    }))
}

fn note(missing: &mut Vec<String>, reason: String) {
    if !missing.contains(&reason) {
        missing.push(reason);
    }
}

fn line(repetition: usize, repetitions: usize, peer: Peer, shape: Shape, outcome: &Outcome) -> String {
    let cpu = outcome.cpu_ns_per_message().unwrap_or(f64::NAN);
    let p50 = Duration::from_nanos(outcome.latency.value_at_quantile(0.5));
    format!(
        "{}/{repetitions} {:<20} {:<18} {cpu:8.1} ns/msg {:>10.0} msg/s p50 {p50:?}{}",
        repetition + 1,
        peer.name(),
        shape.name(),
        outcome.per_second(),
        if outcome.lost + outcome.misordered > 0 {
            " LOST OR OUT OF ORDER"
        } else {
            ""
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_written() {
        let shapes = Shape::parse_list("10x256x64,10x256@20000,request:256x1").unwrap();
        assert_eq!(shapes[0], Shape::fan_out(10, 256, 64));
        assert_eq!(shapes[1], Shape::rate(10, 256, 20_000.0));
        assert_eq!(
            shapes[2],
            Shape::Request {
                payload_bytes: 256,
                window: 1
            }
        );
        assert_eq!(Shape::parse_list("headline,latency").unwrap().len(), 8);
        assert!(Shape::parse_list("ten").unwrap_err().contains("`ten`"));
    }

    #[test]
    fn names_are_short() {
        assert_eq!(Shape::fan_out(10, 16_384, 16).name(), "10 × 16 KiB × 16");
        assert_eq!(Shape::rate(10, 256, 1_000.0).name(), "10 × 256 B, 1000/s");
    }
}
