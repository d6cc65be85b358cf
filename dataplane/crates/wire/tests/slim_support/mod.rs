//! A node of one link at a time, and clients for it.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

pub(crate) mod proto;
pub(crate) mod random;

use ringgate_switch::{Dialect, Form, Said};
use ringgate_wire::slim::client::{AppName, Client, Greeting, TTL};
use ringgate_wire::slim::{Link, LinkKind, Slim, SlimConfig};

pub(crate) use ringgate_switch::End;
pub(crate) use ringgate_wire::slim::client::Publish;

pub(crate) struct Node(pub(crate) Slim);

impl Node {
    pub(crate) fn new(config: SlimConfig) -> Self {
        let mut seed = fastrand::Rng::with_seed(7);
        let secret = move || std::array::from_fn(|_| seed.u8(..));
        Self(Slim::new(config, Box::new(secret)))
    }

    /// The node's answer to a first message, without its prefix.
    pub(crate) fn greet(&mut self, message: &[u8]) -> Result<(Vec<u8>, Link), End> {
        let mut link = self.0.open();
        match self.0.read(&mut link, message) {
            Said::Greeted { reply, .. } => Ok((reply[5..].to_vec(), link)),
            Said::End(end) => Err(end),
            said => panic!("{said:?}"),
        }
    }

    /// Whatever the node makes of a first message.
    pub(crate) fn greet_any(&mut self, message: &[u8]) -> bool {
        let mut link = self.0.open();
        matches!(self.0.read(&mut link, message), Said::Greeted { .. })
    }

    pub(crate) fn connect(&mut self, greeting: &Greeting) -> Result<(Client, Link), End> {
        let (reply, link) = self.greet(&greeting.message())?;
        Ok((greeting.finish(&reply).expect("the reply is accepted"), link))
    }

    pub(crate) fn read<'m>(
        &mut self,
        link: &mut Link,
        message: &'m [u8],
    ) -> Said<<Slim as Dialect>::Letter<'m>> {
        self.0.read(link, message)
    }

    pub(crate) fn form(&self, link: &Link) -> Form {
        Slim::form(link)
    }
}

/// What client number `number` says first.
pub(crate) fn greeting(number: u8) -> Greeting {
    Greeting {
        link_id: format!("00000000-0000-4000-8000-0000000000{number:02x}"),
        node_id: format!("node-{number}"),
        kind: LinkKind::Edge,
        secret: Some([number; 32]),
        kem_seed: None,
    }
}

/// The same without a key.
pub(crate) fn plain(greeting: Greeting) -> Greeting {
    Greeting {
        secret: None,
        ..greeting
    }
}

pub(crate) fn name(kind: &str, instance: u128) -> AppName {
    AppName::new(["org", "ns", kind], Some(instance))
}

pub(crate) fn publish<'a>(from: &'a AppName, to: &'a AppName, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        from,
        to,
        identity: "token",
        fanout: 1,
        ttl: TTL,
        session: 1,
        message: 1,
        payload_type: "msg",
        payload,
    }
}
