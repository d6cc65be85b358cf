//! The dialect of the Agent Gateway Protocol's clients of 2025, `pubsub.proto.v1` (agp-bindings 0.2 and 0.3; `../shared/wire/agp-wire.md`).
//!
//! No greeting, no acknowledgements: clients subscribe and publish. A message goes on as it came, without the two fields of the
//! in-process leg that a client could abuse (`recvFrom`, `forwardTo`).

mod schema;

use bytes::{Bytes, BytesMut};
use ringgate_switch::{ANY, Dialect, Fanout, Form, Ignored, Name, Publish, Rendered, Said};

use self::schema::{AGENT, CONTENT, HEADER, MESSAGE, PUBLISH, SUBSCRIBE};
use crate::agp::DecodeError;
use crate::agp::Rule;
use crate::agp::fields::Fields;
use crate::envelope::{
    Envelope, GRPC_MESSAGE_BYTES_MAX, PREFIX_BYTES, Shape, frame_len, put_prefix, raw_fields,
};
use crate::{Arena, ArenaConfig, mls};

/// Full name of the gRPC service.
pub const SERVICE: &str = "pubsub.proto.v1.PubSubService";
/// Its only method.
pub const METHOD: &str = "OpenChannel";

/// How the node takes part. All cores of a node get the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct PubSubConfig {
    /// Whether a payload that is not an MLS PrivateMessage is dropped. The bindings know no MLS: only applications that encrypt by
    /// themselves are then heard.
    pub mls_only: bool,
    /// Sizes of the memory that messages are written to.
    pub arena: ArenaConfig,
}

/// The dialect. See the module.
#[derive(Debug, Default)]
pub struct PubSub {
    mls_only: bool,
    runs: Arena,
}

impl PubSub {
    /// Takes part as `config` says.
    pub fn new(config: PubSubConfig) -> Self {
        Self {
            mls_only: config.mls_only,
            runs: Arena::new(config.arena),
        }
    }
}

/// A message to pass on.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'m> {
    /// As it came.
    message: &'m [u8],
    /// Set where its header is to be changed.
    envelope: Option<Envelope<'m>>,
}

impl Dialect for PubSub {
    type Link = ();
    type Letter<'m> = Letter<'m>;
    const GREETS: bool = false;

    fn open(&mut self) -> Self::Link {}

    #[inline]
    fn read<'m>(&mut self, (): &mut Self::Link, message: &'m [u8]) -> Said<Letter<'m>> {
        if message.len() > GRPC_MESSAGE_BYTES_MAX {
            return Said::Ignored(Ignored::Oversize);
        }
        said(message, self.mls_only).unwrap_or(Said::Ignored(Ignored::Malformed))
    }

    fn form((): &Self::Link) -> Form {
        Form::Shared
    }

    fn acknowledge(&mut self, _: u64, _: Result<(), &'static str>, _: &mut BytesMut) {}

    #[inline]
    fn append(&mut self, letter: &Letter<'_>) {
        let Some(envelope) = &letter.envelope else {
            let out = self.runs.reserve(PREFIX_BYTES + letter.message.len());
            put_prefix(letter.message.len(), out);
            out.extend_from_slice(letter.message);
            return;
        };
        let kept = raw_fields(&HEADER, envelope.header.unwrap_or_default())
            .filter(|(number, _)| !matches!(*number, schema::RECV_FROM | schema::FORWARD_TO));
        let header_len = kept.clone().map(|(_, field)| field.len()).sum();
        let len = envelope.len_with(header_len);
        let out = self.runs.reserve(PREFIX_BYTES + len);
        put_prefix(len, out);
        envelope.put_head(header_len, out);
        kept.for_each(|(_, field)| out.extend_from_slice(field));
        envelope.put_tail(out);
    }

    fn pending(&self) -> usize {
        self.runs.pending()
    }

    fn take(&mut self) -> Bytes {
        self.runs.take()
    }

    fn shared(&mut self, run: &Bytes) -> Bytes {
        run.clone()
    }

    #[inline]
    fn first_len(_: Form, run: &[u8]) -> usize {
        frame_len(run)
    }

    fn render(&mut self, (): &mut Self::Link, run: &Bytes, messages: u32, _: usize) -> Rendered {
        debug_assert!(false, "every connection shares its runs");
        Rendered {
            bytes: run.clone(),
            rest: Bytes::new(),
            used: run.len(),
            messages,
        }
    }
}

/// What routing needs of a header.
#[derive(Debug, Default)]
struct Routing {
    source: Option<Agent>,
    destination: Option<Agent>,
    fanout: u32,
    /// It has fields of the in-process leg.
    is_tainted: bool,
}

/// A name as it is sent. The id of any instance is absent or all ones.
#[derive(Debug, Default, Clone, Copy)]
struct Agent {
    components: [u64; 3],
    id: Option<u64>,
}

impl Agent {
    fn name(&self) -> Name {
        Name {
            components: self.components,
            instance: match self.id {
                None | Some(u64::MAX) => ANY,
                Some(id) => u128::from(id),
            },
        }
    }
}

fn said(message: &[u8], mls_only: bool) -> Result<Said<Letter<'_>>, DecodeError> {
    let mut envelope = Envelope::open(&MESSAGE, schema::KINDS, message)?;
    let shape: &'static Shape = match envelope.kind {
        schema::PUBLISH_KIND => &PUBLISH,
        _ => &SUBSCRIBE,
    };
    let seen = envelope.open_body(shape)?;
    let missing = |number| Fields::new(&shape.schema, &[]).fault(number, Rule::Missing);
    let header = routing(envelope.header.ok_or_else(|| missing(1))?)?;
    let (Some(source), Some(destination)) = (header.source, header.destination) else {
        return Err(missing(1));
    };
    let name = destination.name();
    Ok(match envelope.kind {
        schema::SUBSCRIBE_KIND => Said::Subscribe {
            name,
            subscription: 0,
        },
        schema::UNSUBSCRIBE_KIND => Said::Unsubscribe {
            name,
            subscription: 0,
        },
        _ => {
            if seen & 1 << schema::SESSION == 0 {
                return Err(missing(schema::SESSION));
            }
            if source.id.is_none() {
                // A client that gets a message from nobody in particular breaks.
                return Err(missing(1));
            }
            if mls_only && !has_mls_payload(envelope.body)? {
                return Ok(Said::Ignored(Ignored::NotMls));
            }
            Said::Publish(Publish {
                to: name,
                fanout: match header.fanout {
                    1 => Fanout::One,
                    _ => Fanout::All,
                },
                letter: Letter {
                    message,
                    envelope: header.is_tainted.then_some(envelope),
                },
            })
        }
    })
}

/// Whether what an application sends in this publish, if anything, is MLS.
fn has_mls_payload(publish: &[u8]) -> Result<bool, DecodeError> {
    let mut contents = Fields::new(&PUBLISH.schema, publish);
    while let Some(content) = contents.next()? {
        if content.number != schema::MSG {
            continue;
        }
        let mut fields = Fields::new(&CONTENT.schema, content.bytes);
        while let Some(field) = fields.next()? {
            let is_blob = field.number == schema::BLOB && !field.bytes.is_empty();
            if is_blob && !mls::is_private_application(field.bytes) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn routing(header: &[u8]) -> Result<Routing, DecodeError> {
    let mut routing = Routing::default();
    let mut fields = Fields::new(&HEADER, header);
    while let Some(field) = fields.next()? {
        match field.number {
            1 if routing.source.is_some() => return Err(fields.fault(1, Rule::Repeated)),
            1 => routing.source = Some(agent(field.bytes)?),
            2 if routing.destination.is_some() => return Err(fields.fault(2, Rule::Repeated)),
            2 => routing.destination = Some(agent(field.bytes)?),
            3 => routing.fanout = field.varint as u32,
            schema::RECV_FROM | schema::FORWARD_TO => routing.is_tainted = true,
            _ => {}
        }
    }
    Ok(routing)
}

fn agent(bytes: &[u8]) -> Result<Agent, DecodeError> {
    let mut agent = Agent::default();
    let mut fields = Fields::new(&AGENT, bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            number @ 1..=3 => agent.components[number as usize - 1] = field.varint,
            4 => agent.id = Some(field.varint),
            _ => {}
        }
    }
    Ok(agent)
}
