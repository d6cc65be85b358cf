//! The list of keys.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringgate_policy::Limits;

use super::value::Value;
use super::{Config, ConfigError, Cores, Profile};

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its full name, `section.name`.
    pub name: &'static str,
    /// What it does, with unit and reason.
    pub doc: &'static str,
    /// Whether a change takes effect at once; otherwise after a restart.
    pub reload: bool,
    get: fn(&Config) -> Value,
    set: fn(&mut Config, &Value) -> Result<(), String>,
}

const MS_MAX: u64 = 24 * 3600 * 1000;

macro_rules! number {
    ($name:expr, $doc:expr, $min:expr, $max:expr, $($field:ident).+ as $type:ty) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::Number(config.$($field).+ as i64),
            set: |config, value| {
                config.$($field).+ = value.number($min, $max)? as $type;
                Ok(())
            },
        }
    };
}

macro_rules! millis {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::Number(config.$($field).+.as_millis() as i64),
            set: |config, value| {
                config.$($field).+ = Duration::from_millis(value.number(1, MS_MAX)?);
                Ok(())
            },
        }
    };
}

macro_rules! optional_millis {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::Number(config.$($field).+.map_or(0, |time| time.as_millis() as i64)),
            set: |config, value| {
                let millis = value.number(0, MS_MAX)?;
                config.$($field).+ = (millis > 0).then(|| Duration::from_millis(millis));
                Ok(())
            },
        }
    };
}

macro_rules! flag {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::Flag(config.$($field).+),
            set: |config, value| {
                config.$($field).+ = value.flag()?;
                Ok(())
            },
        }
    };
}

macro_rules! file {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| {
                Value::Text(
                    config
                        .$($field).+
                        .as_ref()
                        .map_or(String::new(), |path| path.display().to_string()),
                )
            },
            set: |config, value| {
                let text = value.text()?;
                config.$($field).+ = (!text.is_empty()).then(|| PathBuf::from(text));
                Ok(())
            },
        }
    };
}

macro_rules! texts {
    ($name:expr, $doc:expr, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            reload: false,
            get: |config| Value::List(config.$($field).+.iter().cloned().map(Value::Text).collect()),
            set: |config, value| {
                config.$($field).+ = value.texts()?;
                Ok(())
            },
        }
    };
}

mod dialects;
mod observe;

/// All keys except those of these two, and the limits, which [`Limits::SPECS`] lists.
const KEYS: &[Key] = &[
    Key {
        name: "profile",
        doc: "Which rules are enforced. \"strict\": TLS 1.3 and verified agents. \"development\": plaintext is allowed and agents are \
              believed their names, on loopback only.",
        reload: false,
        get: |config| {
            Value::Text(match config.profile {
                Profile::Strict => "strict".to_owned(),
                Profile::Development => "development".to_owned(),
            })
        },
        set: |config, value| {
            config.profile = match value.text()? {
                "strict" => Profile::Strict,
                "development" => Profile::Development,
                _ => return Err("\"strict\" and \"development\" are allowed".to_owned()),
            };
            Ok(())
        },
    },
    Key {
        name: "node",
        doc: "Name of this node, told to agents and shown to operators. With a control process it is the node's identity there, \
              agp://<trust-domain>/node/<name>.",
        reload: false,
        get: |config| Value::Text(config.node.clone()),
        set: |config, value| match value.text()? {
            "" => Err("a name is needed".to_owned()),
            name if name.len() > 255 => Err("255 bytes are allowed".to_owned()),
            name => {
                config.node = name.to_owned();
                Ok(())
            }
        },
    },
    Key {
        name: "listen",
        doc: "Address agents connect to. Port 0 picks a free one and prints it.",
        reload: false,
        get: |config| Value::Text(config.listen.to_string()),
        set: |config, value| {
            config.listen = address(value)?;
            Ok(())
        },
    },
    texts!(
        "neighbours",
        "Other nodes to keep a link to, as in [\"127.0.0.1:46457\"]: nodes that are linked, directly or over others, are one network, whose \
         agents hear what is published on any of them. One end of a link is enough to name the other. Names of nodes (`node`) must \
         differ. In the profile `strict` both ends show their certificates of the control process. Empty: none.",
        neighbours
    ),
    texts!(
        "hosts",
        "DNS names and IP addresses that agents reach this node by: proofs of bearer tokens must be made for one of them, and the \
         control process certifies the node for them. Empty: localhost and the address of `listen`.",
        hosts
    ),
    Key {
        name: "trust_domain",
        doc: "The domain of every identity, agp://<trust-domain>/org/ns/service/instance, without a control process; with one, that \
              says it.",
        reload: false,
        get: |config| Value::Text(config.trust_domain.clone()),
        set: |config, value| {
            config.trust_domain = value.text()?.to_owned();
            Ok(())
        },
    },
    Key {
        name: "http",
        doc: "Address of metrics, health, statistics and taps (HTTP/1.1), or \"off\". Who reaches it sees the names of agents and topics, so \
              anywhere but on loopback it needs `http_token`.",
        reload: false,
        get: |config| {
            Value::Text(
                config
                    .http
                    .map_or("off".to_owned(), |address| address.to_string()),
            )
        },
        set: |config, value| {
            config.http = if value.text()? == "off" {
                None
            } else {
                Some(address(value)?)
            };
            Ok(())
        },
    },
    file!(
        "http_token",
        "File with a token that whoever asks there must show, health (/healthz, /readyz) excepted: as a bearer token, or as the password \
         of whatever user (at least 24 characters; `openssl rand -base64 32`). It is sent in the clear: between machines, reach `http` \
         through a private network or a proxy that encrypts. Empty: none is asked for.",
        http_token
    ),
    Key {
        name: "drain_ms",
        doc: "How long agents have to leave at shutdown before their streams are ended.",
        reload: true,
        get: |config| Value::Number(config.drain.as_millis() as i64),
        set: |config, value| {
            config.drain = Duration::from_millis(value.number(1, MS_MAX)?);
            Ok(())
        },
    },
    millis!(
        "send_timeout_ms",
        "How long a client may take to read one send (128 KiB at most) before its connection is ended.",
        send_timeout
    ),
    file!(
        "tls.certificate",
        "Certificate chain of the listener (PEM), leaf first. Empty: plaintext.",
        tls_certificate
    ),
    file!("tls.key", "Private key of the leaf (PEM).", tls_key),
    file!(
        "tls.client_ca",
        "Certificates that client certificates must chain to (PEM). Empty: none are asked for.",
        tls_client_ca
    ),
    flag!(
        "tls.client_required",
        "Whether a client must show a certificate.",
        tls_client_required
    ),
    texts!(
        "control.url",
        "The control process, as in [\"https://127.0.0.1:46358\"], or several that share a store. It tells who is trusted, what is \
         allowed, and the settings that no file or flag here sets. Empty: none; then the files named here say it all.",
        control.urls
    ),
    file!(
        "control.ca",
        "Certificates (PEM) that the control process's own must chain to, before this node is enrolled.",
        control.ca
    ),
    Key {
        name: "control.fingerprint",
        doc: "In place of `control.ca`: SHA-256 of its authority's certificate, as it prints it (64 hexadecimal digits).",
        reload: false,
        get: |config| Value::Text(config.control.fingerprint.clone().unwrap_or_default()),
        set: |config, value| {
            let text = value.text()?;
            config.control.fingerprint = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
    file!(
        "control.join_token",
        "File with the token that lets this node enrol, the first time. It may be deleted afterwards.",
        control.join_token
    ),
    Key {
        name: "control.state_dir",
        doc: "Folder (mode 0700) of this node's key and certificate, and of what the control process told last, by which the node \
              starts when that is away.",
        reload: false,
        get: |config| Value::Text(config.control.state_dir.display().to_string()),
        set: |config, value| match value.text()? {
            "" => Err("a folder is needed".to_owned()),
            path => {
                config.control.state_dir = PathBuf::from(path);
                Ok(())
            }
        },
    },
    file!(
        "access.policy",
        "Policies (Cedar) where there is no control process. Empty: every verified agent may do everything.",
        access_policy
    ),
    file!(
        "access.grants",
        "Roles for those policies (TOML): names, each with a list of roles, as in \"acme/sales\" = [\"seller\"].",
        access_grants
    ),
    texts!(
        "state.durable",
        "Patterns of the state spaces that outlive the node, as in [\"memory/**\"]: their changes are acknowledged once they are on disk. \
         Empty: none.",
        state.durable
    ),
    Key {
        name: "state.directory",
        doc: "Folder (mode 0700) of their log, and of that of durable topics.",
        reload: false,
        get: |config| Value::Text(config.state.directory.display().to_string()),
        set: |config, value| match value.text()? {
            "" => Err("a folder is needed".to_owned()),
            path => {
                config.state.directory = PathBuf::from(path);
                Ok(())
            }
        },
    },
    number!(
        "state.segment_bytes",
        "Bytes of one file of the log, which is made as large at once: so a full disk is found before anything is half written. One for \
         each core at least.",
        1 << 20,
        1 << 40,
        state.segment_bytes as u64
    ),
    texts!(
        "topics.retain",
        "Patterns of topics that keep their last message, as in [\"status/**\"]: whoever subscribes (without a group) is told it first, \
         then what comes. Empty: none.",
        topics.retain
    ),
    texts!(
        "topics.replay",
        "Patterns of topics that keep their last messages, within `limits.replay_messages_max`, `limits.replay_bytes_max` and \
         `limits.replay_ms`: whoever subscribes (without a group) is told them first, in order. Empty: none.",
        topics.replay
    ),
    texts!(
        "topics.durable",
        "Patterns of those of these topics whose messages outlive the node: a publish that asks for an Ack gets it once its message is on \
         disk (`state.directory`). Empty: none.",
        topics.durable
    ),
    Key {
        name: "cores.list",
        doc: "CPUs that serve agents, as the kernel numbers them, or \"auto\": all that this process may use.",
        reload: false,
        get: |config| match &config.cores {
            Cores::Auto => Value::Text("auto".to_owned()),
            Cores::List(list) => Value::List(list.iter().map(|core| Value::Number(*core as i64)).collect()),
        },
        set: |config, value| {
            config.cores = match value {
                Value::Text(text) if text == "auto" => Cores::Auto,
                Value::List(list) if !list.is_empty() => Cores::List(
                    list.iter()
                        .map(|core| core.number(0, 65_535).map(|n| n as usize))
                        .collect::<Result<_, _>>()?,
                ),
                _ => return Err("\"auto\" and a list such as [0, 1] are allowed".to_owned()),
            };
            Ok(())
        },
    },
    Key {
        name: "cores.spin_us",
        doc: "Longest time an idle core looks for work before it sleeps, in microseconds. It adapts: a core that finds nothing spins \
              less. 0 sleeps at once.",
        reload: false,
        get: |config| Value::Number(config.spin.as_micros() as i64),
        set: |config, value| {
            config.spin = Duration::from_micros(value.number(0, 1_000_000)?);
            Ok(())
        },
    },
    flag!(
        "cores.busy_poll",
        "Never sleep: for dedicated cores. Halves latency; costs a whole core each.",
        busy_poll
    ),
    number!(
        "cores.send_bytes_max",
        "Bytes of one send to one connection. More would delay the others and pin more memory for a reader that stalls.",
        16 * 1024,
        16 * 1024 * 1024,
        send_bytes_max as usize
    ),
    number!(
        "http2.stream_window_bytes",
        "Bytes a client may send on a stream ahead of the gateway.",
        65_535,
        (1 << 31) - 1,
        http2.stream_window_bytes as u32
    ),
    number!(
        "http2.connection_window_bytes",
        "Bytes a client may send on all its streams ahead of the gateway.",
        65_535,
        (1 << 31) - 1,
        http2.connection_window_bytes as u32
    ),
    number!(
        "http2.streams_max",
        "Streams a client may have open at once.",
        1,
        1 << 20,
        http2.streams_max as u32
    ),
    number!(
        "http2.frame_bytes_max",
        "Largest frame taken.",
        16_384,
        (1 << 24) - 1,
        http2.frame_bytes_max as u32
    ),
    number!(
        "http2.header_list_bytes_max",
        "Largest header list taken, as RFC 9113 counts it.",
        1024,
        16 << 20,
        http2.header_list_bytes_max as u32
    ),
    number!(
        "http2.header_block_bytes_max",
        "Largest compressed header block over all its frames.",
        1024,
        16 << 20,
        http2.header_block_bytes_max as u32
    ),
    number!(
        "http2.continuation_frames_max",
        "CONTINUATION frames of one header block.",
        1,
        4096,
        http2.continuation_frames_max as u32
    ),
    number!(
        "http2.header_table_bytes_max",
        "HPACK table offered to clients; memory of each connection.",
        0,
        65_536,
        http2.header_table_bytes_max as u32
    ),
    number!(
        "http2.output_bytes_max",
        "Control bytes that may wait for a client that does not read.",
        16_384,
        64 << 20,
        http2.output_bytes_max as u32
    ),
    number!(
        "http2.resets_burst",
        "Resets of streams nobody used that are forgiven at once.",
        1,
        1 << 30,
        http2.resets.burst as u32
    ),
    number!(
        "http2.resets_per_second",
        "How many of them are forgiven each second.",
        1,
        1 << 30,
        http2.resets.per_second as u32
    ),
    number!(
        "http2.stream_errors_burst",
        "Errors that make the gateway reset a stream, forgiven at once.",
        1,
        1 << 30,
        http2.stream_errors.burst as u32
    ),
    number!(
        "http2.stream_errors_per_second",
        "How many of them are forgiven each second.",
        1,
        1 << 30,
        http2.stream_errors.per_second as u32
    ),
    number!(
        "http2.refusals_burst",
        "Streams above streams_max that are refused politely at once.",
        1,
        1 << 30,
        http2.refusals.burst as u32
    ),
    number!(
        "http2.refusals_per_second",
        "How many of them each second.",
        1,
        1 << 30,
        http2.refusals.per_second as u32
    ),
    number!(
        "http2.overhead_burst",
        "Frames that carry nothing (PING, SETTINGS, empty DATA, …) taken at once beyond useful work.",
        1,
        1 << 30,
        http2.overhead.burst as u32
    ),
    number!(
        "http2.overhead_per_second",
        "How many of them each second.",
        1,
        1 << 30,
        http2.overhead.per_second as u32
    ),
    millis!(
        "http2.preface_timeout_ms",
        "How long a client may take from connecting to its HTTP/2 preface, TLS included.",
        http2.preface_timeout
    ),
    millis!(
        "http2.settings_timeout_ms",
        "How long it may take to acknowledge SETTINGS.",
        http2.settings_timeout
    ),
    millis!(
        "http2.frame_timeout_ms",
        "How long one frame or header block may take to arrive.",
        http2.frame_timeout
    ),
    optional_millis!(
        "http2.keepalive_interval_ms",
        "Silence after which the gateway pings. 0: never.",
        http2.keepalive_interval
    ),
    millis!(
        "http2.keepalive_timeout_ms",
        "How long the answer may take.",
        http2.keepalive_timeout
    ),
    optional_millis!(
        "http2.idle_timeout_ms",
        "How long a connection without a stream is kept. 0: for ever.",
        http2.idle_timeout
    ),
    number!(
        "ring.submission_entries",
        "Submission queue entries; a power of two.",
        64,
        32_768,
        ring.submission_entries as u32
    ),
    number!(
        "ring.completion_entries",
        "Completion queue entries; a power of two.",
        128,
        65_536,
        ring.completion_entries as u32
    ),
    number!(
        "ring.receive_buffers",
        "Receive buffers of a core; a power of two.",
        2,
        32_768,
        ring.receive_buffers as u16
    ),
    number!(
        "ring.receive_buffer_bytes",
        "Bytes of one receive buffer.",
        4096,
        16 << 20,
        ring.receive_buffer_bytes as u32
    ),
    flag!(
        "ring.incremental",
        "Let the kernel fill receive buffers piece by piece, where it can (Linux 6.12).",
        ring.incremental
    ),
    number!(
        "ring.copy_bytes_max",
        "Pieces up to this size are copied into a send, larger ones go by reference.",
        0,
        65_536,
        ring.copy_bytes_max as usize
    ),
    number!(
        "limits.connection_input_bytes_max",
        "Memory that the unfinished input of one connection's calls may hold: messages that have begun, and input that waits.",
        1 << 20,
        1 << 40,
        connection_input_bytes_max as usize
    ),
    number!(
        "limits.connections_max",
        "Connections of one core. Lowered to the limit of open files.",
        1,
        1 << 20,
        ring.sockets_max as u32
    ),
];

/// All keys except the limits, which [`Limits::SPECS`] lists.
fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(observe::keys()).chain(dialects::keys())
}

fn address(value: &Value) -> Result<SocketAddr, String> {
    value
        .text()?
        .parse()
        .map_err(|_| "an address such as \"127.0.0.1:46357\" is allowed".to_owned())
}

impl Config {
    /// Sets a key. `place` says where the value comes from, for the error.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`], [`ConfigError::Value`].
    pub(crate) fn set(&mut self, key: &str, value: &Value, place: &str) -> Result<(), ConfigError> {
        let result = match keys().find(|known| known.name == key) {
            Some(known) => (known.set)(self, value),
            None => match key.strip_prefix("limits.").and_then(limit) {
                Some(spec) => value.number(spec.min, spec.cap).map(|number| {
                    self.limits.set(spec.name, number);
                }),
                None => {
                    return Err(ConfigError::UnknownKey {
                        place: place.to_owned(),
                        key: key.to_owned(),
                        hint: similar(key),
                    });
                }
            },
        };
        result.map_err(|allowed| ConfigError::Value {
            place: place.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            allowed,
        })
    }

    /// Sets `key=value` as given on the command line.
    ///
    /// # Errors
    /// As the file's.
    pub fn set_argument(&mut self, argument: &str) -> Result<(), ConfigError> {
        let (key, value) = argument.split_once('=').ok_or_else(|| {
            ConfigError::Contradiction(format!(
                "`--set {argument}`: KEY=VALUE is needed, as in `--set drain_ms=1000`"
            ))
        })?;
        self.set(key.trim(), &Value::from_argument(value.trim()), "--set")
    }
}

/// Limits that are read when a core starts and then no more.
const LIMITS_AT_START: [&str; 1] = ["message_bytes_max"];

/// A setting whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Whether it takes effect at once; otherwise after a restart.
    pub reload: bool,
}

impl Config {
    /// Every key whose value is another in `to`.
    pub fn changes(&self, to: &Config) -> Vec<Change> {
        let keys = keys()
            .filter(|key| (key.get)(self) != (key.get)(to))
            .map(|key| Change {
                key: key.name.to_owned(),
                reload: key.reload,
            });
        let limits = Limits::SPECS
            .iter()
            .filter(|spec| self.limits.get(spec.name) != to.limits.get(spec.name))
            .map(|spec| Change {
                key: format!("limits.{}", spec.name),
                reload: !LIMITS_AT_START.contains(&spec.name),
            });
        keys.chain(limits).collect()
    }
}

fn limit(name: &str) -> Option<&'static ringgate_policy::LimitSpec> {
    Limits::SPECS.iter().find(|spec| spec.name == name)
}

/// A key with the same last word, for those who have the section wrong or mistype.
fn similar(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let known = keys().map(|known| known.name.to_owned());
    let limits = Limits::SPECS.iter().map(|spec| format!("limits.{}", spec.name));
    let close = known.chain(limits).find(|name| {
        let name = name.rsplit('.').next().unwrap_or(name);
        name == last || name.starts_with(last) || last.starts_with(name)
    });
    close.map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

/// The shipped example: every key with its documentation and default, commented out.
pub fn example() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "# Configuration of ringgate-dataplane. Every key is shown with its default; remove the `#` to change one.\n\
         # Units are part of the names. Keys can be given on the command line too: `--set cores.spin_us=0`.\n\
         # A change needs a restart (agents are told to come back), except of keys marked \"Reloads\": those take effect at once when\n\
         # the control process tells them.\n",
    );
    let mut section = "";
    for key in keys().filter(|key| !key.name.starts_with("limits.")) {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{of}]\n");
        }
        describe(
            &mut text,
            key.doc,
            name,
            &(key.get)(&defaults),
            reloads(key.reload),
        );
    }
    text.push_str("\n[limits]\n");
    for key in keys().filter(|key| key.name.starts_with("limits.")) {
        describe(
            &mut text,
            key.doc,
            &key.name["limits.".len()..],
            &(key.get)(&defaults),
            reloads(key.reload),
        );
    }
    for spec in Limits::SPECS {
        let reloads = reloads(!LIMITS_AT_START.contains(&spec.name));
        let allowed = format!(" ({} to {}){reloads}", spec.min, spec.cap);
        describe(
            &mut text,
            spec.doc,
            spec.name,
            &Value::Number(spec.default as i64),
            &allowed,
        );
    }
    text
}

fn reloads(reload: bool) -> &'static str {
    if reload { " Reloads." } else { "" }
}

/// Widest line of the example.
const LINE_MAX: usize = 110;

fn describe(text: &mut String, doc: &str, name: &str, default: &Value, allowed: &str) {
    text.push('\n');
    let mut width = 0;
    for word in format!("{}{allowed}", doc.trim()).split_whitespace() {
        if width == 0 || width + word.len() >= LINE_MAX {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        let _ = write!(text, " {word}");
        width += word.len() + 1;
    }
    let _ = write!(text, "\n#{name} = {default}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_example_is_made_from_the_keys() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../ringgate-dataplane.example.toml"
        );
        let shipped = std::fs::read_to_string(path).expect("the example");
        assert!(
            shipped == example(),
            "update it: cargo run -p ringgate-dataplane -- --print-config > {path}"
        );
    }

    #[test]
    fn the_example_is_read_back_as_the_defaults_also_with_every_key_set() {
        let set: String = example()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        for text in [example(), set] {
            let read = Config::default()
                .with_text(&text, std::path::Path::new("example"))
                .expect("valid");
            assert_eq!(format!("{read:?}"), format!("{:?}", Config::default()));
        }
    }

    #[test]
    fn every_default_is_allowed() {
        let mut config = Config::default();
        for key in keys() {
            let default = (key.get)(&Config::default());
            config.set(key.name, &default, "test").expect(key.name);
        }
    }

    #[test]
    fn a_wrong_key_and_a_wrong_value_say_what_is_right() {
        let mut config = Config::default();
        let error = config
            .set_argument("core.spin_us=5")
            .expect_err("no such key")
            .to_string();
        assert!(error.contains("did you mean `cores.spin_us`"), "{error}");
        let error = config
            .set_argument("limits.streams_max=0")
            .expect_err("too small")
            .to_string();
        assert!(error.contains("from 1 to"), "{error}");
        config.set_argument("cores.list=[0, 1]").expect("a list");
        assert_eq!(config.cores, Cores::List(vec![0, 1]));
    }
}
