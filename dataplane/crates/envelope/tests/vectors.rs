//! The header parser against the working group's vectors (MLS.md §3, T1 to T4 and T14).
//!
//! The vectors lie outside the project (`shared/vectors/mls` beside its root); without them there is nothing to test.

use std::path::{Path, PathBuf};

use ringgate_envelope::{
    AUTHENTICATED_DATA_BYTES_MAX, CIPHERTEXT_BYTES_MIN, Content, Fault, GROUP_ID_BYTES_MAX, Window, Windows,
    application, handshake,
};
use serde_json::Value;

fn vectors(name: &str) -> Option<Value> {
    let candidates = [
        std::env::var_os("RINGGATE_VECTORS").map(PathBuf::from),
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/vectors/mls")),
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../../shared/vectors/mls")),
    ];
    let text = candidates
        .into_iter()
        .flatten()
        .find_map(|folder| std::fs::read_to_string(folder.join(name)).ok());
    match text {
        Some(text) => Some(serde_json::from_str(&text).expect("JSON")),
        None => {
            eprintln!("no vectors here: {name} is not tested");
            None
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex"))
        .collect()
}

fn objects(kind: &str) -> Vec<Vec<u8>> {
    let Some(all) = vectors("messages.json") else {
        return Vec::new();
    };
    let all = all.as_array().expect("a list");
    all.iter().map(|case| bytes(&case[kind])).collect()
}

/// A length as RFC 9420 §2.1.2 writes it.
fn length(length: usize) -> Vec<u8> {
    match length {
        0..0x40 => vec![length as u8],
        0x40..0x4000 => (length as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (length as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

fn private(
    group: &[u8],
    epoch: u64,
    content: u8,
    data: &[u8],
    sender_data: usize,
    ciphertext: usize,
) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 2];
    let opaque = |bytes: &[u8]| [length(bytes.len()), bytes.to_vec()].concat();
    message.extend(opaque(group));
    message.extend(epoch.to_be_bytes());
    message.push(content);
    message.extend(opaque(data));
    message.extend(opaque(&vec![7; sender_data]));
    message.extend(opaque(&vec![9; ciphertext]));
    message
}

#[test]
fn t1_of_the_private_messages_just_the_application_messages_pass() {
    let all = objects("private_message");
    let passed = all.iter().filter(|message| application(message).is_ok()).count();
    let handshakes = all
        .iter()
        .filter(|message| application(message) == Err(Fault::Handshake))
        .count();
    if !all.is_empty() {
        assert_eq!((all.len(), passed, handshakes), (300, 102, 198));
        let commits = |content| {
            all.iter()
                .filter(|m| handshake(m).is_ok_and(|h| h.content == content))
                .count()
        };
        assert_eq!((commits(Content::Commit), commits(Content::Proposal)), (99, 99));
    }
}

#[test]
fn t2_what_is_legible_is_refused() {
    let framed = |message: Vec<u8>| [vec![0, 1, 0, 1], message].concat();
    for kind in [
        "public_message_application",
        "public_message_proposal",
        "public_message_commit",
    ] {
        for message in objects(kind) {
            assert_eq!(application(&message), Err(Fault::Public), "{kind}");
            // Without its frame it is no MLS message at all.
            assert!(application(&message[4..]).is_err());
            assert_eq!(application(&framed(message)), Err(Fault::Public));
        }
    }
}

#[test]
fn t3_whatever_else_is_refused_with_its_reason() {
    for kind in ["mls_welcome", "mls_group_info", "mls_key_package"] {
        for message in objects(kind) {
            assert_eq!(application(&message), Err(Fault::Handshake), "{kind}");
        }
    }
    for plain in [
        &b"{\"json\": true}"[..],
        b"\x0a\x05hello",
        b"x",
        b"\0",
        b"\0\x01",
        b"\0\x02\0\x02",
        b"\0\x01\x01\x02",
    ] {
        assert_eq!(application(plain), Err(Fault::NotMls), "{plain:?}");
    }
    assert_eq!(application(b""), Err(Fault::Empty));
    for format in [0, 6, 7, 255] {
        assert_eq!(application(&[0, 1, 0, format, 1, 2, 3]), Err(Fault::NotMls));
    }
    let good = private(b"group", 7, 1, b"digest", 28, 200);
    assert_eq!(
        application(&good).map(|message| (message.group, message.epoch)),
        Ok((&b"group"[..], 7))
    );
    for end in 4..good.len() {
        assert_eq!(
            application(&good[..end]),
            Err(Fault::Malformed),
            "cut off at {end}"
        );
    }
    let trailing = [&good[..], &[0]].concat();
    let long_group = vec![1; GROUP_ID_BYTES_MAX + 1];
    for (what, message) in [
        ("a byte behind", trailing),
        ("no group", private(b"", 7, 1, b"", 28, 200)),
        ("a long group", private(&long_group, 7, 1, b"", 28, 200)),
        ("sender data", private(b"group", 7, 1, b"", 27, 200)),
        ("sender data", private(b"group", 7, 1, b"", 29, 200)),
        (
            "a short ciphertext",
            private(b"group", 7, 1, b"", 28, CIPHERTEXT_BYTES_MIN - 1),
        ),
        ("no content", private(b"group", 7, 0, b"", 28, 200)),
        ("another content", private(b"group", 7, 4, b"", 28, 200)),
    ] {
        assert_eq!(application(&message), Err(Fault::Malformed), "{what}");
    }
    let data = vec![b'a'; AUTHENTICATED_DATA_BYTES_MAX + 1];
    let message = private(b"group", 7, 1, &data, 28, 200);
    assert_eq!(application(&message), Err(Fault::AuthenticatedData));
    // A length in more bytes than it takes.
    for wide in [&[0x40, 5][..], &[0x80, 0, 0, 5], &[0xc5]] {
        let message = [&[0, 1, 0, 2], wide, &good[5..]].concat();
        assert_eq!(application(&message), Err(Fault::Malformed), "{wide:?}");
    }
}

#[test]
fn each_length_of_a_length_is_read() {
    for ciphertext in [CIPHERTEXT_BYTES_MIN, 0x3fff, 0x4000, 70_000] {
        let message = private(b"group", u64::MAX, 1, b"", 28, ciphertext);
        let read = application(&message).expect("good");
        assert_eq!((read.epoch, read.ciphertext_bytes), (u64::MAX, ciphertext));
    }
    let cases = vectors("deserialization.json");
    for case in cases.iter().flat_map(|cases| cases.as_array().expect("a list")) {
        let header = bytes(&case["vlbytes_header"]);
        let expected = case["length"].as_u64().expect("a number") as usize;
        assert_eq!(length(expected), header);
    }
}

#[test]
fn every_cipher_suite_frames_alike() {
    let cases = vectors("message-protection.json");
    for case in cases.iter().flat_map(|cases| cases.as_array().expect("a list")) {
        let (group, epoch) = (bytes(&case["group_id"]), case["epoch"].as_u64());
        let message = bytes(&case["application_priv"]);
        let read = application(&message).expect("an application message");
        assert_eq!((read.group, Some(read.epoch)), (&group[..], epoch));
        for (kind, content) in [("proposal", Content::Proposal), ("commit", Content::Commit)] {
            let sealed = bytes(&case[format!("{kind}_priv")]);
            assert_eq!(application(&sealed), Err(Fault::Handshake));
            assert_eq!(handshake(&sealed).map(|read| read.content), Ok(content));
            let public = bytes(&case[format!("{kind}_pub")]);
            assert_eq!(application(&public), Err(Fault::Public));
            assert_eq!(
                handshake(&public).map(|read| (read.content, read.group)),
                Ok((Content::Public, &group[..]))
            );
        }
        assert_eq!(handshake(&message), Err(Fault::NotMls));
    }
}

#[test]
fn t4_any_bytes_are_read_within_their_bounds() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let framed = [&[0, 1, 0, 2], &bytes[..]].concat();
        for payload in [bytes, &framed] {
            if let Ok(message) = application(payload) {
                assert!(message.ciphertext_bytes < payload.len());
                let again = private(message.group, message.epoch, 1, b"", 28, message.ciphertext_bytes);
                assert!(application(&again).is_ok());
            }
            let _ = handshake(payload);
        }
    });
}

#[test]
fn t14_an_epoch_before_the_window_is_refused_and_the_first_in_it_is_not() {
    let mut windows = Windows::default();
    let current = 10;
    let window = Window {
        epoch_min: current - 2,
        padding_bytes: 0,
    };
    windows.set(b"group", window);
    let check = |windows: &Windows, group: &[u8], epoch| {
        windows
            .check(&private(group, epoch, 1, b"", 28, 200))
            .map(|message| message.epoch)
    };
    assert_eq!(check(&windows, b"group", current - 3), Err(Fault::OldEpoch));
    for epoch in [current - 2, current, current + 1] {
        assert_eq!(check(&windows, b"group", epoch), Ok(epoch));
    }
    assert_eq!(check(&windows, b"other", 0), Ok(0));
    windows.set(b"group", Window::default());
    assert!(windows.is_empty());
    assert_eq!(check(&windows, b"group", 0), Ok(0));
}

#[test]
fn padding_is_asked_for_where_a_group_says_so() {
    let mut windows = Windows::default();
    windows.set(
        b"group",
        Window {
            epoch_min: 0,
            padding_bytes: 256,
        },
    );
    for (length, fits) in [(256, true), (512, true), (255, false), (257, false)] {
        let message = private(b"group", 1, 1, b"", 28, length);
        assert_eq!(windows.check(&message).is_ok(), fits, "{length}");
    }
}
