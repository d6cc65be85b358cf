//! A small dialect: as much of one as the switch can tell. Half of its links have messages of their own form.
#![allow(dead_code, reason = "each test file uses its own part")]

use bytes::{BufMut, Bytes, BytesMut};
use ringgate_switch::{ANY, Client, Dialect, End, Fanout, Form, Ignored, Name, Publish, Rendered, Said};

/// What a client says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Say {
    /// Who it is; 0: unknown. Messages in its own form or not.
    Greet {
        link: u8,
        node: u8,
        own: bool,
    },
    Subscribe(u8, u8, u64),
    Unsubscribe(u8, u8, u64),
    /// To a name, from a sender, with a number, and so many bytes more.
    Publish {
        to: (u8, u8),
        one: bool,
        sender: u32,
        number: u32,
        padding: u16,
    },
    Nonsense,
}

/// The instance that means any.
pub(crate) const ANY_INSTANCE: u8 = u8::MAX;

impl Say {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Say::Greet { link, node, own } => out.extend([0, link, node, u8::from(own)]),
            Say::Subscribe(kind, instance, number) => {
                out.extend([1, kind, instance]);
                out.put_u64(number);
            }
            Say::Unsubscribe(kind, instance, number) => {
                out.extend([2, kind, instance]);
                out.put_u64(number);
            }
            Say::Publish {
                to: (kind, instance),
                one,
                sender,
                number,
                padding,
            } => {
                out.extend([3, kind, instance, u8::from(one)]);
                out.put_u32(sender);
                out.put_u32(number);
                out.resize(out.len() + usize::from(padding), 0);
            }
            Say::Nonsense => out.push(9),
        }
        out
    }
}

/// What a client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Hello,
    Ack(u64, bool),
    Message { sender: u32, number: u32 },
}

/// Takes the first message off what a client received; `None` where it is not all there yet.
pub(crate) fn hear(received: &mut Vec<u8>, own: bool) -> Option<Heard> {
    let len = u32::from_be_bytes(received.get(1..5)?.try_into().unwrap()) as usize;
    if received.len() < 5 + len {
        return None;
    }
    let message: Vec<u8> = received.drain(..5 + len).skip(5).collect();
    let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
    Some(match message[0] {
        b'H' => Heard::Hello,
        b'A' => Heard::Ack(u64::from(word(1)) << 32 | u64::from(word(5)), message[9] == 1),
        b'M' => {
            assert_eq!(
                message.last() == Some(&b'!'),
                own,
                "each form as it was asked for"
            );
            Heard::Message {
                sender: word(1),
                number: word(5),
            }
        }
        other => panic!("{other}"),
    })
}

/// See the module.
#[derive(Default)]
pub(crate) struct Toy {
    run: BytesMut,
}

#[derive(Default)]
pub(crate) struct Link {
    is_own: bool,
    is_ready: bool,
}

pub(crate) fn name(kind: u8, instance: u8) -> Name {
    Name {
        components: [1, 2, kind.into()],
        instance: match instance {
            ANY_INSTANCE => ANY,
            instance => instance.into(),
        },
    }
}

fn put_frame(payload: &[&[u8]], out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(payload.iter().map(|part| part.len()).sum::<usize>() as u32);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

/// A record is a length of two bytes, and a message.
fn record(run: &[u8]) -> &[u8] {
    &run[2..2 + usize::from(u16::from_be_bytes([run[0], run[1]]))]
}

impl Dialect for Toy {
    type Link = Link;
    type Letter<'m> = &'m [u8];
    const GREETS: bool = true;

    fn open(&mut self) -> Link {
        Link::default()
    }

    fn read<'m>(&mut self, link: &mut Link, message: &'m [u8]) -> Said<&'m [u8]> {
        let subscription = || u64::from_be_bytes(message[3..11].try_into().unwrap());
        match message {
            [0, named, node, own] if !link.is_ready => {
                (link.is_ready, link.is_own) = (true, *own == 1);
                let text = |id: u8| if id == 0 { String::new() } else { id.to_string() };
                let mut reply = BytesMut::new();
                put_frame(&[b"H"], &mut reply);
                Said::Greeted {
                    reply: reply.freeze(),
                    client: Client {
                        link: text(*named),
                        node: text(*node),
                        node_is_unique: *node != 0,
                    },
                }
            }
            _ if !link.is_ready => Said::End(End::Orderly),
            [1, kind, instance, ..] => Said::Subscribe {
                name: name(*kind, *instance),
                subscription: subscription(),
            },
            [2, kind, instance, ..] => Said::Unsubscribe {
                name: name(*kind, *instance),
                subscription: subscription(),
            },
            [3, kind, instance, one, letter @ ..] => Said::Publish(Publish {
                to: name(*kind, *instance),
                fanout: if *one == 1 { Fanout::One } else { Fanout::All },
                letter,
            }),
            _ => Said::Ignored(Ignored::Malformed),
        }
    }

    fn form(link: &Link) -> Form {
        if link.is_own { Form::Own } else { Form::Shared }
    }

    fn acknowledge(&mut self, subscription: u64, result: Result<(), &'static str>, out: &mut BytesMut) {
        put_frame(
            &[b"A", &subscription.to_be_bytes(), &[u8::from(result.is_ok())]],
            out,
        );
    }

    fn append(&mut self, letter: &&[u8]) {
        self.run.put_u16(letter.len() as u16);
        self.run.extend_from_slice(letter);
    }

    fn pending(&self) -> usize {
        self.run.len()
    }

    fn take(&mut self) -> Bytes {
        self.run.split().freeze()
    }

    fn shared(&mut self, run: &Bytes) -> Bytes {
        let (mut out, mut at) = (BytesMut::new(), 0);
        while at < run.len() {
            let message = record(&run[at..]);
            put_frame(&[b"M", message], &mut out);
            at += 2 + message.len();
        }
        out.freeze()
    }

    fn first_len(form: Form, run: &[u8]) -> usize {
        match form {
            Form::Shared => 5 + u32::from_be_bytes(run[1..5].try_into().unwrap()) as usize,
            Form::Own => 2 + record(run).len(),
        }
    }

    fn render(&mut self, _: &mut Link, run: &Bytes, messages: u32, bytes_max: usize) -> Rendered {
        let (mut out, mut used, mut taken) = (BytesMut::new(), 0, 0);
        while taken < messages {
            let message = record(&run[used..]);
            if taken > 0 && out.len() + message.len() + 7 > bytes_max {
                break;
            }
            put_frame(&[b"M", message, b"!"], &mut out);
            used += 2 + message.len();
            taken += 1;
        }
        // The end of a long message is shared.
        let rest = match out.len() > 100 {
            true => out.split_off(out.len() - 20).freeze(),
            false => Bytes::new(),
        };
        Rendered {
            bytes: out.freeze(),
            rest,
            used,
            messages: taken,
        }
    }
}
