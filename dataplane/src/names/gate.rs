//! Who may open a stream of a dialect: what its `authorization` metadata must prove (RFC 7617, RFC 6750).

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonwebtoken::{DecodingKey, Validation};
use ringgate_grpc::{Code, Request, Status};
use serde::Deserialize;

use crate::config::GateConfig;

/// Largest file of users or key that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Least length of a secret that tokens are verified with: that of HMAC-SHA256's output (RFC 7518 section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// How PEM begins (RFC 7468).
const PEM_BEGIN: &[u8] = b"-----BEGIN ";
/// How far a client's clock may be off.
const LEEWAY_SECS: u64 = 30;

/// What a gate is made of cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// A file cannot be read.
    #[error(
        "cannot read `{path}` ({key}): {source}. Give the path of a readable file of at most 16 MiB, or leave the key out"
    )]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of the file of users.
    #[error(
        "{path}:{line}: a line is `user:password`, a comment (#) or empty; the user is not empty and named once"
    )]
    User {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// The key of tokens.
    #[error(
        "`{path}` holds no key that tokens can be verified with: give a public key (PEM: RSA, EC P-256 or P-384, Ed25519), or a shared \
         secret of at least {SECRET_BYTES_MIN} bytes"
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
}

/// What clients must prove.
#[derive(Debug)]
pub struct Gate {
    users: Option<Vec<User>>,
    tokens: Option<Tokens>,
}

struct User {
    name: String,
    password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
}

impl Gate {
    /// The gate that `config` asks for; `None` where it asks for nothing.
    ///
    /// # Errors
    /// [`GateError`] with the file and what it should be.
    pub fn load(config: &GateConfig) -> Result<Option<Gate>, GateError> {
        let users = config.basic_users.as_deref().map(users).transpose()?;
        let tokens = match &config.jwt_key {
            Some(path) => Some(tokens(path, config)?),
            None => None,
        };
        Ok((users.is_some() || tokens.is_some()).then_some(Gate { users, tokens }))
    }

    /// Who the client of `request` is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, saying what is needed and never how near the client came.
    pub fn check(&self, request: &Request) -> Result<String, Status> {
        let header = request
            .headers()
            .get(b"authorization")
            .and_then(|value| std::str::from_utf8(value).ok());
        let (scheme, credentials) = header
            .and_then(|header| header.split_once(' '))
            .unwrap_or_default();
        let owner = if scheme.eq_ignore_ascii_case("basic") {
            self.basic(credentials.trim())
        } else if scheme.eq_ignore_ascii_case("bearer") {
            self.bearer(credentials.trim())
        } else {
            None
        };
        owner.ok_or_else(|| self.refusal())
    }

    fn basic(&self, credentials: &str) -> Option<String> {
        let decoded = BASE64.decode(credentials).ok()?;
        let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        let user = self.users.as_ref()?.iter().find(|user| user.name == name)?;
        // In a time that does not depend on where they differ.
        aws_lc_rs::constant_time::verify_slices_are_equal(user.password.as_bytes(), password.as_bytes())
            .ok()?;
        Some(format!("basic:{name}"))
    }

    fn bearer(&self, token: &str) -> Option<String> {
        let tokens = self.tokens.as_ref()?;
        let verified = jsonwebtoken::decode::<Claims>(token, &tokens.key, &tokens.validation).ok()?;
        Some(format!("jwt:{}", verified.claims.sub))
    }

    fn refusal(&self) -> Status {
        let needed = match (&self.users, &self.tokens) {
            (Some(_), Some(_)) => {
                "`Basic` with a known user and its password, or `Bearer` with a valid token"
            }
            (Some(_), None) => "`Basic` with a known user and its password",
            _ => "`Bearer` with a valid token",
        };
        Status::new(
            Code::Unauthenticated,
            format!("the metadata `authorization` must be {needed}"),
        )
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, GateError> {
    let read = || {
        let len = std::fs::metadata(path)?.len();
        if len > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("it has {len} bytes")));
        }
        std::fs::read(path)
    };
    read().map_err(|source| GateError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}

fn users(path: &Path) -> Result<Vec<User>, GateError> {
    let text = String::from_utf8_lossy(&read("basic_users", path)?).into_owned();
    let mut users: Vec<User> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, password)) if !name.is_empty() && users.iter().all(|user| user.name != name) => users
                .push(User {
                    name: name.to_owned(),
                    password: password.to_owned(),
                }),
            _ => {
                return Err(GateError::User {
                    path: path.to_owned(),
                    line: index + 1,
                });
            }
        }
    }
    Ok(users)
}

fn tokens(path: &Path, config: &GateConfig) -> Result<Tokens, GateError> {
    let bytes = read("jwt_key", path)?;
    let key = decoding_key(&bytes).ok_or_else(|| GateError::Key {
        path: path.to_owned(),
    })?;
    // The algorithms are those of the key's kind: a token cannot choose another kind.
    let mut validation = Validation::new_for_family(key.family());
    validation.leeway = LEEWAY_SECS;
    validation.validate_nbf = true;
    validation.validate_aud = !config.jwt_audience.is_empty();
    let mut required = vec!["exp"];
    if validation.validate_aud {
        validation.set_audience(&[&config.jwt_audience]);
        required.push("aud");
    }
    if !config.jwt_issuer.is_empty() {
        validation.set_issuer(&[&config.jwt_issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    Ok(Tokens { key, validation })
}

/// The key in a file: PEM of a public key, whatever its kind, or else a secret.
fn decoding_key(bytes: &[u8]) -> Option<DecodingKey> {
    let is_pem = bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN);
    if is_pem {
        return DecodingKey::from_ed_pem(bytes)
            .or_else(|_| DecodingKey::from_ec_pem(bytes))
            .or_else(|_| DecodingKey::from_rsa_pem(bytes))
            .ok();
    }
    let secret = bytes.trim_ascii();
    (secret.len() >= SECRET_BYTES_MIN).then(|| DecodingKey::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use ringgate_http2::HeaderList;

    use super::*;

    const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

    fn gate(config: &GateConfig) -> Gate {
        Gate::load(config).expect("loads").expect("asks for something")
    }

    fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> Option<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        Some(path)
    }

    fn request(authorization: Option<&str>) -> Request {
        let mut headers = HeaderList::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/dataplane.proto.v1.DataPlaneService/OpenChannel"),
            (":authority", "gateway"),
            ("content-type", "application/grpc"),
        ] {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        if let Some(value) = authorization {
            headers.push(b"authorization", value.as_bytes());
        }
        Request::parse(headers).expect("a request")
    }

    fn check(gate: &Gate, authorization: &str) -> Result<String, Code> {
        gate.check(&request(Some(authorization)))
            .map_err(|status| status.code())
    }

    fn basic(user: &str) -> String {
        format!("Basic {}", BASE64.encode(user))
    }

    fn token(claims: &serde_json::Value, secret: &[u8]) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signed");
        format!("Bearer {token}")
    }

    #[test]
    fn nothing_configured_is_no_gate() {
        assert!(Gate::load(&GateConfig::default()).expect("loads").is_none());
    }

    #[test]
    fn a_password_opens_and_a_wrong_one_does_not() {
        let folder = tempfile::tempdir().expect("folder");
        let gate = gate(&GateConfig {
            basic_users: file(
                &folder,
                "users",
                b"# agents\nann:secret:with:colons\n\nben:other\n",
            ),
            ..GateConfig::default()
        });
        assert_eq!(
            check(&gate, &basic("ann:secret:with:colons")),
            Ok("basic:ann".to_owned())
        );
        assert_eq!(
            check(&gate, &basic("ben:other").replace("Basic", "basic")),
            Ok("basic:ben".to_owned())
        );
        for wrong in ["ann:other", "ann:", "ann", ":", "carl:other", "# agents:"] {
            assert_eq!(check(&gate, &basic(wrong)), Err(Code::Unauthenticated), "{wrong}");
        }
        for wrong in ["", "Basic", "Basic !", "Bearer ann", "Digest x"] {
            assert_eq!(check(&gate, wrong), Err(Code::Unauthenticated), "{wrong}");
        }
        let status = gate.check(&request(None)).expect_err("nothing shown");
        assert!(status.to_string().contains("`Basic`"), "{status}");
    }

    #[test]
    fn a_token_opens_for_its_subject_while_it_is_valid() {
        let folder = tempfile::tempdir().expect("folder");
        let gate = gate(&GateConfig {
            jwt_key: file(&folder, "secret", SECRET),
            jwt_audience: "ringgate".to_owned(),
            jwt_issuer: "acme".to_owned(),
            ..GateConfig::default()
        });
        let now = jsonwebtoken::get_current_timestamp();
        let good = serde_json::json!({"sub": "ann", "aud": "ringgate", "iss": "acme", "exp": now + 600});
        assert_eq!(check(&gate, &token(&good, SECRET)), Ok("jwt:ann".to_owned()));
        assert_eq!(
            check(
                &gate,
                &token(&good, b"another secret of thirty-two bytes and more")
            ),
            Err(Code::Unauthenticated)
        );
        for (claim, value) in [
            ("exp", serde_json::json!(now - 600)),
            ("exp", serde_json::Value::Null),
            ("aud", "elsewhere".into()),
            ("aud", serde_json::Value::Null),
            ("iss", "somebody".into()),
            ("iss", serde_json::Value::Null),
            ("nbf", serde_json::json!(now + 600)),
        ] {
            let mut wrong = good.clone();
            wrong[claim] = value;
            assert_eq!(
                check(&gate, &token(&wrong, SECRET)),
                Err(Code::Unauthenticated),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_token_cannot_choose_how_it_is_verified() {
        let folder = tempfile::tempdir().expect("folder");
        let public = include_bytes!("testdata/ed25519.pub.pem");
        let gate = gate(&GateConfig {
            jwt_key: file(&folder, "key.pem", public),
            ..GateConfig::default()
        });
        // Signed with the public key as if it were a shared secret.
        let claims =
            serde_json::json!({"sub": "mallory", "exp": jsonwebtoken::get_current_timestamp() + 600});
        assert_eq!(check(&gate, &token(&claims, public)), Err(Code::Unauthenticated));
    }

    #[test]
    fn files_that_cannot_be_used_say_why() {
        let folder = tempfile::tempdir().expect("folder");
        let load = |config| Gate::load(&config).expect_err("refused").to_string();
        let error = load(GateConfig {
            basic_users: file(&folder, "users", b"ann:x\nnonsense\n"),
            ..GateConfig::default()
        });
        assert!(error.contains("users:2"), "{error}");
        for key in [
            &b"short"[..],
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let error = load(GateConfig {
                jwt_key: file(&folder, "key", key),
                ..GateConfig::default()
            });
            assert!(error.contains("public key"), "{error}");
        }
        let error = load(GateConfig {
            jwt_key: Some(folder.path().join("missing")),
            ..GateConfig::default()
        });
        assert!(error.contains("jwt_key"), "{error}");
    }
}
