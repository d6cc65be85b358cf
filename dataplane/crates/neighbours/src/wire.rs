//! Messages of a link as bytes, and back. What comes is checked here, and nowhere behind.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::{encode_length_delimiter, length_delimiter_len};
use ringgate_policy::{AgentName, Topic};
use ringgate_proto::agp::neighbour::v1 as proto;
use ringgate_proto::agp::neighbour::v1::directory_message::Body as DirectoryBody;
use ringgate_proto::agp::neighbour::v1::interest_change::Key as WireKey;
use ringgate_proto::agp::neighbour::v1::neighbour_message::Body;

use crate::fault::Fault;
use crate::ids::{NodeId, Version};
use crate::interest::{Change, Delta, Key, Share};
use crate::limits::{COST_MAX, NODE_NAME_BYTES_MAX};
use crate::topology::LinkState;

/// Number of `carry` in `NeighbourMessage`, length-delimited.
const CARRY_TAG: u8 = 7 << 3 | 2;
/// Number of `body` in `Carry`, length-delimited.
const BODY_TAG: u8 = 15 << 3 | 2;

/// What goes to whom, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) origin: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) sequence: u64,
    pub(crate) hops: u32,
    pub(crate) to: To,
}

/// See [`Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// All who want a topic.
    Topic {
        topic: Arc<str>,
        since: u64,
        count: u64,
        messages: u32,
        closing: bool,
    },
    Node {
        node: NodeId,
        /// The body is for the directory there.
        directory: bool,
    },
}

/// What a neighbour says.
#[derive(Debug)]
pub(crate) enum Heard {
    Summary {
        held: Vec<Held>,
        last: bool,
    },
    Flood {
        states: Vec<LinkState>,
        acknowledged: Vec<(NodeId, Version)>,
    },
    Have(Vec<(NodeId, Version)>),
    Pull(Vec<(NodeId, Version)>),
    /// From one version to the next; from none where `base` is that.
    Interest {
        node: NodeId,
        delta: Delta,
        more: bool,
    },
    Digest(u64),
    Hello(Hello),
    Carry {
        header: Header,
        body: Bytes,
    },
}

/// The first message on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub name: String,
    /// Of the protocol.
    pub version: u32,
}

impl Hello {
    /// The version that this crate speaks.
    pub const VERSION: u32 = 1;

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(Body::Hello(proto::Hello {
            name: self.name.clone(),
            version: self.version,
        }))
    }

    /// Reads the first message of a link.
    ///
    /// # Errors
    /// [`Fault`]; the link is to be closed.
    pub fn decode(message: Bytes) -> Result<Self, Fault> {
        match decode(message, 0)? {
            Heard::Hello(hello) if hello.version == Self::VERSION => Ok(hello),
            Heard::Hello(_) => Err(Fault::Field { field: "version" }),
            _ => Err(Fault::Field { field: "hello" }),
        }
    }
}

/// What a node holds of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) node: NodeId,
    pub(crate) state: Version,
    pub(crate) table: Version,
}

/// The bytes before the body; the body follows as it is.
pub(crate) fn carry_head(header: &Header, body_len: usize) -> Bytes {
    let mut fields = proto::Carry {
        origin: header.origin.to_bits(),
        incarnation: header.incarnation,
        sequence: header.sequence,
        hops: header.hops,
        ..Default::default()
    };
    match &header.to {
        To::Node { node, directory } => {
            fields.to = node.to_bits();
            fields.directory = *directory;
        }
        To::Topic {
            topic,
            since,
            count,
            messages,
            closing,
        } => {
            fields.topic = topic.to_string();
            fields.counted_since = *since;
            fields.count = *count;
            fields.messages = *messages;
            fields.closing = *closing;
        }
    }
    let fields_len = fields.encoded_len();
    let len = fields_len + 1 + length_delimiter_len(body_len) + body_len;
    let mut head = BytesMut::with_capacity(fields_len + 24);
    let grows = "a BytesMut grows";
    head.put_u8(CARRY_TAG);
    encode_length_delimiter(len, &mut head).expect(grows);
    fields.encode(&mut head).expect(grows);
    head.put_u8(BODY_TAG);
    encode_length_delimiter(body_len, &mut head).expect(grows);
    head.freeze()
}

pub(crate) fn summary(held: &[Held], last: bool) -> Bytes {
    let held = held.iter().map(|held| proto::Held {
        node: held.node.to_bits(),
        link_state: Some(version(held.state)),
        interest: (held.table != Version::NONE).then(|| version(held.table)),
    });
    encode(Body::Summary(proto::Summary {
        held: held.collect(),
        last,
    }))
}

pub(crate) fn flood(states: &[&LinkState], acknowledged: &[(NodeId, Version)], now: u64) -> Bytes {
    let states = states.iter().map(|state| proto::LinkState {
        node: state.node.to_bits(),
        name: state.name.to_string(),
        version: Some(version(state.version)),
        age_ms: (now as i64).saturating_sub(state.born_ms).max(0) as u64,
        links: state
            .links
            .iter()
            .map(|(node, cost)| proto::LinkCost {
                node: node.to_bits(),
                cost: *cost,
            })
            .collect(),
        leaving: state.leaving,
        losses: state.losses,
    });
    encode(Body::Flood(proto::Flood {
        states: states.collect(),
        acknowledged: pairs(acknowledged),
    }))
}

pub(crate) fn have(tables: &[(NodeId, Version)]) -> Bytes {
    encode(Body::Have(proto::Have {
        tables: pairs(tables),
    }))
}

pub(crate) fn pull(tables: &[(NodeId, Version)]) -> Bytes {
    encode(Body::Pull(proto::Pull {
        tables: pairs(tables),
    }))
}

pub(crate) fn digest(value: u64) -> Bytes {
    encode(Body::Digest(proto::Digest { value }))
}

pub(crate) fn interest<'a>(
    node: NodeId,
    (base, to, digest): (Version, Version, u64),
    changes: impl Iterator<Item = (&'a Key, Share)>,
    more: bool,
) -> Bytes {
    let changes = changes.map(|(key, share)| proto::InterestChange {
        key: Some(match key {
            Key::Pattern(pattern) => WireKey::Pattern(pattern.to_string()),
            Key::Group { pattern, group } => WireKey::Group(proto::GroupKey {
                pattern: pattern.to_string(),
                group: group.to_string(),
            }),
            Key::Service(name) => WireKey::Service(name.to_string()),
            Key::Capability(name) => WireKey::Capability(name.to_string()),
        }),
        count: share.count,
        load: share.load,
    });
    encode(Body::Interest(proto::InterestUpdate {
        node: node.to_bits(),
        base: (base != Version::NONE).then(|| version(base)),
        version: Some(version(to)),
        digest,
        changes: changes.collect(),
        more,
    }))
}

/// About as many bytes as a change takes on the wire.
pub(crate) fn change_len(key: &Key) -> usize {
    16 + match key {
        Key::Pattern(text) | Key::Service(text) | Key::Capability(text) => text.len(),
        Key::Group { pattern, group } => pattern.len() + group.len() + 4,
    }
}

/// What directories tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Directory {
    Place {
        batch: u64,
        here: Vec<AgentName>,
        gone: Vec<AgentName>,
    },
    Placed {
        batch: u64,
    },
    Locate {
        name: AgentName,
    },
    Located {
        name: AgentName,
        node: Option<NodeId>,
    },
}

pub(crate) fn directory(message: &Directory) -> Bytes {
    let names = |names: &[AgentName]| names.iter().map(AgentName::to_string).collect();
    let body = match message {
        Directory::Place { batch, here, gone } => DirectoryBody::Place(proto::Place {
            batch: *batch,
            here: names(here),
            gone: names(gone),
        }),
        Directory::Placed { batch } => DirectoryBody::Placed(proto::Placed { batch: *batch }),
        Directory::Locate { name } => DirectoryBody::Locate(proto::Locate {
            name: name.to_string(),
        }),
        Directory::Located { name, node } => DirectoryBody::Located(proto::Located {
            name: name.to_string(),
            node: node.map_or(0, NodeId::to_bits),
        }),
    };
    proto::DirectoryMessage { body: Some(body) }
        .encode_to_vec()
        .into()
}

/// Reads what another node's directory says. It came over nodes that only passed it on, so no link is to blame.
pub(crate) fn directory_of(message: Bytes) -> Option<Directory> {
    let names = |names: Vec<String>| {
        names
            .iter()
            .map(|name| AgentName::new(name).ok())
            .collect::<Option<_>>()
    };
    Some(match proto::DirectoryMessage::decode(message).ok()?.body? {
        DirectoryBody::Place(place) => Directory::Place {
            batch: place.batch,
            here: names(place.here)?,
            gone: names(place.gone)?,
        },
        DirectoryBody::Placed(placed) => Directory::Placed { batch: placed.batch },
        DirectoryBody::Locate(locate) => Directory::Locate {
            name: AgentName::new(&locate.name).ok()?,
        },
        DirectoryBody::Located(located) => Directory::Located {
            name: AgentName::new(&located.name).ok()?,
            node: (located.node != 0).then(|| NodeId::from_bits(located.node)),
        },
    })
}

/// Reads one message.
pub(crate) fn decode(message: Bytes, now: u64) -> Result<Heard, Fault> {
    let decoded = proto::NeighbourMessage::decode(message).map_err(|error| Fault::Undecodable {
        reason: error.to_string(),
    })?;
    Ok(match decoded.body.ok_or(Fault::UnknownKind)? {
        Body::Summary(summary) => Heard::Summary {
            held: summary.held.into_iter().map(held).collect::<Result<_, _>>()?,
            last: summary.last,
        },
        Body::Flood(flood) => Heard::Flood {
            states: flood
                .states
                .into_iter()
                .map(|state| link_state(state, now))
                .collect::<Result<_, _>>()?,
            acknowledged: versions(flood.acknowledged)?,
        },
        Body::Have(have) => Heard::Have(versions(have.tables)?),
        Body::Pull(pull) => Heard::Pull(versions(pull.tables)?),
        Body::Interest(update) => update_of(update)?,
        Body::Digest(digest) => Heard::Digest(digest.value),
        Body::Hello(hello) => Heard::Hello(Hello {
            name: hello.name,
            version: hello.version,
        }),
        Body::Carry(carry) => carried(carry)?,
    })
}

fn encode(body: Body) -> Bytes {
    proto::NeighbourMessage { body: Some(body) }
        .encode_to_vec()
        .into()
}

fn version(version: Version) -> proto::NodeVersion {
    proto::NodeVersion {
        incarnation: version.incarnation,
        number: version.number,
    }
}

fn pairs(pairs: &[(NodeId, Version)]) -> Vec<proto::Acknowledged> {
    pairs
        .iter()
        .map(|(node, at)| proto::Acknowledged {
            node: node.to_bits(),
            version: Some(version(*at)),
        })
        .collect()
}

fn node(bits: u64) -> Result<NodeId, Fault> {
    match bits {
        0 => Err(Fault::Field { field: "node" }),
        bits => Ok(NodeId::from_bits(bits)),
    }
}

fn version_of(version: Option<proto::NodeVersion>) -> Version {
    version.map_or(Version::NONE, |version| Version {
        incarnation: version.incarnation,
        number: version.number,
    })
}

/// A version that is one.
fn some_version(version: Option<proto::NodeVersion>) -> Result<Version, Fault> {
    match version_of(version) {
        Version { number: 0, .. } | Version { incarnation: 0, .. } => Err(Fault::Field { field: "version" }),
        version => Ok(version),
    }
}

fn versions(pairs: Vec<proto::Acknowledged>) -> Result<Vec<(NodeId, Version)>, Fault> {
    pairs
        .into_iter()
        .map(|pair| Ok((node(pair.node)?, version_of(pair.version))))
        .collect()
}

fn held(held: proto::Held) -> Result<Held, Fault> {
    Ok(Held {
        node: node(held.node)?,
        state: some_version(held.link_state)?,
        table: version_of(held.interest),
    })
}

fn link_state(state: proto::LinkState, now: u64) -> Result<LinkState, Fault> {
    let id = node(state.node)?;
    if state.name.is_empty() || state.name.len() > NODE_NAME_BYTES_MAX || NodeId::of(&state.name) != id {
        return Err(Fault::Field { field: "name" });
    }
    let mut links = Vec::with_capacity(state.links.len());
    for link in state.links {
        let to = node(link.node)?;
        if !(1..=COST_MAX).contains(&link.cost)
            || links.last().is_some_and(|(last, _)| *last >= to)
            || to == id
        {
            return Err(Fault::Field { field: "links" });
        }
        links.push((to, link.cost));
    }
    Ok(LinkState {
        node: id,
        name: state.name.into(),
        version: some_version(state.version)?,
        born_ms: (now as i64).saturating_sub(i64::try_from(state.age_ms).unwrap_or(i64::MAX)),
        links: links.into(),
        leaving: state.leaving,
        losses: state.losses,
    })
}

fn update_of(update: proto::InterestUpdate) -> Result<Heard, Fault> {
    let changes = update.changes.into_iter().map(|change| {
        let key = match change.key.ok_or(Fault::Field { field: "key" })? {
            WireKey::Pattern(pattern) => Key::Pattern(pattern.into()),
            WireKey::Group(group) => Key::Group {
                pattern: group.pattern.into(),
                group: group.group.into(),
            },
            WireKey::Service(name) => Key::Service(name.into()),
            WireKey::Capability(name) => Key::Capability(name.into()),
        };
        key.check().map_err(|_| Fault::Field { field: "key" })?;
        let share = Share {
            count: change.count,
            load: change.load,
        };
        Ok(Change { key, share })
    });
    Ok(Heard::Interest {
        node: node(update.node)?,
        delta: Delta {
            base: version_of(update.base),
            version: some_version(update.version)?,
            digest: update.digest,
            changes: changes.collect::<Result<Vec<_>, Fault>>()?.into(),
        },
        more: update.more,
    })
}

fn carried(carry: proto::Carry) -> Result<Heard, Fault> {
    let to = if carry.to != 0 {
        To::Node {
            node: NodeId::from_bits(carry.to),
            directory: carry.directory,
        }
    } else {
        Topic::new(&carry.topic).map_err(|_| Fault::Field { field: "topic" })?;
        if carry.count < u64::from(carry.messages) {
            return Err(Fault::Field { field: "count" });
        }
        To::Topic {
            topic: carry.topic.into(),
            since: carry.counted_since,
            count: carry.count,
            messages: carry.messages,
            closing: carry.closing,
        }
    };
    if carry.sequence == 0 {
        return Err(Fault::Field { field: "sequence" });
    }
    Ok(Heard::Carry {
        header: Header {
            origin: node(carry.origin)?,
            incarnation: carry.incarnation,
            sequence: carry.sequence,
            hops: carry.hops,
            to,
        },
        body: carry.body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(to: To) -> Header {
        Header {
            origin: NodeId::of("a"),
            incarnation: 3,
            sequence: 9,
            hops: 5,
            to,
        }
    }

    fn to(node: &str) -> To {
        To::Node {
            node: NodeId::of(node),
            directory: true,
        }
    }

    #[test]
    fn a_body_goes_behind_its_head_and_comes_out_as_a_slice() {
        let topic = To::Topic {
            topic: "a/b".into(),
            since: 4,
            count: 300,
            messages: 2,
            closing: false,
        };
        for (header, body) in [
            (carry(topic), Bytes::from(vec![7; 300])),
            (carry(to("b")), Bytes::from_static(b"x")),
            (carry(to("b")), Bytes::new()),
        ] {
            let mut whole = BytesMut::from(&carry_head(&header, body.len())[..]);
            whole.extend_from_slice(&body);
            let whole = whole.freeze();
            let Ok(Heard::Carry {
                header: got,
                body: slice,
            }) = decode(whole.clone(), 0)
            else {
                panic!("own encoding");
            };
            assert_eq!((got, &slice[..]), (header, &body[..]));
            assert!(slice.is_empty() || whole.as_ptr_range().contains(&slice.as_ptr()));
        }
    }

    #[test]
    fn what_must_not_stand_there_is_refused() {
        let state = |name: &str, links: Vec<(u64, u32)>| {
            let links = links
                .into_iter()
                .map(|(node, cost)| proto::LinkCost { node, cost });
            encode(Body::Flood(proto::Flood {
                states: vec![proto::LinkState {
                    node: NodeId::of("a").to_bits(),
                    name: name.into(),
                    version: Some(proto::NodeVersion {
                        incarnation: 1,
                        number: 1,
                    }),
                    links: links.collect(),
                    ..Default::default()
                }],
                acknowledged: vec![],
            }))
        };
        let field = |message| match decode(message, 0) {
            Err(Fault::Field { field }) => field,
            Err(_) => "another",
            Ok(_) => "none",
        };
        assert_eq!(field(state("a", vec![(1, 1), (2, COST_MAX)])), "none");
        assert_eq!(field(state("b", vec![])), "name");
        assert_eq!(field(state("a", vec![(2, 1), (1, 1)])), "links");
        assert_eq!(field(state("a", vec![(1, 0)])), "links");
        assert_eq!(field(state("a", vec![(1, COST_MAX + 1)])), "links");
        let mut header = carry(to("b"));
        header.sequence = 0;
        assert_eq!(field(carry_head(&header, 0)), "sequence");
        let topic = To::Topic {
            topic: "a/*".into(),
            since: 1,
            count: 1,
            messages: 1,
            closing: false,
        };
        assert_eq!(field(carry_head(&carry(topic), 0)), "topic");
        assert_eq!(decode(Bytes::new(), 0).err(), Some(Fault::UnknownKind));
        assert!(matches!(
            decode(Bytes::from_static(b"\xff\xff"), 0),
            Err(Fault::Undecodable { .. })
        ));
    }

    #[test]
    fn directories_understand_each_other() {
        let name = || AgentName::new("a/b/c/d").expect("valid");
        for message in [
            Directory::Place {
                batch: 3,
                here: vec![name()],
                gone: vec![],
            },
            Directory::Placed { batch: 3 },
            Directory::Locate { name: name() },
            Directory::Located {
                name: name(),
                node: Some(NodeId::of("a")),
            },
            Directory::Located {
                name: name(),
                node: None,
            },
        ] {
            assert_eq!(directory_of(directory(&message)), Some(message));
        }
        let bad = proto::Locate { name: "a/b".into() };
        let bad = proto::DirectoryMessage {
            body: Some(DirectoryBody::Locate(bad)),
        };
        assert_eq!(directory_of(bad.encode_to_vec().into()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (decode(bytes.clone(), 0), directory_of(bytes));
        }
    }
}
