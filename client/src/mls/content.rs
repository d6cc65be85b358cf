//! What is encrypted, and what is bound to it.
//!
//! The authenticated data of each message is a digest of the way it goes: what it is, and where it was sent. It is 32 bytes whatever
//! the way, so that it says nothing to who looks on; a receiver computes it anew from what the gateway told and compares. So a gateway
//! cannot pass a message off as another's, deliver it on another topic, or answer one request with the answer to another.

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::GroupError;
use crate::Headers;

/// What is encrypted: a payload with its headers, which on a protected way do not travel beside it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Content {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) payload: Bytes,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) headers: Headers,
    /// The last of a stream: what ends without it was cut off.
    #[prost(bool, tag = "3")]
    pub(super) end: bool,
    /// It says nothing, and is there to be seen by who looks on.
    #[prost(bool, tag = "4")]
    pub(super) cover: bool,
}

impl Content {
    pub(super) fn encode(payload: Bytes, headers: Headers) -> Vec<u8> {
        Content {
            payload,
            headers,
            ..Content::default()
        }
        .encode_to_vec()
    }

    pub(super) fn end() -> Vec<u8> {
        Content {
            end: true,
            ..Content::default()
        }
        .encode_to_vec()
    }

    pub(super) fn cover() -> Vec<u8> {
        Content {
            cover: true,
            ..Content::default()
        }
        .encode_to_vec()
    }

    pub(super) fn read(bytes: Vec<u8>) -> Result<Content, GroupError> {
        Content::decode(Bytes::from(bytes))
            .map_err(|_| GroupError::Library("the content cannot be read".to_owned()))
    }
}

/// The way that a message goes.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// Published to a topic.
    Topic(&'a str),
    /// A request to a target, as `agent:…`, `service:…`, `capability:…` or `channel:…`.
    Request(&'a str),
    /// The response to a request, by the request's ciphertext.
    Response(&'a [u8]),
    /// A chunk of a stream: the stream's tag, which way it goes, and its place.
    Chunk {
        /// 16 random bytes that the opener drew.
        tag: &'a [u8],
        /// Whether the opener sends it.
        from_opener: bool,
        /// Counts from 1 each way.
        sequence: u64,
    },
    /// The payload of an introduction to a target.
    Introduction(&'a str),
    /// The answer to an introduction, by the introduction's ciphertext.
    Acceptance(&'a [u8]),
    /// Something of the application's own, by a name and what it says.
    Other(&'a str, &'a [u8]),
}

impl Route<'_> {
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(b"ringgate route 1");
        let sequence_bytes;
        let parts: [&[u8]; 3] = match *self {
            Route::Topic(topic) => [b"topic", topic.as_bytes(), b""],
            Route::Request(target) => [b"request", target.as_bytes(), b""],
            Route::Response(request) => [b"response", request, b""],
            Route::Introduction(target) => [b"introduction", target.as_bytes(), b""],
            Route::Acceptance(introduction) => [b"acceptance", introduction, b""],
            Route::Chunk {
                tag,
                from_opener,
                sequence,
            } => {
                sequence_bytes = sequence.to_be_bytes();
                let way: &[u8] = if from_opener {
                    b"chunk of the opener"
                } else {
                    b"chunk of the acceptor"
                };
                [way, tag, &sequence_bytes]
            }
            Route::Other(name, what) => [b"other", name.as_bytes(), what],
        };
        parts.into_iter().for_each(&mut part);
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_digest_of_its_own() {
        let chunk = |from_opener, sequence| Route::Chunk {
            tag: b"tag",
            from_opener,
            sequence,
        };
        let ways = [
            Route::Topic("a"),
            Route::Topic("b"),
            Route::Request("a"),
            Route::Introduction("a"),
            Route::Response(b"a"),
            Route::Acceptance(b"a"),
            chunk(true, 1),
            chunk(false, 1),
            chunk(true, 2),
            Route::Other("a", b""),
            Route::Other("", b"a"),
        ];
        let digests: std::collections::BTreeSet<_> = ways.iter().map(Route::digest).collect();
        assert_eq!(digests.len(), ways.len());
    }
}
