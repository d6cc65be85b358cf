//! Settings of the process: a TOML file, and `--set` on top of it.
//!
//! Unknown keys, wrong types and values out of range are refused with file, line, key and what is allowed. [`keys::KEYS`] documents
//! every key; the shipped example is made from it.

mod keys;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

pub use keys::example;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The domain of every identity that this process certifies.
    pub trust_domain: String,
    /// Folder of the CA's files, the operator's credential and the embedded store.
    pub state_dir: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of health and dashboard over HTTP/1.1, or "off".
    pub http: HttpAddress,
    /// File of the token that whoever looks at the dashboard must show; also shown to data planes that ask for one.
    pub http_token: PathBuf,
    /// DNS names and IP addresses that clients reach the API by.
    pub hosts: Vec<String>,
    /// Operators who may look at everything and change nothing.
    pub viewers: Vec<String>,
    /// Longest time that calls have to end at shutdown, in milliseconds.
    pub drain_ms: u64,
    /// Where state is kept.
    pub store: StoreSettings,
    /// The certification authority.
    pub ca: CaSettings,
    /// Lives of what is issued.
    pub identity: IdentitySettings,
    /// What is asked of members of groups.
    pub groups: GroupSettings,
    /// Bounds of what callers may ask.
    pub limits: LimitSettings,
    /// Issuers whose assertions authorise an enrolment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<IssuerSettings>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            trust_domain: "ringgate.local".to_owned(),
            state_dir: PathBuf::from("./.ringgate/control"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 46358)),
            http: HttpAddress(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 46360)))),
            http_token: PathBuf::new(),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
            viewers: Vec::new(),
            drain_ms: 5_000,
            store: StoreSettings::default(),
            ca: CaSettings::default(),
            identity: IdentitySettings::default(),
            groups: GroupSettings::default(),
            limits: LimitSettings::default(),
            issuers: Vec::new(),
        }
    }
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Which store.
    pub kind: StoreKind,
    /// etcd: its endpoints.
    pub etcd_endpoints: Vec<String>,
    /// etcd: what all keys of this gateway begin with.
    pub etcd_prefix: String,
    /// etcd: certificates that it must chain to (PEM); empty: plaintext.
    pub etcd_ca: PathBuf,
    /// etcd: certificate of this process for it (PEM).
    pub etcd_certificate: PathBuf,
    /// etcd: key of that certificate (PEM).
    pub etcd_key: PathBuf,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings {
            kind: StoreKind::Embedded,
            etcd_endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            etcd_prefix: "ringgate/".to_owned(),
            etcd_ca: PathBuf::new(),
            etcd_certificate: PathBuf::new(),
            etcd_key: PathBuf::new(),
        }
    }
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file of this process alone.
    Embedded,
    /// etcd, shared by several control processes.
    Etcd,
}

/// The certification authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaSettings {
    /// The operator's own root certificate (PEM); empty: one is created at the first start.
    pub root_certificate: PathBuf,
    /// The operator's own issuing certificate (PEM).
    pub issuing_certificate: PathBuf,
    /// Key of the operator's own issuing certificate (PEM, PKCS#8, Ed25519).
    pub issuing_key: PathBuf,
    /// The 32-byte key that seals the issuing key in the store; empty: `ca/seal.key` in the state folder.
    pub seal_key: PathBuf,
}

/// Lives of what is issued, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Of a certificate, where the request does not say.
    pub leaf_ttl_seconds: u64,
    /// Of a certificate, at most.
    pub leaf_ttl_seconds_max: u64,
    /// Of a bearer token, where the request does not say.
    pub token_ttl_seconds: u64,
    /// Of a bearer token, at most.
    pub token_ttl_seconds_max: u64,
    /// Of a join token, where the request does not say.
    pub join_token_ttl_seconds: u64,
    /// Of a join token, at most.
    pub join_token_ttl_seconds_max: u64,
    /// Of a signed revocation list.
    pub crl_ttl_seconds: u64,
}

impl Default for IdentitySettings {
    fn default() -> IdentitySettings {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        IdentitySettings {
            leaf_ttl_seconds: DAY,
            leaf_ttl_seconds_max: 7 * DAY,
            token_ttl_seconds: HOUR,
            token_ttl_seconds_max: DAY,
            join_token_ttl_seconds: HOUR,
            join_token_ttl_seconds_max: 30 * DAY,
            crl_ttl_seconds: HOUR,
        }
    }
}

/// What is asked of members of groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSettings {
    /// Age of a leaf that its member did not renew, in seconds.
    pub leaf_age_seconds_max: u64,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            // A day more than a certificate may last: agents renew their leaf with their certificate.
            leaf_age_seconds_max: 8 * 24 * 3600,
        }
    }
}

/// Bounds of what callers may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Connections at once.
    pub connections_max: u64,
    /// TLS handshakes at once.
    pub handshakes_max: u64,
    /// Time a client has for its TLS handshake, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Calls at once on one connection.
    pub calls_per_connection_max: u64,
    /// Size of one request.
    pub request_bytes_max: u64,
    /// Time of one call that is no stream, in milliseconds.
    pub call_timeout_ms: u64,
    /// Calls of one identity.
    pub calls_per_second_max: u64,
    /// Calls of one address by callers without a credential.
    pub anonymous_calls_per_second_max: u64,
    /// Refusals that are written to the audit log.
    pub audited_refusals_per_second_max: u64,
    /// Entries of one page of any list.
    pub page_size_max: u64,
}

impl Default for LimitSettings {
    fn default() -> LimitSettings {
        LimitSettings {
            connections_max: 10_000,
            handshakes_max: 256,
            handshake_timeout_ms: 10_000,
            calls_per_connection_max: 256,
            request_bytes_max: 4 * 1024 * 1024,
            call_timeout_ms: 30_000,
            calls_per_second_max: 2_000,
            anonymous_calls_per_second_max: 2_000,
            audited_refusals_per_second_max: 100,
            page_size_max: 1_000,
        }
    }
}

/// An issuer whose assertions (JWT) authorise an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be or hold.
    pub audience: String,
    /// Where its keys are: a file, or an https URL.
    pub jwks: String,
    /// Certificates that the URL's server must chain to (PEM); empty: those that the system trusts.
    #[serde(default)]
    pub jwks_ca: PathBuf,
    /// Pattern of the identities that an assertion authorises; `{claim}` stands for the value of a claim.
    pub identity: String,
}

/// An address of HTTP, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpAddress(pub Option<SocketAddr>);

impl TryFrom<String> for HttpAddress {
    type Error = String;

    fn try_from(text: String) -> Result<HttpAddress, String> {
        if text == "off" {
            return Ok(HttpAddress(None));
        }
        match text.parse() {
            Ok(address) => Ok(HttpAddress(Some(address))),
            Err(_) => Err(format!(
                "`{text}` is no address: IP:PORT, as in 127.0.0.1:46360, and \"off\" are allowed"
            )),
        }
    }
}

impl From<HttpAddress> for String {
    fn from(address: HttpAddress) -> String {
        address
            .0
            .map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

/// Settings cannot be used. The message names the place, the key and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or a key of it does not exist or has a value of the wrong kind.
    #[error("{place}: {message}\n`--print-config` shows all keys")]
    Syntax {
        /// File, or `--set`.
        place: String,
        /// What is wrong, with line, column and key.
        message: String,
    },
    /// A value is not allowed.
    #[error("{place}: `{key}` cannot be {value}: {allowed}")]
    Value {
        /// File and line, or `--set`.
        place: String,
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// An argument of `--set` is not KEY=VALUE.
    #[error("`--set {0}`: KEY=VALUE is needed, as in `--set identity.leaf_ttl_seconds=3600`")]
    Argument(String),
}

impl Settings {
    /// Reads a file, if there is one, and `KEY=VALUE` arguments on top of it, and checks the whole.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(file: Option<&Path>, arguments: &[String]) -> Result<Settings, SettingsError> {
        let (text, place) = match file {
            None => (String::new(), "the defaults".to_owned()),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
                    path: path.to_owned(),
                    source,
                })?;
                (text, path.display().to_string())
            }
        };
        Settings::from_text(&text, &place, arguments)
    }

    fn from_text(text: &str, place: &str, arguments: &[String]) -> Result<Settings, SettingsError> {
        let settings: Settings = toml::from_str(text).map_err(|error| SettingsError::Syntax {
            place: place.to_owned(),
            message: error.to_string(),
        })?;
        let said_at = |key: &str| {
            let is_argument =
                |argument: &String| argument.split('=').next().is_some_and(|it| it.trim() == key);
            match line_of(text, key) {
                Some(line) if !arguments.iter().any(is_argument) => format!("{place}:{line}"),
                None if arguments.is_empty() => place.to_owned(),
                _ => "--set".to_owned(),
            }
        };
        if arguments.is_empty() {
            settings.check(said_at)?;
            return Ok(settings);
        }
        let wrong = |error: String| SettingsError::Syntax {
            place: "--set".to_owned(),
            message: error,
        };
        let mut table: toml::Table = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for argument in arguments {
            let (key, value) = argument
                .split_once('=')
                .ok_or_else(|| SettingsError::Argument(argument.clone()))?;
            put(&mut table, key.trim(), argument_value(value.trim())).map_err(wrong)?;
        }
        let settings = Settings::deserialize(table).map_err(|error| wrong(error.to_string()))?;
        settings.check(said_at)?;
        Ok(settings)
    }

    /// Checks what types cannot.
    fn check(&self, place: impl Fn(&str) -> String) -> Result<(), SettingsError> {
        let refuse = |key: &str, value: String, allowed: &str| {
            Err(SettingsError::Value {
                place: place(key),
                key: key.to_owned(),
                value,
                allowed: allowed.to_owned(),
            })
        };
        let table = toml::Table::try_from(self).expect("settings are a table");
        for key in keys::KEYS {
            let (Some((min, max)), Some(value)) = (key.range, find(&table, key.name)) else {
                continue;
            };
            if !value.as_integer().is_some_and(|n| (min..=max).contains(&n)) {
                return refuse(
                    key.name,
                    value.to_string(),
                    &format!("a whole number from {min} to {max} is allowed"),
                );
            }
        }
        let lives = &self.identity;
        for (key, default, max) in [
            (
                "identity.leaf_ttl_seconds",
                lives.leaf_ttl_seconds,
                lives.leaf_ttl_seconds_max,
            ),
            (
                "identity.token_ttl_seconds",
                lives.token_ttl_seconds,
                lives.token_ttl_seconds_max,
            ),
            (
                "identity.join_token_ttl_seconds",
                lives.join_token_ttl_seconds,
                lives.join_token_ttl_seconds_max,
            ),
        ] {
            if default > max {
                return refuse(key, default.to_string(), &format!("`{key}_max` is {max}"));
            }
        }
        if let Some(address) = self.http.0.filter(|address| !address.ip().is_loopback())
            && self.http_token.as_os_str().is_empty()
        {
            return refuse(
                "http",
                format!("{address:?}"),
                "it tells who reaches it the names of agents and topics: anywhere but on loopback it needs `http_token`",
            );
        }
        if self.hosts.is_empty() {
            return refuse(
                "hosts",
                "[]".to_owned(),
                "the names and addresses that clients reach this process by are needed",
            );
        }
        let own = [
            &self.ca.root_certificate,
            &self.ca.issuing_certificate,
            &self.ca.issuing_key,
        ];
        let given = own.iter().filter(|path| !path.as_os_str().is_empty()).count();
        if given != 0 && given != own.len() {
            return refuse(
                "ca.issuing_certificate",
                format!("{:?}", self.ca.issuing_certificate),
                "`ca.root_certificate`, `ca.issuing_certificate` and `ca.issuing_key` belong together: give all or none",
            );
        }
        let etcd = &self.store;
        if etcd.etcd_certificate.as_os_str().is_empty() != etcd.etcd_key.as_os_str().is_empty() {
            return refuse(
                "store.etcd_certificate",
                format!("{:?}", etcd.etcd_certificate),
                "it belongs together with `store.etcd_key`: give both or none",
            );
        }
        for issuer in &self.issuers {
            if issuer.jwks.starts_with("http://") {
                return refuse(
                    "issuers",
                    format!("{:?}", issuer.jwks),
                    "keys fetched in the clear could be anybody's: an https URL or a file is allowed in `jwks`",
                );
            }
        }
        Ok(())
    }

    /// The folder of the CA's files.
    pub fn ca_dir(&self) -> PathBuf {
        self.state_dir.join("ca")
    }

    /// The folder of the first operator's credential.
    pub fn admin_dir(&self) -> PathBuf {
        self.state_dir.join("admin")
    }

    /// The file of the embedded store.
    pub fn store_file(&self) -> PathBuf {
        self.state_dir.join("store.redb")
    }

    /// The file with the trust anchors, for those who join.
    pub fn anchors_file(&self) -> PathBuf {
        self.state_dir.join("ca.pem")
    }

    /// The file that says, while the process runs, how clients on this machine reach it.
    pub fn endpoint_file(&self) -> PathBuf {
        self.state_dir.join("endpoint")
    }

    /// Longest time that calls have to end at shutdown.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Whether clients may call this process by a host's name or address.
    pub fn is_own_host(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = host.parse().ok();
        self.hosts.iter().any(|own| match address {
            Some(address) => own.parse() == Ok(address),
            None => own.eq_ignore_ascii_case(host),
        })
    }
}

/// The line of a key in a TOML text that parses.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut names = key.split('.').peekable();
    while let Some(name) = names.next() {
        let (at, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        match value.get_ref() {
            DeValue::Table(inner) if names.peek().is_some() => table = inner,
            _ => return Some(text[..at.span().start].matches('\n').count() + 1),
        }
    }
    None
}

fn find<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, name)) => table.get(section)?.get(name),
    }
}

fn put(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    let Some((section, name)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let section_table = table
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .ok_or_else(|| format!("`{section}` is no section, so there is no key `{key}`"))?;
    section_table.insert(name.to_owned(), value);
    Ok(())
}

/// A value on the command line: TOML where it is TOML, else text.
fn argument_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, arguments: &[&str]) -> Result<Settings, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Settings::from_text(text, "test.toml", &arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn file_and_arguments_become_one() {
        let settings = read(
            "trust_domain = \"a.example\"\n[identity]\nleaf_ttl_seconds = 600\n",
            &["identity.leaf_ttl_seconds=700", "http=off", "hosts=[\"gw\"]"],
        )
        .expect("valid");
        assert_eq!(settings.trust_domain, "a.example");
        assert_eq!(settings.identity.leaf_ttl_seconds, 700);
        assert_eq!(settings.http, HttpAddress(None));
        assert!(settings.is_own_host("GW") && !settings.is_own_host("localhost"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_is_allowed() {
        let error = read("\n[identity]\nleaf_ttl_seconds = 1\n", &[]).expect_err("too short");
        assert!(
            error.starts_with(
                "test.toml:3: `identity.leaf_ttl_seconds` cannot be 1: a whole number from 60 to"
            ),
            "{error}"
        );
        let error = read("listen = \"here\"\n", &[]).expect_err("no address");
        assert!(error.contains("line 1") && error.contains("listen"), "{error}");
        let error = read("[identity]\nleaf_ttl = 1\n", &[]).expect_err("no such key");
        assert!(
            error.contains("line 2") && error.contains("leaf_ttl_seconds"),
            "{error}"
        );
        let error = read("", &["identity.leaf_ttl_seconds_max=3600"]).expect_err("above the maximum");
        assert!(error.contains("`identity.leaf_ttl_seconds_max` is"), "{error}");
        let error = read("", &["identity"]).expect_err("no value");
        assert!(error.contains("KEY=VALUE"), "{error}");
        let error = read("\nhttp = \"0.0.0.0:46360\"\n", &[]).expect_err("open to all");
        assert!(
            error.starts_with("test.toml:2: `http` cannot be") && error.contains("`http_token`"),
            "{error}"
        );
        read("http = \"0.0.0.0:46360\"\n", &["http_token=/etc/token"]).expect("with a token");
        let error = read("[ca]\nissuing_key = \"k\"\n", &[]).expect_err("half a CA");
        assert!(error.contains("give all or none"), "{error}");
    }

    #[test]
    fn addresses_of_this_host_are_compared_as_addresses() {
        let settings = Settings::default();
        assert!(settings.is_own_host("[::1]") && settings.is_own_host("0:0:0:0:0:0:0:1"));
        assert!(!settings.is_own_host("127.0.0.2"));
    }
}
