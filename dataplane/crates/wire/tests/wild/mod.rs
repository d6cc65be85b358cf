//! Messages as no library writes them: fields in any order, and fields that nobody knows.

use fastrand::Rng;

/// The fields of a message that is well formed: number and bytes, tag included.
pub(crate) fn fields(mut message: &[u8]) -> Vec<(u32, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let start = message;
        let tag = varint(&mut message);
        let skipped = match tag & 7 {
            0 => {
                varint(&mut message);
                0
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        message = &message[skipped..];
        fields.push(((tag >> 3) as u32, &start[..start.len() - message.len()]));
    }
    fields
}

/// The value of the only field `number` of wire type 2.
pub(crate) fn value(message: &[u8], number: u32) -> &[u8] {
    let fields = fields(message);
    let mut found = fields.iter().filter(|(known, _)| *known == number);
    let (_, mut field) = *found.next().expect("the field is there");
    assert!(found.next().is_none(), "it is there once");
    varint(&mut field);
    let len = varint(&mut field) as usize;
    assert_eq!(len, field.len());
    field
}

fn varint(bytes: &mut &[u8]) -> u64 {
    prost::encoding::decode_varint(bytes).expect("a varint")
}

/// The same message with its fields, those of `path` in it too, in another order and unknown ones among them.
pub(crate) fn scramble(rng: &mut Rng, message: &[u8], path: &[u32]) -> Vec<u8> {
    let mut scrambled: Vec<Vec<u8>> = fields(message)
        .into_iter()
        .map(|(number, field)| match path.split_first() {
            Some((&first, rest)) if first == number => {
                let inner = scramble(rng, value(message, number), rest);
                let mut field = Vec::new();
                sized(&mut field, number, &inner);
                field
            }
            _ => field.to_vec(),
        })
        .collect();
    for _ in 0..rng.usize(..3) {
        scrambled.push(unknown(rng));
    }
    rng.shuffle(&mut scrambled);
    scrambled.concat()
}

fn sized(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, out);
    prost::encoding::encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn unknown(rng: &mut Rng) -> Vec<u8> {
    let number = rng.u32(20..5000);
    let mut out = Vec::new();
    let mut tag =
        |wire_type: u64| prost::encoding::encode_varint(u64::from(number) << 3 | wire_type, &mut out);
    match rng.u8(..4) {
        0 => {
            tag(0);
            prost::encoding::encode_varint(rng.u64(..), &mut out);
        }
        1 => {
            tag(1);
            out.extend_from_slice(&rng.u64(..).to_le_bytes());
        }
        2 => {
            tag(5);
            out.extend_from_slice(&rng.u32(..).to_le_bytes());
        }
        _ => sized(&mut out, number, b"\xff\xfe unknown"),
    }
    out
}
