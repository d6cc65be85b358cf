//! The code that authenticates a header on one link: HMAC-SHA256 over a preimage that begins with the link's id
//! (`../shared/wire/slim-wire.md`, section 3).
//!
//! ```text
//!   preimage = prefix (the link's: 19 bytes and its id) ‖ tail (the message's, the same on every link)
//! ```
//!
//! A delivery costs one code for each subscriber. So all that depends on the link alone is hashed once (RFC 2104, section 4), and the tail,
//! built once for each message, is hashed in place.

use std::slice;

use hkdf::Hkdf;
use sha2::Sha256;
use sha2::block_api::compress256;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of a code.
pub(super) const TAG_BYTES: usize = 32;

/// Bytes that SHA-256 hashes at a time (FIPS 180-4).
const BLOCK_BYTES: usize = 64;
/// Bytes of the length behind what is hashed.
const LENGTH_BYTES: usize = 8;
/// The state that SHA-256 begins with (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// What a preimage begins with, before the link's id.
const DOMAIN: &[u8; 15] = b"SLIM-DP-HDR-v1\0";
const KEY_INFO: &[u8] = b"SLIM-DP-inter-node-hmac-v1";
/// The same for a key that is post-quantum hybrid.
const HYBRID_KEY_INFO: &[u8] = b"SLIM-DP-inter-node-hmac-v1-pq";

/// The key of a link, as far as it can be hashed before a message is known.
#[derive(Clone)]
pub(super) struct HeaderKey {
    /// After the inner key and the whole blocks of the prefix.
    inner: [u32; 8],
    /// After the outer key.
    outer: [u32; 8],
    /// The end of the prefix that fills no block, and zeros.
    begun: [u8; BLOCK_BYTES],
    /// How much of `begun` is filled.
    begun_len: usize,
    /// Bytes hashed into `inner`.
    hashed: u64,
}

impl std::fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeaderKey").finish_non_exhaustive()
    }
}

impl HeaderKey {
    /// The key that two ends agree on. `None` where the peer's public key is of low order: the key would be known to everybody.
    pub(super) fn agree(
        link_id: &str,
        secret: &StaticSecret,
        peer: &PublicKey,
        kem_secret: Option<&[u8; 32]>,
    ) -> Option<Self> {
        let shared = secret.diffie_hellman(peer);
        shared
            .was_contributory()
            .then(|| Self::new(link_id, &link_key(link_id, &shared, kem_secret)))
    }

    /// For the link `link_id`, whose key is `key`.
    fn new(link_id: &str, key: &[u8; 32]) -> Self {
        let mut prefix = Vec::with_capacity(DOMAIN.len() + 4 + link_id.len());
        prefix.extend_from_slice(DOMAIN);
        prefix.extend_from_slice(&(link_id.len() as u32).to_le_bytes());
        prefix.extend_from_slice(link_id.as_bytes());

        let mut inner = keyed(key, 0x36);
        let (blocks, rest) = prefix.as_chunks();
        compress256(&mut inner, blocks);
        let mut begun = [0; BLOCK_BYTES];
        begun[..rest.len()].copy_from_slice(rest);
        Self {
            inner,
            outer: keyed(key, 0x5c),
            begun,
            begun_len: rest.len(),
            hashed: (BLOCK_BYTES + prefix.len() - rest.len()) as u64,
        }
    }

    /// The code for a header with this tail.
    #[inline]
    pub(super) fn tag(&self, tail: &[u8]) -> [u8; TAG_BYTES] {
        let [tag] = self.tags([tail]);
        tag
    }

    /// The codes for headers with these tails. Their blocks take turns: what a round of SHA-256 waits for is its own last round, and the
    /// processor works on another header meanwhile.
    pub(super) fn tags<const N: usize>(&self, tails: [&[u8]; N]) -> [[u8; TAG_BYTES]; N] {
        let lanes = tails.map(|tail| Lane::new(self, tail));
        let longest = lanes.iter().map(Lane::len).max().unwrap_or(0);
        let mut states = [self.inner; N];
        for at in 0..longest {
            for (state, lane) in states.iter_mut().zip(&lanes) {
                if let Some(block) = lane.block(at) {
                    compress256(state, slice::from_ref(block));
                }
            }
        }
        let digests = states.map(|state| {
            let mut block = [0; BLOCK_BYTES];
            block[..TAG_BYTES].copy_from_slice(&bytes_of(&state));
            end(&mut block, TAG_BYTES, (BLOCK_BYTES + TAG_BYTES) as u64);
            block
        });
        let mut states = [self.outer; N];
        for (state, digest) in states.iter_mut().zip(&digests) {
            compress256(state, slice::from_ref(digest));
        }
        states.map(|state| bytes_of(&state))
    }

    /// Whether `tag` is the code for a header with this tail. Takes the same time wherever they differ.
    #[inline]
    pub(super) fn verify(&self, tail: &[u8], tag: &[u8]) -> bool {
        let difference = self
            .tag(tail)
            .iter()
            .zip(tag)
            .fold(0, |difference, (own, sent)| difference | (own ^ sent));
        tag.len() == TAG_BYTES && std::hint::black_box(difference) == 0
    }
}

/// The key of a link (HKDF, RFC 5869).
fn link_key(link_id: &str, shared: &SharedSecret, kem_secret: Option<&[u8; 32]>) -> Zeroizing<[u8; 32]> {
    let mut material = Zeroizing::new([0; 64]);
    material[..32].copy_from_slice(shared.as_bytes());
    let (material, info) = match kem_secret {
        None => (&material[..32], KEY_INFO),
        Some(secret) => {
            material[32..].copy_from_slice(secret);
            (&material[..], HYBRID_KEY_INFO)
        }
    };
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(link_id.as_bytes()), material)
        .expand(info, &mut *key)
        .expect("one block is no more than HKDF gives");
    key
}

/// The state after a key's block.
fn keyed(key: &[u8; 32], pad: u8) -> [u32; 8] {
    let mut block = [pad; BLOCK_BYTES];
    block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    let mut state = INITIAL;
    compress256(&mut state, &[block]);
    state
}

/// The blocks of one header's preimage, behind those that are the link's.
struct Lane<'t> {
    /// Where the link's bytes end and the tail begins, unless the tail does not fill it.
    first: Option<[u8; BLOCK_BYTES]>,
    middle: &'t [[u8; BLOCK_BYTES]],
    /// The end of the preimage, and how many bytes were hashed.
    last: [[u8; BLOCK_BYTES]; 2],
    last_len: usize,
}

impl<'t> Lane<'t> {
    #[inline]
    fn new(key: &HeaderKey, tail: &'t [u8]) -> Self {
        let begun = &key.begun[..key.begun_len];
        let (first, middle, rest) = match tail.split_at_checked(BLOCK_BYTES - begun.len()) {
            None => (None, &[][..], tail),
            Some((head, after)) => {
                let mut first = key.begun;
                first[begun.len()..].copy_from_slice(head);
                let (middle, rest) = after.as_chunks();
                (Some(first), middle, rest)
            }
        };
        let mut last = [[0; BLOCK_BYTES]; 2];
        let mut filled = 0;
        if first.is_none() {
            last[0][..begun.len()].copy_from_slice(begun);
            filled = begun.len();
        }
        last[0][filled..filled + rest.len()].copy_from_slice(rest);
        filled += rest.len();
        let bytes = key.hashed + (begun.len() + tail.len()) as u64;
        let last_len = end(last.as_flattened_mut(), filled, bytes);
        Self {
            first,
            middle,
            last,
            last_len,
        }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.middle.len() + self.last_len
    }

    #[inline]
    fn block(&self, at: usize) -> Option<&[u8; BLOCK_BYTES]> {
        let at = match &self.first {
            Some(first) if at == 0 => return Some(first),
            Some(_) => at - 1,
            None => at,
        };
        match at.checked_sub(self.middle.len()) {
            None => Some(&self.middle[at]),
            Some(at) => self.last[..self.last_len].get(at),
        }
    }
}

/// Ends what is hashed behind the first `len` bytes of zeroed blocks: `bytes` were hashed in all (FIPS 180-4, section 5.1.1). Returns how
/// many blocks it took.
#[inline]
fn end(blocks: &mut [u8], len: usize, bytes: u64) -> usize {
    let count = (len + LENGTH_BYTES) / BLOCK_BYTES + 1;
    blocks[len] = 0x80;
    blocks[count * BLOCK_BYTES - LENGTH_BYTES..count * BLOCK_BYTES]
        .copy_from_slice(&(bytes * 8).to_be_bytes());
    count
}

#[inline]
fn bytes_of(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (chunks, _) = bytes.as_chunks_mut();
    for (chunk, word) in chunks.iter_mut().zip(state) {
        *chunk = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

    use super::super::header::Header;
    use super::*;

    const LINK_ID: &str = "00000000-0000-4000-8000-000000000001";
    const HEADER: &str = "0a490a3508bbacaab7b780969f870110d1a1a6e3a4d3ddfcee011882e3daadfa91afc87b221308ef9bafcdf8acd1910110f7\
        ccd5a2b4c6c80812100a036f726712026e731a05616c696365124a0a3808bbacaab7b780969f870110d1a1a6e3a4d3ddfcee\
        0118c4e795d7b7e886d749221608ffffffffffffffffff0110ffffffffffffffffff01120e0a036f726712026e731a03626f\
        621a03746f6b20012a05332e342e36300848015a200477579993fc9c3fb3486fb8a2d7880eb58b017d961b3b440a9270f5f3\
        f759c3";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| digit.to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn secret(first: u8) -> StaticSecret {
        StaticSecret::from(std::array::from_fn(|at| first + at as u8))
    }

    /// The vector of `../shared/wire/slim-wire.md`, section 3.
    #[test]
    fn the_vector_of_the_wire_notes() {
        let (one, other) = (secret(0), secret(0x20));
        let shared = one.diffie_hellman(&PublicKey::from(&other));
        let expected = "2a22056d2c4f3841d73d7a2ed00475036f0ce26305e37627ec4771dec45cad9a";
        assert_eq!(&link_key(LINK_ID, &shared, None)[..], hex(expected));

        let header = hex(HEADER);
        let header = Header::read(&header).unwrap();
        let mut tail = BytesMut::new();
        header.put_tail(&mut tail);
        assert_eq!(DOMAIN.len() + 4 + LINK_ID.len() + tail.len(), 203);
        for (own, peer) in [(&one, &other), (&other, &one)] {
            let key = HeaderKey::agree(LINK_ID, own, &PublicKey::from(peer), None).unwrap();
            assert!(key.verify(&tail, header.mac.unwrap()));
            assert!(!key.verify(&tail[1..], header.mac.unwrap()));
            assert!(!key.verify(&tail, &[]));
        }
    }

    #[test]
    fn a_public_key_of_low_order_is_refused() {
        for low in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
            assert!(HeaderKey::agree(LINK_ID, &secret(0), &PublicKey::from(low), None).is_none());
        }
    }

    proptest! {
        /// Against the `hmac` crate, over all ways in which prefix and tail can lie in blocks.
        #[test]
        fn a_code_is_hmac_sha256(
            key: [u8; 32],
            link_id in "[a-z0-9]{1,150}",
            tail in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut oracle = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            oracle.update(DOMAIN);
            oracle.update(&(link_id.len() as u32).to_le_bytes());
            oracle.update(link_id.as_bytes());
            oracle.update(&tail);
            prop_assert_eq!(&HeaderKey::new(&link_id, &key).tag(&tail)[..], &oracle.finalize().into_bytes()[..]);
        }

        /// Headers of other lengths beside it change nothing.
        #[test]
        fn codes_made_together_are_those_made_alone(
            key: [u8; 32],
            link_id in "[a-z0-9]{1,150}",
            tails: [Vec<u8>; 4],
        ) {
            let key = HeaderKey::new(&link_id, &key);
            let tails = tails.each_ref().map(Vec::as_slice);
            prop_assert_eq!(key.tags(tails), tails.map(|tail| key.tag(tail)));
        }
    }
}
