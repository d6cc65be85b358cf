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
    get: fn(&Config) -> Value,
    set: fn(&mut Config, &Value) -> Result<(), String>,
}

const MS_MAX: u64 = 24 * 3600 * 1000;

macro_rules! number {
    ($name:literal, $doc:literal, $min:expr, $max:expr, $($field:ident).+ as $type:ty) => {
        Key {
            name: $name,
            doc: $doc,
            get: |config| Value::Number(config.$($field).+ as i64),
            set: |config, value| {
                config.$($field).+ = value.number($min, $max)? as $type;
                Ok(())
            },
        }
    };
}

macro_rules! millis {
    ($name:literal, $doc:literal, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            get: |config| Value::Number(config.$($field).+.as_millis() as i64),
            set: |config, value| {
                config.$($field).+ = Duration::from_millis(value.number(1, MS_MAX)?);
                Ok(())
            },
        }
    };
}

macro_rules! optional_millis {
    ($name:literal, $doc:literal, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
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
    ($name:literal, $doc:literal, $($field:ident).+) => {
        Key {
            name: $name,
            doc: $doc,
            get: |config| Value::Flag(config.$($field).+),
            set: |config, value| {
                config.$($field).+ = value.flag()?;
                Ok(())
            },
        }
    };
}

macro_rules! file {
    ($name:literal, $doc:literal, $field:ident) => {
        Key {
            name: $name,
            doc: $doc,
            get: |config| {
                Value::Text(
                    config
                        .$field
                        .as_ref()
                        .map_or(String::new(), |path| path.display().to_string()),
                )
            },
            set: |config, value| {
                let text = value.text()?;
                config.$field = (!text.is_empty()).then(|| PathBuf::from(text));
                Ok(())
            },
        }
    };
}

/// All keys except the limits, which [`Limits::SPECS`] lists.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "profile",
        doc: "Which rules are enforced. \"strict\": TLS 1.3 and verified agents. \"development\": plaintext is allowed and agents are \
              believed their names, on loopback only.",
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
        doc: "Name of this node, told to agents and shown to operators.",
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
        get: |config| Value::Text(config.listen.to_string()),
        set: |config, value| {
            config.listen = address(value)?;
            Ok(())
        },
    },
    Key {
        name: "http",
        doc: "Address of metrics, health and statistics (HTTP/1.1), or \"off\".",
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
    millis!(
        "drain_ms",
        "How long agents have to leave at shutdown before their streams are ended.",
        drain
    ),
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
    Key {
        name: "cores.list",
        doc: "CPUs that serve agents, as the kernel numbers them, or \"auto\": all that this process may use.",
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
        let result = match KEYS.iter().find(|known| known.name == key) {
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

fn limit(name: &str) -> Option<&'static ringgate_policy::LimitSpec> {
    Limits::SPECS.iter().find(|spec| spec.name == name)
}

/// A key with the same last word, for those who have the section wrong or mistype.
fn similar(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let known = KEYS.iter().map(|known| known.name.to_owned());
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
         # No key reloads yet: a change needs a restart (agents are told to come back).\n",
    );
    let mut section = "";
    for key in KEYS.iter().filter(|key| !key.name.starts_with("limits.")) {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{of}]\n");
        }
        describe(&mut text, key.doc, name, &(key.get)(&defaults), "");
    }
    text.push_str("\n[limits]\n");
    for key in KEYS.iter().filter(|key| key.name.starts_with("limits.")) {
        describe(
            &mut text,
            key.doc,
            &key.name["limits.".len()..],
            &(key.get)(&defaults),
            "",
        );
    }
    for spec in Limits::SPECS {
        let allowed = format!(" ({} to {})", spec.min, spec.cap);
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
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ringgate-dataplane.example.toml");
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
        for key in KEYS {
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
