//! HPACK on arbitrary input: the decoder never panics, and what is encoded decodes to itself.

use bytes::BytesMut;
use ringgate_http2::hpack::{Decoder, Encoder};
use ringgate_http2::{Header, HeaderList};

#[test]
fn any_blocks_to_the_decoder() {
    bolero::check!().for_each(|input: &[u8]| {
        let mut decoder = Decoder::new(256);
        // Several blocks, so that the table of one is used by the next.
        for block in input.chunks(1 + input.len() / 3) {
            let mut bytes = 0;
            let result = decoder.decode(block, |header| bytes += header.name.len() + header.value.len());
            // Each byte may refer to an entry of the table; a Huffman string is at most 8/5 of its code.
            assert!(bytes <= block.len() * 256);
            if result.is_err() {
                return;
            }
        }
    });
}

#[test]
fn what_is_encoded_decodes_to_itself() {
    bolero::check!()
        .with_type::<(bool, Vec<(Vec<u8>, Vec<u8>)>)>()
        .for_each(|(huffman, fields)| {
            let name = |bytes: &[u8]| {
                if bytes.is_empty() {
                    b"x".to_vec()
                } else {
                    bytes.to_ascii_lowercase()
                }
            };
            let named: Vec<_> = fields.iter().map(|(bytes, value)| (name(bytes), value)).collect();
            let headers: Vec<_> = named
                .iter()
                .map(|(name, value)| Header::new(name, value))
                .collect();
            let mut block = BytesMut::new();
            Encoder::new(*huffman).encode(&headers, &mut block);
            let mut decoded = HeaderList::new();
            Decoder::new(4096)
                .decode(&block, |header| decoded.push(header.name, header.value))
                .unwrap();
            assert_eq!(decoded.iter().collect::<Vec<_>>(), headers);
        });
}
