//! Header blocks written by other encoders decode to what they meant.
//!
//! The vectors lie outside the project (`shared/vectors/hpack` beside its root); without them there is nothing to test.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use ringgate_http2::Header;
use ringgate_http2::hpack::{Decoder, Encoder};
use serde_json::Value;

type Fields = Vec<(String, String)>;

fn stories() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/vectors/hpack");
    let Ok(encoders) = std::fs::read_dir(&root) else {
        eprintln!("skipped: {} is not there", root.display());
        return Vec::new();
    };
    let folders = encoders.filter_map(|entry| std::fs::read_dir(entry.unwrap().path()).ok());
    folders.flatten().map(|entry| entry.unwrap().path()).collect()
}

fn fields(case: &Value) -> Fields {
    let headers = case["headers"].as_array().unwrap().iter();
    headers
        .flat_map(|header| header.as_object().unwrap())
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Fields {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    decoder
        .decode(block, |header| {
            fields.push((text(header.name), text(header.value)))
        })
        .unwrap();
    fields
}

#[test]
fn stories_of_other_encoders_are_understood() {
    let mut blocks = 0;
    for path in stories() {
        let story: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        // A story may change the size of the table, which its decoder would have announced.
        let mut decoder = Decoder::new(4096);
        for case in story["cases"].as_array().unwrap() {
            if let Some(size) = case["header_table_size"].as_u64() {
                decoder.set_size_bound(size as usize);
            }
            let block = bytes(case["wire"].as_str().unwrap());
            assert_eq!(
                decode(&mut decoder, &block),
                fields(case),
                "{} case {}",
                path.display(),
                case["seqno"]
            );
            blocks += 1;
        }
    }
    eprintln!("{blocks} header blocks");
}

#[test]
fn stories_survive_our_encoder() {
    for path in stories() {
        let story: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for huffman in [false, true] {
            let (mut encoder, mut decoder) = (Encoder::new(huffman), Decoder::new(4096));
            for case in story["cases"].as_array().unwrap() {
                let fields = fields(case);
                let headers: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
                    .collect();
                let mut block = BytesMut::new();
                encoder.encode(&headers, &mut block);
                assert_eq!(
                    decode(&mut decoder, &block),
                    fields,
                    "{} case {}",
                    path.display(),
                    case["seqno"]
                );
            }
        }
    }
}
