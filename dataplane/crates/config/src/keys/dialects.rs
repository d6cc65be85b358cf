//! Keys of the dialects SLIM v3 and AGP 2025. What both have is said once.

use ringgate_switch::SlowReader;

use super::{Duration, Key, MS_MAX, PathBuf, Value};
use crate::dialects::{Allowed, HeaderMac};

fn allowed_value(allowed: Allowed) -> Value {
    match allowed {
        Allowed::Auto => Value::Text("auto".to_owned()),
        Allowed::Yes => Value::Flag(true),
        Allowed::No => Value::Flag(false),
    }
}

fn allowed(value: &Value) -> Result<Allowed, String> {
    match value {
        Value::Text(text) if text == "auto" => Ok(Allowed::Auto),
        Value::Flag(true) => Ok(Allowed::Yes),
        Value::Flag(false) => Ok(Allowed::No),
        _ => Err("\"auto\", true and false are allowed".to_owned()),
    }
}

macro_rules! profile_flag {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| allowed_value(config.$($field).+),
            set: |config, value| {
                config.$($field).+ = allowed(value)?;
                Ok(())
            },
        }
    };
}

fn slow_reader_value(slow_reader: SlowReader) -> Value {
    let text = match slow_reader {
        SlowReader::DropOldest => "drop_oldest",
        SlowReader::DropNewest => "drop_newest",
        SlowReader::Disconnect => "disconnect",
    };
    Value::Text(text.to_owned())
}

fn slow_reader(value: &Value) -> Result<SlowReader, String> {
    match value.text()? {
        "drop_oldest" => Ok(SlowReader::DropOldest),
        "drop_newest" => Ok(SlowReader::DropNewest),
        "disconnect" => Ok(SlowReader::Disconnect),
        _ => Err("\"drop_oldest\", \"drop_newest\" and \"disconnect\" are allowed".to_owned()),
    }
}

fn header_mac_value(header_mac: HeaderMac) -> Value {
    let text = match header_mac {
        HeaderMac::Required => "required",
        HeaderMac::Offered => "offered",
        HeaderMac::Off => "off",
    };
    Value::Text(text.to_owned())
}

fn header_mac(value: &Value) -> Result<HeaderMac, String> {
    match value.text()? {
        "required" => Ok(HeaderMac::Required),
        "offered" => Ok(HeaderMac::Offered),
        "off" => Ok(HeaderMac::Off),
        _ => Err("\"required\", \"offered\" and \"off\" are allowed".to_owned()),
    }
}

macro_rules! text {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::Text(config.$($field).+.clone()),
            set: |config, value| {
                config.$($field).+ = value.text()?.to_owned();
                Ok(())
            },
        }
    };
}

/// The keys that every dialect has, in its section.
macro_rules! dialect {
    ($section:literal, $clients:literal, $plain:literal, $($field:ident).+) => {
        &[
            profile_flag!(
                concat!($section, ".enabled"),
                concat!(
                    "Whether ", $clients, " are served: true, false, or \"auto\": in the profile development only. Once on, what they \
                     may do is bounded by the keys of this section, not by access policies."
                ),
                $($field).+.enabled
            ),
            profile_flag!(
                concat!($section, ".plain_payloads"),
                concat!(
                    "Whether they may send payloads that are not MLS: true, false, or \"auto\": in the profile development only.", $plain
                ),
                $($field).+.plain_payloads
            ),
            Key {
                name: concat!($section, ".slow_reader"),
                doc: "What happens to messages for a client that reads too slowly: \"drop_oldest\" (sessions repair loss, and the newest \
                      messages are worth most), \"drop_newest\" or \"disconnect\".",
                reload: false,
                get: |config| slow_reader_value(config.$($field).+.slow_reader),
                set: |config, value| {
                    config.$($field).+.slow_reader = slow_reader(value)?;
                    Ok(())
                },
            },
            number!(
                concat!($section, ".queue_bytes_max"),
                "Bytes that may wait for one client. An empty queue takes one message of any size.",
                64 * 1024,
                1 << 30,
                $($field).+.limits.queue_bytes_max as u64
            ),
            number!(
                concat!($section, ".memory_bytes_max"),
                "Bytes that may wait for all clients of a core together; each full queue gets an equal share.",
                1 << 20,
                1 << 40,
                $($field).+.limits.memory_bytes_max as u64
            ),
            number!(
                concat!($section, ".acks_bytes_max"),
                "Bytes of acknowledgements that may wait for one client; one that lets more wait is disconnected.",
                4096,
                64 << 20,
                $($field).+.limits.acks_bytes_max as usize
            ),
            number!(
                concat!($section, ".subscriptions_max"),
                "Subscriptions of one client, which may carry many applications.",
                1,
                10_000_000,
                $($field).+.limits.subscriptions_max as u32
            ),
            number!(
                concat!($section, ".names_max"),
                "Names known on each core, those of the other cores' clients included. Each takes about 200 bytes.",
                1,
                100_000_000,
                $($field).+.limits.names_max as usize
            ),
            number!(
                concat!($section, ".connections_max"),
                "Clients of one core, each with a stream of its own. More are refused until others leave.",
                1,
                10_000_000,
                $($field).+.limits.connections_max as usize
            ),
            millis!(
                concat!($section, ".stall_ms"),
                "A client that reads nothing for so long gets a copy of what waits for it, so that it holds no memory that others share.",
                $($field).+.limits.stall
            ),
            file!(
                concat!($section, ".basic_users"),
                "Who may connect with a password: a file of user:password lines, readable for the gateway alone. Empty: nobody is asked \
                 for one.",
                $($field).+.gate.basic_users
            ),
            file!(
                concat!($section, ".jwt_key"),
                "What bearer tokens (JWT) are verified with: a public key (PEM: RSA, EC or Ed25519), or else a file whose bytes are the \
                 shared secret (HMAC). Empty: nobody is asked for one.",
                $($field).+.gate.jwt_key
            ),
            text!(
                concat!($section, ".jwt_audience"),
                "Audience that bearer tokens must name. Empty: any.",
                $($field).+.gate.jwt_audience
            ),
            text!(
                concat!($section, ".jwt_issuer"),
                "Issuer that bearer tokens must name. Empty: any.",
                $($field).+.gate.jwt_issuer
            ),
        ]
    };
}

/// Keys of AGP 2025.
const AGP2025: &[Key] = dialect!(
    "agp2025",
    "clients of AGP's bindings of 2025 (pubsub.proto.v1)",
    " The bindings have no MLS: where it is false, only applications that encrypt by themselves are heard.",
    agp2025
);

/// Keys of SLIM v3 that all dialects have.
const SLIM: &[Key] = dialect!(
    "slim",
    "SLIM clients (dataplane.proto.v1)",
    " Where it is false, sessions must be opened with MLS.",
    slim.dialect
);

/// Keys of SLIM v3 alone.
const SLIM_ONLY: &[Key] = &[
    Key {
        name: "slim.header_mac",
        doc: "Whether headers are authenticated from hop to hop: \"required\" (a link without a key is refused), \"offered\" (a client \
              that is set to do without may), or \"off\" (clients with default settings refuse that). It costs one HMAC for each delivery.",
        reload: false,
        get: |config| header_mac_value(config.slim.header_mac),
        set: |config, value| {
            config.slim.header_mac = header_mac(value)?;
            Ok(())
        },
    },
    flag!(
        "slim.enforce_pqc",
        "Whether the key of a link must be made with ML-KEM-768 besides X25519. Only clients set to `enforce_pqc` can.",
        slim.enforce_pqc
    ),
    flag!(
        "slim.node_links",
        "Whether clients may connect as nodes (PEER, REMOTE). Such a link may speak for others: allow it only where clients are \
         authenticated.",
        slim.node_links
    ),
    millis!(
        "slim.negotiation_timeout_ms",
        "How long a client may take to negotiate its link. SLIM's clients wait for as long.",
        slim.negotiation_timeout
    ),
];

/// The keys of all dialects, section by section.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    SLIM.iter().chain(SLIM_ONLY).chain(AGP2025)
}
