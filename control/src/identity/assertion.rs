//! Assertions (JWT) of configured issuers: OpenID Connect, or whatever signs alike.
//!
//! An assertion authorises what the issuer's `identity` pattern becomes when its `{claim}`s are filled in. Keys come from a JWKS, a
//! file or an https URL; they are fetched again when a key is unknown, at most every [`REFRESH_MIN`], and when they are older
//! than [`KEYS_AGE_MAX`]. When that fails, the keys that are there go on to be used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use ringgate_identity::Subject;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::fetch::{self, FetchError};
use super::join::{covers, not_allowed};
use crate::errors::refusal;
use crate::settings::IssuerSettings;

/// Longest assertion in bytes; those of known issuers take 1 to 2 KiB.
const ASSERTION_BYTES_MAX: usize = 16 * 1024;
/// How far the clocks of issuer and this process may be apart.
const LEEWAY_SECONDS: u64 = 30;
/// Shortest time between two fetches of keys, so that assertions with unknown keys cannot make this process a nuisance.
const REFRESH_MIN: Duration = Duration::from_secs(30);
/// Age of keys at which they are fetched again.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3600);
/// What is taken: signatures by keys that only the issuer has. Never a shared secret, never none.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The configured issuers.
#[derive(Debug)]
pub(super) struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    set: Option<Arc<JwkSet>>,
    /// When they were asked for last, and when they came last.
    asked: Option<Instant>,
    fetched: Option<Instant>,
}

impl Issuers {
    pub(super) fn new(settings: &[IssuerSettings]) -> Issuers {
        let issuer = |settings: &IssuerSettings| Issuer {
            settings: settings.clone(),
            keys: Mutex::default(),
        };
        Issuers(settings.iter().map(issuer).collect())
    }

    /// Whether an assertion authorises to enrol somebody. Gives the issuer, for the log.
    ///
    /// # Errors
    /// `ASSERTION_INVALID` with what is wrong, `IDENTITY_NOT_ALLOWED`.
    pub(super) async fn check(&self, assertion: &str, subject: &Subject) -> Result<String, Status> {
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(invalid("it is longer than 16 KiB"));
        }
        let named = named_issuer(assertion).ok_or_else(|| invalid("it is no JWT with an issuer"))?;
        // Several entries may name one issuer: for several audiences.
        let mut refused = None;
        for issuer in self.0.iter().filter(|issuer| issuer.settings.issuer == named) {
            match issuer.check(assertion, subject).await {
                Ok(()) => return Ok(named),
                Err(status) => refused = Some(status),
            }
        }
        Err(refused.unwrap_or_else(|| {
            invalid(&format!(
                "its issuer {named} is not configured here (section `issuers`)"
            ))
        }))
    }
}

impl Issuer {
    async fn check(&self, assertion: &str, subject: &Subject) -> Result<(), Status> {
        let header = decode_header(assertion).map_err(|error| invalid(&error.to_string()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("its algorithm is not allowed: RS, PS, ES and EdDSA are"));
        }
        let key = self.key(header.kid.as_deref()).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Map<String, Value>>(assertion, &key, &validation)
            .map_err(|error| invalid(&error.to_string()))?
            .claims;
        let pattern = fill(&self.settings.identity, &claims)?;
        if covers(&pattern, subject) {
            return Ok(());
        }
        Err(not_allowed(&format!(
            "the assertion is for {pattern}, not for {subject}"
        )))
    }

    async fn key(&self, id: Option<&str>) -> Result<DecodingKey, Status> {
        let mut keys = self.keys.lock().await;
        let now = Instant::now();
        let older = |at: Option<Instant>, age| at.is_none_or(|at| now.duration_since(at) > age);
        let found = keys.set.as_deref().and_then(|set| find(set, id));
        let wanted = found.is_none() || older(keys.fetched, KEYS_AGE_MAX);
        if wanted && older(keys.asked, REFRESH_MIN) {
            keys.asked = Some(now);
            match self.fetch().await {
                Ok(set) => {
                    keys.set = Some(Arc::new(set));
                    keys.fetched = Some(now);
                }
                Err(error) => {
                    tracing::warn!(issuer = self.settings.issuer, %error, "cannot get the issuer's keys");
                }
            }
        }
        let set = keys.set.as_deref().ok_or_else(|| {
            refusal(
                Code::Unavailable,
                "ISSUER_UNAVAILABLE",
                "the issuer's keys cannot be had now; the log of the control process says why",
            )
        })?;
        find(set, id).ok_or_else(|| invalid("it is signed with a key that its issuer does not publish"))
    }

    async fn fetch(&self) -> Result<JwkSet, FetchError> {
        let jwks = &self.settings.jwks;
        let text = if jwks.starts_with("https://") {
            fetch::https(jwks, &self.settings.jwks_ca).await?
        } else {
            let path = PathBuf::from(jwks);
            tokio::fs::read(&path)
                .await
                .map_err(|source| FetchError::File { path, source })?
        };
        serde_json::from_slice(&text).map_err(FetchError::NoKeys)
    }
}

/// The key with an id; without one, the only key there is.
fn find(set: &JwkSet, id: Option<&str>) -> Option<DecodingKey> {
    let jwk = match id {
        Some(id) => set.find(id)?,
        None => match set.keys.as_slice() {
            [only] => only,
            _ => return None,
        },
    };
    DecodingKey::from_jwk(jwk).ok()
}

/// Who an assertion says that it is of, unverified.
fn named_issuer(assertion: &str) -> Option<String> {
    let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode(assertion).ok()?.claims;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

/// The pattern with claims in the place of their names.
fn fill(pattern: &str, claims: &Map<String, Value>) -> Result<String, Status> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| {
            not_allowed("the issuer's `identity` has a { without a }: ask the operator to mend it")
        })?;
        let value = match claims.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => {
                return Err(invalid(&format!(
                    "it has no claim `{name}` that is text or a number"
                )));
            }
        };
        // A value must not become more than the one segment or the one name that the operator meant.
        if value.is_empty() || value.contains(['/', '*']) {
            return Err(not_allowed(&format!(
                "the claim `{name}` is {value:?}: empty values and those with / or * cannot be part of a name"
            )));
        }
        filled.push_str(before);
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn invalid(why: &str) -> Status {
    refusal(
        Code::PermissionDenied,
        "ASSERTION_INVALID",
        format!(
            "the assertion is not good: {why}; get a new one from a configured issuer, for the audience of this gateway"
        ),
    )
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use ringgate_identity::AgentKey;
    use serde_json::json;

    use super::*;
    use crate::errors::reason_of;

    /// An issuer whose keys are in a file.
    struct Signer {
        key: AgentKey,
        _folder: tempfile::TempDir,
        issuers: Issuers,
    }

    impl Signer {
        fn new() -> Signer {
            use base64::Engine as _;
            let key = AgentKey::generate().expect("random numbers");
            let folder = tempfile::tempdir().expect("a folder");
            let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.public());
            let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": x}]});
            let path = folder.path().join("jwks.json");
            std::fs::write(&path, jwks.to_string()).expect("written");
            let issuers = Issuers::new(&[IssuerSettings {
                issuer: "https://issuer.example".into(),
                audience: "ringgate".into(),
                jwks: path.display().to_string(),
                jwks_ca: PathBuf::new(),
                identity: "acme/ci/{project}/*".into(),
            }]);
            Signer {
                key,
                _folder: folder,
                issuers,
            }
        }

        fn assertion(&self, change: impl FnOnce(&mut Value)) -> String {
            let expires = super::super::join::unix_now() + 600;
            let mut claims =
                json!({"iss": "https://issuer.example", "aud": "ringgate", "exp": expires, "project": "web"});
            change(&mut claims);
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = Some("k1".into());
            let key = EncodingKey::from_ed_der(&self.key.to_pkcs8().expect("a key"));
            encode(&header, &claims, &key).expect("signed")
        }

        async fn reason(&self, assertion: &str, path: &str) -> String {
            let subject = Subject::from_path(path).expect("a name");
            match self.issuers.check(assertion, &subject).await {
                Ok(issuer) => issuer,
                Err(status) => reason_of(&status),
            }
        }
    }

    #[tokio::test]
    async fn an_assertion_authorises_what_its_claims_say() {
        let signer = Signer::new();
        let good = signer.assertion(|_| {});
        assert_eq!(
            signer.reason(&good, "acme/ci/web/1").await,
            "https://issuer.example"
        );
        assert_eq!(
            signer.reason(&good, "acme/ci/other/1").await,
            "IDENTITY_NOT_ALLOWED"
        );
        assert_eq!(signer.reason(&good, "node/n1").await, "IDENTITY_NOT_ALLOWED");
        let wild = signer.assertion(|claims| claims["project"] = json!("*"));
        assert_eq!(
            signer.reason(&wild, "acme/ci/web/1").await,
            "IDENTITY_NOT_ALLOWED"
        );
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_assertion_is_refused() {
        let signer = Signer::new();
        let stranger = Signer::new();
        for bad in [
            String::new(),
            "a.b.c".to_owned(),
            stranger.assertion(|_| {}),
            signer.assertion(|claims| claims["aud"] = json!("other")),
            signer.assertion(|claims| claims["iss"] = json!("https://other.example")),
            signer.assertion(|claims| claims["exp"] = json!(1)),
            signer.assertion(|claims| claims["nbf"] = json!(super::super::join::unix_now() + 600)),
            signer.assertion(|claims| {
                claims.as_object_mut().expect("claims").remove("project");
            }),
        ] {
            assert_eq!(
                signer.reason(&bad, "acme/ci/web/1").await,
                "ASSERTION_INVALID",
                "{bad}"
            );
        }
    }
}
