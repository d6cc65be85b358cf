//! The same work against several servers, side by side.
//!
//! Servers take turns within each repetition, each fresh, alone, and on the same core; the order moves on by one each time. So a
//! disturbance of the machine meets all alike, and a ratio is taken between runs that were made within seconds of each other.

use std::time::Duration;

use crate::Error;
use crate::fleet::Dial;
use crate::peers::{Contender, Options, Peer, Server};
use crate::report::{Report, Spread, Summary, View};
use crate::work::{Bounds, Churn, Outcome, Pace, Placed, PubSub, Requests, Target};

/// Connections that hold the standing subscriptions of [`Shape::Churn`].
const CHURN_HOLDERS: usize = 10;

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
        /// Deliveries (not publishes) in each second, to all but those that stall.
        deliveries_per_second: f64,
        /// Subscribers besides that read nothing.
        stalled: usize,
        /// Which of the server's cores the connections are on.
        placed: Placed,
    },
    /// Requests and answers.
    Request {
        /// Bytes of a payload, both ways.
        payload_bytes: usize,
        /// When to ask.
        pace: Pace,
    },
    /// One publisher and one subscriber; each message is for another of the topics than the one before.
    Topics {
        /// Topics.
        topics: usize,
        /// Bytes of a payload.
        payload_bytes: usize,
        /// Messages in flight.
        window: usize,
    },
    /// Subscriptions made and given up.
    Churn {
        /// Subscriptions that stand all the time.
        standing: usize,
        /// Changes under way at a time.
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
    pub const LATENCY: [Shape; 4] = [
        Shape::rate(10, 256, 1_000.0),
        Shape::rate(10, 256, 20_000.0),
        Shape::request(256, Pace::Window(1)),
        Shape::request(256, Pace::PerSecond(1_000.0)),
    ];
    /// What one reader that stalls does to a hundred others: without it, then with it. Payloads are large for its buffers to fill soon.
    pub const STALLED: [Shape; 2] = [
        Shape::rate(100, 16_384, 10_000.0),
        Shape::Rate {
            subscribers: 100,
            payload_bytes: 16_384,
            deliveries_per_second: 10_000.0,
            stalled: 1,
            placed: Placed::Anywhere,
        },
    ];
    /// What the way to another core adds: the same load on one of two cores, and across.
    pub const ACROSS: [Shape; 4] = [
        Shape::placed(1_000.0, Placed::Together),
        Shape::placed(1_000.0, Placed::Across),
        Shape::placed(20_000.0, Placed::Together),
        Shape::placed(20_000.0, Placed::Across),
    ];

    /// What is asked of several cores: subscribers spread over all of them.
    pub const SHARDS: [Shape; 2] = [Shape::fan_out(100, 256, 16), Shape::fan_out(1000, 256, 1)];

    /// What is asked of the dialects: fan-out, and the rate of subscribing beside a table of some size.
    pub const DIALECTS: [Shape; 3] = [
        Shape::fan_out(100, 256, 16),
        Shape::fan_out(1000, 256, 1),
        Shape::Churn {
            standing: 20_000,
            window: 256,
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
            stalled: 0,
            placed: Placed::Anywhere,
        }
    }

    const fn placed(deliveries_per_second: f64, placed: Placed) -> Shape {
        Shape::Rate {
            subscribers: 10,
            payload_bytes: 256,
            deliveries_per_second,
            stalled: 0,
            placed,
        }
    }

    const fn request(payload_bytes: usize, pace: Pace) -> Shape {
        Shape::Request { payload_bytes, pace }
    }

    /// Reads a comma-separated list of `headline`, `latency`, `stalled`, `across`, `dialects`, and single shapes: `SUBSCRIBERSxBYTESxWINDOW`,
    /// `SUBSCRIBERSxBYTES@DELIVERIES_PER_SECOND`, with `!STALLED` behind it where some read nothing, and `together:` or `across:`
    /// before it where all are on one of the server's cores, or publisher and subscribers on two; `request:BYTESxWINDOW`,
    /// `request:BYTES@REQUESTS_PER_SECOND`; `topics:TOPICSxBYTESxWINDOW`; `churn:STANDINGxWINDOW`.
    ///
    /// # Errors
    /// A sentence for the one who typed it.
    pub fn parse_list(text: &str) -> Result<Vec<Shape>, String> {
        let mut shapes = Vec::new();
        for word in text.split(',') {
            match word {
                "headline" => shapes.extend(Shape::HEADLINE),
                "latency" => shapes.extend(Shape::LATENCY),
                "stalled" => shapes.extend(Shape::STALLED),
                "across" => shapes.extend(Shape::ACROSS),
                "dialects" => shapes.extend(Shape::DIALECTS),
                _ => shapes.push(Shape::parse(word).ok_or_else(|| {
                    format!(
                        "`{word}` is no shape: headline, latency, stalled, across, dialects, 10x256x64, 10x256@20000, \
                         100x4096@20000!1, across:10x256@1000, request:256x1, request:256@1000, topics:100x64x64 or churn:20000x256"
                    )
                })?),
            }
        }
        Ok(shapes)
    }

    fn parse(word: &str) -> Option<Shape> {
        if let Some(request) = word.strip_prefix("request:") {
            return Some(match request.split_once('@') {
                Some((bytes, rate)) => {
                    Shape::request(bytes.parse().ok()?, Pace::PerSecond(rate.parse().ok()?))
                }
                None => {
                    let (bytes, window) = request.split_once('x')?;
                    Shape::request(bytes.parse().ok()?, Pace::Window(window.parse().ok()?))
                }
            });
        }
        if let Some(churn) = word.strip_prefix("churn:") {
            let (standing, window) = churn.split_once('x')?;
            return Some(Shape::Churn {
                standing: standing.parse().ok()?,
                window: window.parse().ok()?,
            });
        }
        if let Some(topics) = word.strip_prefix("topics:") {
            let (topics, rest) = topics.split_once('x')?;
            let (payload_bytes, window) = rest.split_once('x')?;
            return Some(Shape::Topics {
                topics: topics.parse().ok()?,
                payload_bytes: payload_bytes.parse().ok()?,
                window: window.parse().ok()?,
            });
        }
        let (placed, word) = match word.split_once(':') {
            Some(("together", rest)) => (Placed::Together, rest),
            Some(("across", rest)) => (Placed::Across, rest),
            Some(_) => return None,
            None => (Placed::Anywhere, word),
        };
        let (subscribers, rest) = word.split_once('x')?;
        let subscribers = subscribers.parse().ok()?;
        if let Some((payload_bytes, rate)) = rest.split_once('@') {
            let (rate, stalled) = rate.split_once('!').unwrap_or((rate, "0"));
            return Some(Shape::Rate {
                subscribers,
                payload_bytes: payload_bytes.parse().ok()?,
                deliveries_per_second: rate.parse().ok()?,
                stalled: stalled.parse().ok()?,
                placed,
            });
        }
        if placed != Placed::Anywhere {
            return None;
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
                stalled,
                placed,
            } => {
                let mut name = format!(
                    "{subscribers} × {}, {deliveries_per_second}/s",
                    bytes(payload_bytes)
                );
                if stalled > 0 {
                    name.push_str(&format!(", {stalled} stalled"));
                }
                match placed {
                    Placed::Anywhere => name,
                    Placed::Together => name + ", one core",
                    Placed::Across => name + ", across cores",
                }
            }
            Shape::Request { payload_bytes, pace } => match pace {
                Pace::Window(window) => format!("request {} × {window}", bytes(payload_bytes)),
                Pace::PerSecond(rate) => format!("request {}, {rate}/s", bytes(payload_bytes)),
            },
            Shape::Topics {
                topics,
                payload_bytes,
                window,
            } => format!("{topics} topics × {} × {window}", bytes(payload_bytes)),
            Shape::Churn { standing, window } => format!("churn beside {standing} × {window}"),
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
            stalled: 0,
            placed: Placed::Anywhere,
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
                stalled,
                placed,
            } => {
                let pace = Pace::PerSecond(deliveries_per_second / subscribers as f64);
                PubSub {
                    stalled,
                    placed,
                    ..fan_out(subscribers, payload_bytes, pace)
                }
                .run(target, bounds)
            }
            Shape::Request { payload_bytes, pace } => Requests {
                responders: 1,
                payload_bytes,
                pace,
            }
            .run(target, bounds),
            Shape::Topics {
                topics,
                payload_bytes,
                window,
            } => PubSub {
                topics,
                ..fan_out(1, payload_bytes, Pace::Window(window))
            }
            .run(target, bounds),
            Shape::Churn { standing, window } => Churn {
                standing,
                holders: CHURN_HOLDERS,
                window,
            }
            .run(target, bounds),
        }
    }
}

/// What ratios are taken to, within the same repetition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reference {
    /// The raw io_uring relay in the same mode: the limit.
    #[default]
    Relay,
    /// The first server.
    FirstServer,
    /// The same server with the shape before: shapes come in pairs of without and with what is asked about.
    ShapeBefore,
}

impl Reference {
    /// What stands behind the `×` in tables.
    pub fn name(self) -> &'static str {
        match self {
            Reference::Relay => "limit",
            Reference::FirstServer => "first",
            Reference::ShapeBefore => "before",
        }
    }
}

/// A comparison.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The servers, each in its way.
    pub contenders: Vec<Contender>,
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
    /// What the table shows.
    pub view: View,
    /// What ratios are taken to.
    pub reference: Reference,
}

impl Comparison {
    /// Runs it; `progress` gets a line for each run. What fails is named in the report.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Report {
        let mut cells = vec![Vec::<(usize, Outcome)>::new(); self.contenders.len() * self.shapes.len()];
        let mut missing: Vec<String> = Vec::new();
        let mut runs = 0;
        for repetition in 0..self.repetitions {
            for turn in 0..self.contenders.len() {
                let index = (turn + repetition) % self.contenders.len();
                let contender = &self.contenders[index];
                let server = match Server::start(contender, &self.options) {
                    Ok(Ok(server)) => server,
                    Ok(Err(reason)) => {
                        note(&mut missing, reason);
                        continue;
                    }
                    Err(error) => {
                        note(&mut missing, format!("{}: {error}", contender.name()));
                        continue;
                    }
                };
                for (number, shape) in self.shapes.iter().enumerate() {
                    runs += 1;
                    match shape.run(&self.target(contender, &server, runs), self.bounds) {
                        Ok(outcome) => {
                            progress(&line(repetition, self.repetitions, contender, *shape, &outcome));
                            cells[number * self.contenders.len() + index].push((repetition, outcome));
                        }
                        Err(error) => note(
                            &mut missing,
                            format!("{} at {}: {error}", contender.name(), shape.name()),
                        ),
                    }
                }
            }
        }
        Report {
            view: self.view,
            reference: self.reference,
            ..Report::new(self.summarise(&cells), missing)
        }
    }

    fn target(&self, contender: &Contender, server: &Server, run: u32) -> Target {
        let dial = Dial {
            address: server.address,
            protocol: contender.peer.protocol(),
            reset_on_close: false,
            spin: self.load_spins,
        };
        Target {
            dial,
            pid: Some(server.pid()),
            stats: server.stats,
            run,
        }
    }

    /// Which cell the one of `shape` and `contender` is divided by.
    fn reference_of(&self, shape: usize, contender: usize) -> Option<usize> {
        let width = self.contenders.len();
        match self.reference {
            Reference::Relay => {
                let spin = self.contenders[contender].spin;
                let mut contenders = self.contenders.iter();
                let relay = contenders.position(|it| it.peer == Peer::RelayUring && it.spin == spin)?;
                Some(shape * width + relay)
            }
            Reference::FirstServer => Some(shape * width),
            Reference::ShapeBefore => Some((shape - shape % 2) * width + contender),
        }
    }

    fn summarise(&self, cells: &[Vec<(usize, Outcome)>]) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for (row, shape) in self.shapes.iter().enumerate() {
            for (column, contender) in self.contenders.iter().enumerate() {
                let cell = &cells[row * self.contenders.len() + column];
                if cell.is_empty() {
                    continue;
                }
                let outcomes: Vec<Outcome> = cell.iter().map(|(_, outcome)| outcome.clone()).collect();
                let mut summary = Summary::new(shape.name(), contender.name(), &outcomes);
                if let Some(reference) = self.reference_of(row, column) {
                    let reference = &cells[reference];
                    let quantile =
                        |quantile| move |run: &Outcome| Some(run.latency.value_at_quantile(quantile) as f64);
                    summary.cpu_ratio = ratios(cell, reference, Outcome::cpu_ns_per_message);
                    summary.p50_ratio = ratios(cell, reference, quantile(0.5));
                    summary.p99_ratio = ratios(cell, reference, quantile(0.99));
                }
                summaries.push(summary);
            }
        }
        summaries
    }
}

/// The ratio of some value in each repetition that has both.
fn ratios(
    cell: &[(usize, Outcome)],
    limit: &[(usize, Outcome)],
    value: impl Fn(&Outcome) -> Option<f64>,
) -> Option<Spread> {
    Spread::of(cell.iter().filter_map(|(repetition, outcome)| {
        let (_, beside) = limit.iter().find(|(other, _)| other == repetition)?;
        Some(value(outcome)? / value(beside)?)
    }))
}

fn note(missing: &mut Vec<String>, reason: String) {
    if !missing.contains(&reason) {
        missing.push(reason);
    }
}

fn line(
    repetition: usize,
    repetitions: usize,
    contender: &Contender,
    shape: Shape,
    outcome: &Outcome,
) -> String {
    let cpu = outcome.cpu_ns_per_message().unwrap_or(f64::NAN);
    let p50 = Duration::from_nanos(outcome.latency.value_at_quantile(0.5));
    format!(
        "{}/{repetitions} {:<24} {:<18} {cpu:8.1} ns/msg {:>10.0} msg/s p50 {p50:?}{}",
        repetition + 1,
        contender.name(),
        shape.name(),
        outcome.per_second(),
        match outcome.lost + outcome.misordered {
            _ if outcome.is_load_starved() => " LOAD STARVED",
            0 => "",
            _ => " LOST OR OUT OF ORDER",
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
        assert_eq!(shapes[2], Shape::request(256, Pace::Window(1)));
        assert_eq!(Shape::parse_list("headline,latency").unwrap().len(), 9);
        let list = "100x16384@10000!1,across:10x256@1000,request:256@1000";
        let shapes = Shape::parse_list(list).unwrap();
        assert_eq!(shapes[0], Shape::STALLED[1]);
        assert_eq!(shapes[1], Shape::ACROSS[1]);
        assert_eq!(shapes[2], Shape::LATENCY[3]);
        assert_eq!(
            Shape::parse_list("100x256x16,1000x256x1,churn:20000x256").unwrap(),
            Shape::DIALECTS
        );
        assert!(Shape::parse_list("across:10x256x64").is_err());
        assert!(Shape::parse_list("ten").unwrap_err().contains("`ten`"));
    }

    #[test]
    fn names_are_short() {
        assert_eq!(Shape::fan_out(10, 16_384, 16).name(), "10 × 16 KiB × 16");
        assert_eq!(Shape::rate(10, 256, 1_000.0).name(), "10 × 256 B, 1000/s");
        let topics = Shape::parse_list("topics:100x64x8").unwrap();
        assert_eq!(topics[0].name(), "100 topics × 64 B × 8");
        assert_eq!(Shape::STALLED[1].name(), "100 × 16 KiB, 10000/s, 1 stalled");
        assert_eq!(Shape::ACROSS[1].name(), "10 × 256 B, 1000/s, across cores");
        assert_eq!(Shape::DIALECTS[2].name(), "churn beside 20000 × 256");
    }
}
