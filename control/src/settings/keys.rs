//! The list of keys, and the example made from it.

use std::fmt::Write as _;

use super::{Settings, find};

/// One setting.
pub(super) struct Key {
    /// Its full name, `section.name`.
    pub(super) name: &'static str,
    /// What it does, with unit and reason.
    pub(super) doc: &'static str,
    /// Least and greatest value of a number.
    pub(super) range: Option<(i64, i64)>,
}

const fn key(name: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        doc,
        range: None,
    }
}

const fn number(name: &'static str, doc: &'static str, min: i64, max: i64) -> Key {
    let range = Some((min, max));
    Key { name, doc, range }
}

const DAY: i64 = 24 * 3600;

/// All keys but the issuers, which are a list.
pub(super) const KEYS: &[Key] = &[
    key(
        "trust_domain",
        "The domain of every identity: agp://<trust-domain>/org/ns/service/instance. It cannot change once the CA is there.",
    ),
    key(
        "state_dir",
        "Folder of the CA's files, the first operator's credential (admin/) and the embedded store. Created with mode 0700.",
    ),
    key(
        "listen",
        "Address of the API (gRPC over TLS 1.3). Port 0 picks a free one and prints it.",
    ),
    key(
        "http",
        "Address of health (/healthz, /readyz) and of the dashboard (/) over HTTP/1.1, or \"off\". Who reaches it sees all names, so \
         anywhere but on loopback it needs `http_token`.",
    ),
    key(
        "http_token",
        "File with a token that whoever looks at the dashboard must show, as the password of whatever user, or as a bearer token (at least \
         24 characters; `openssl rand -base64 32`). It is shown to data planes too, whose `http_token` must be the same. It is sent in the \
         clear: between machines, use a private network or a proxy that encrypts. Empty: none is asked for.",
    ),
    key(
        "hosts",
        "DNS names and IP addresses that clients reach the API by. The process certifies itself for them, and takes proofs \
         (DPoP) for them alone.",
    ),
    key(
        "viewers",
        "Names of operators who may look at everything and change nothing but their own credential.",
    ),
    number(
        "drain_ms",
        "Longest time that running calls have to end when the process is asked to end, in milliseconds.",
        0,
        600_000,
    ),
    key(
        "store.kind",
        "\"embedded\": a file in the state folder. \"etcd\": shared by several control processes.",
    ),
    key("store.etcd_endpoints", "etcd: its endpoints."),
    key(
        "store.etcd_prefix",
        "etcd: what all keys of this gateway begin with.",
    ),
    key(
        "store.etcd_ca",
        "etcd: certificates that its servers must chain to (PEM). Empty: plaintext, for one machine alone.",
    ),
    key(
        "store.etcd_certificate",
        "etcd: certificate of this process for it (PEM).",
    ),
    key("store.etcd_key", "etcd: key of that certificate (PEM)."),
    key(
        "ca.root_certificate",
        "Your own root certificate (PEM). Empty: a root is created at the first start; move its key (state_dir/ca/root.key) \
         offline, the process does not need it.",
    ),
    key(
        "ca.issuing_certificate",
        "Your own issuing certificate (PEM), signed by that root. Ed25519, path length 0.",
    ),
    key(
        "ca.issuing_key",
        "Key of your own issuing certificate (PEM, PKCS#8).",
    ),
    key(
        "ca.seal_key",
        "File of the 32-byte key (hex) that seals the issuing key in the store. Empty: state_dir/ca/seal.key, created at the \
         first start. Control processes that share an etcd need the same one.",
    ),
    number(
        "identity.leaf_ttl_seconds",
        "Life of a certificate, where the request does not say. Short lives make lost keys harmless by themselves.",
        60,
        7 * DAY,
    ),
    number(
        "identity.leaf_ttl_seconds_max",
        "Longest life of a certificate that may be asked for. Verifiers refuse longer ones.",
        60,
        7 * DAY,
    ),
    number(
        "identity.token_ttl_seconds",
        "Life of a bearer token, where the request does not say.",
        10,
        DAY,
    ),
    number(
        "identity.token_ttl_seconds_max",
        "Longest life of a bearer token that may be asked for.",
        10,
        DAY,
    ),
    number(
        "identity.join_token_ttl_seconds",
        "Life of a join token, where the request does not say.",
        1,
        365 * DAY,
    ),
    number(
        "identity.join_token_ttl_seconds_max",
        "Longest life of a join token that may be asked for.",
        1,
        365 * DAY,
    ),
    number(
        "identity.crl_ttl_seconds",
        "Time in which a signed revocation list is to be fetched again.",
        60,
        30 * DAY,
    ),
    number(
        "groups.leaf_age_seconds_max",
        "Age at which a member that has not renewed its leaf is to be removed from its group: whoever learnt its keys learns \
         nothing after that. Agents of the SDK renew with their certificate, so nobody who is there gets so old. A member whose \
         certificate has run out is to be removed in any case.",
        1,
        365 * DAY,
    ),
    number(
        "limits.connections_max",
        "Connections at once; more wait in the kernel's queue.",
        1,
        1_000_000,
    ),
    number(
        "limits.handshakes_max",
        "TLS handshakes at once; more wait.",
        1,
        65_536,
    ),
    number(
        "limits.handshake_timeout_ms",
        "Time a client has for its TLS handshake, in milliseconds.",
        100,
        600_000,
    ),
    number(
        "limits.calls_per_connection_max",
        "Calls at once on one connection.",
        1,
        65_536,
    ),
    number(
        "limits.request_bytes_max",
        "Largest request. A node's presence of 10 000 agents takes about 1 MiB.",
        64 * 1024,
        64 * 1024 * 1024,
    ),
    number(
        "limits.call_timeout_ms",
        "Time of one call that is no stream, in milliseconds.",
        100,
        600_000,
    ),
    number(
        "limits.calls_per_second_max",
        "Calls of one identity, on average; as many may come at once.",
        1,
        1_000_000,
    ),
    number(
        "limits.anonymous_calls_per_second_max",
        "Calls from one address by callers without a credential (enrolment, trust bundle), on average; as many may come at once.",
        1,
        1_000_000,
    ),
    number(
        "limits.audited_refusals_per_second_max",
        "Refusals of callers that are written to the audit log, on average. More are counted, and the count is written, so that \
         nobody can fill the store by being refused.",
        1,
        100_000,
    ),
    number(
        "limits.page_size_max",
        "Entries of one page of any list.",
        1,
        10_000,
    ),
];

const ISSUERS: &str = "
# Issuers (OIDC) whose assertions authorise an enrolment. As many as you like.
#
#[[issuers]]
# What `iss` must be.
#issuer = \"https://token.actions.githubusercontent.com\"
# What `aud` must be or hold.
#audience = \"ringgate\"
# Where its keys are: a file (JWKS), or an https URL. Fetched again when a key is unknown, and at least every hour.
#jwks = \"https://token.actions.githubusercontent.com/.well-known/jwks\"
# Certificates that the URL's server must chain to (PEM). Empty: those that the system trusts.
#jwks_ca = \"\"
# Identities that an assertion authorises; {claim} stands for the value of that claim, * for any one segment.
#identity = \"acme/ci/{repository_owner}/*\"
";

/// The shipped example: every key with its documentation and default, commented out.
pub fn example() -> String {
    let defaults = toml::Table::try_from(Settings::default()).expect("settings are a table");
    let mut text = String::from(
        "# Settings of ringgate-control. Every key is shown with its default; remove the `#` to change one.\n\
         # Units are part of the names. Keys can be given on the command line too: `--set identity.leaf_ttl_seconds=3600`.\n\
         # A change needs a restart of the process; data planes and agents go on meanwhile.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{of}]\n");
        }
        let allowed = key
            .range
            .map_or(String::new(), |(min, max)| format!(" ({min} to {max})"));
        comment(&mut text, &format!("{}{allowed}", key.doc));
        let default = find(&defaults, key.name).expect("every documented key is a field");
        let _ = writeln!(text, "#{name} = {default}");
    }
    text.push_str(ISSUERS);
    text
}

/// Widest line of the example.
const LINE_MAX: usize = 110;

fn comment(text: &mut String, doc: &str) {
    text.push('\n');
    let mut width = 0;
    for word in doc.split_whitespace() {
        if width == 0 || width + word.len() >= LINE_MAX {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        let _ = write!(text, " {word}");
        width += word.len() + 1;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_example_is_made_from_the_keys() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ringgate-control.example.toml");
        let shipped = std::fs::read_to_string(path).expect("the example");
        assert!(
            shipped == example(),
            "update it: cargo run -p ringgate-control -- --print-config > {path}"
        );
    }

    #[test]
    fn every_field_is_documented() {
        let defaults = toml::Table::try_from(Settings::default()).expect("a table");
        for (name, value) in &defaults {
            let names: Vec<String> = match value.as_table() {
                Some(section) => section.keys().map(|key| format!("{name}.{key}")).collect(),
                None => vec![name.clone()],
            };
            for name in names {
                assert!(KEYS.iter().any(|key| key.name == name), "{name}");
            }
        }
    }

    #[test]
    fn the_example_is_read_back_as_the_defaults_also_with_every_key_set() {
        let set: String = example()
            .lines()
            .take_while(|line| !line.contains("Issuers"))
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        for text in [example(), set] {
            let read = Settings::from_text(&text, "example", &[]).expect("valid");
            assert_eq!(read, Settings::default());
        }
    }
}
