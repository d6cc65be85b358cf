//! Message encodings: as is, or gzip (RFC 1952).

use std::io::{Read as _, Write as _};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};

/// How the messages of one direction of a call may be encoded. Each message says for itself whether it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As is.
    #[default]
    Identity,
    /// gzip, RFC 1952: one member for each message.
    Gzip,
}

impl Encoding {
    /// What this end understands, as `grpc-accept-encoding` says it.
    pub const ACCEPTED: &'static str = "identity,gzip";

    /// The name in `grpc-encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }

    /// The encoding of a name; `None` if this end does not understand it.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Identity, Self::Gzip]
            .into_iter()
            .find(|encoding| encoding.name().as_bytes() == name)
    }

    /// Whether a `grpc-accept-encoding` value, a list with commas, has this encoding in it.
    pub fn is_in(self, accepted: &[u8]) -> bool {
        accepted
            .split(|byte| *byte == b',')
            .any(|name| name.trim_ascii() == self.name().as_bytes())
    }
}

/// Why a message could not be decompressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// Stopped at the limit: what comes after it is not known.
    #[error("decompressed message is over the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u32,
    },
    /// Not gzip, cut short, or damaged.
    #[error("message is not valid gzip: {0}")]
    Invalid(#[from] std::io::Error),
    /// A message is one gzip member and no more.
    #[error("message has {0} bytes behind its gzip data")]
    Trailing(usize),
}

/// What a gzip member holds, if that is no more than `bytes_max`. Work and memory end at the limit, whatever the input claims
/// to expand to.
pub fn decompress(compressed: &[u8], bytes_max: u32) -> Result<Vec<u8>, DecompressError> {
    let mut decoder = GzDecoder::new(compressed);
    let mut message = Vec::new();
    // One byte beyond the limit tells "at it" from "over it".
    decoder
        .by_ref()
        .take(u64::from(bytes_max) + 1)
        .read_to_end(&mut message)?;
    if message.len() > bytes_max as usize {
        return Err(DecompressError::TooLarge { bytes_max });
    }
    match decoder.into_inner().len() {
        0 => Ok(message),
        trailing => Err(DecompressError::Trailing(trailing)),
    }
}

/// A message as a gzip member. Favours speed over size.
pub fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(message)
        .and_then(|()| encoder.finish())
        .expect("a Vec takes every write")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(Encoding::from_name(b"gzip"), Some(Encoding::Gzip));
        assert_eq!(Encoding::from_name(b"identity"), Some(Encoding::Identity));
        assert_eq!(Encoding::from_name(b"deflate"), None);
        assert_eq!(Encoding::from_name(b"GZIP"), None);
        assert!(Encoding::Gzip.is_in(b"identity, deflate, gzip"));
        assert!(!Encoding::Gzip.is_in(b"identity,x-gzip"));
        assert!(Encoding::Gzip.is_in(Encoding::ACCEPTED.as_bytes()));
    }

    #[test]
    fn every_message_comes_back() {
        bolero::check!().for_each(|message: &[u8]| {
            let got = decompress(&compress(message), message.len() as u32).expect("own gzip");
            assert_eq!(got, message);
        });
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = compress(&vec![0; 8 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert!(matches!(
            decompress(&bomb, 1 << 20),
            Err(DecompressError::TooLarge { bytes_max: 0x10_0000 })
        ));
    }

    #[test]
    fn damage_is_found() {
        let whole = compress(b"some message");
        for len in 0..whole.len() {
            assert!(
                matches!(decompress(&whole[..len], 100), Err(DecompressError::Invalid(_))),
                "cut at {len}"
            );
        }
        let mut wrong_checksum = whole.clone();
        wrong_checksum[whole.len() - 8] ^= 1;
        assert!(matches!(
            decompress(&wrong_checksum, 100),
            Err(DecompressError::Invalid(_))
        ));
        let two = [&whole[..], &whole[..]].concat();
        assert!(matches!(decompress(&two, 100), Err(DecompressError::Trailing(_))));
    }
}
