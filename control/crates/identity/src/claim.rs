//! Whom a credential names, whoever made it: for logs. Nothing is verified here, so nobody may be let in by it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::extensions::GeneralName;

use crate::certificate;
use crate::subject::URI_BYTES_MAX;
use crate::token::TOKEN_BYTES_MAX;

/// What the URI of every subject begins with.
const SCHEME: &str = "agp://";

/// The first subject that a certificate names.
pub fn certificate(leaf: &CertificateDer<'_>) -> Option<String> {
    let parsed = certificate::parse(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => sensible(uri),
        _ => None,
    })
}

/// The subject that a bearer token names.
pub fn token(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    sensible(&claims.sub)
}

fn sensible(uri: &str) -> Option<String> {
    let sensible = uri.starts_with(SCHEME) && uri.len() <= URI_BYTES_MAX && !uri.contains(char::is_control);
    sensible.then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_nobody_claims_nothing() {
        assert_eq!(certificate(&CertificateDer::from(&b"x"[..])), None);
        let with = |claims: &str| token(&format!("x.{}.x", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(
            with(r#"{"sub":"agp://d/a/b/c/1","exp":1}"#).as_deref(),
            Some("agp://d/a/b/c/1")
        );
        let long = format!(r#"{{"sub":"agp://{}"}}"#, "x".repeat(URI_BYTES_MAX));
        for claims in [
            "",
            "{}",
            r#"{"sub":1}"#,
            r#"{"sub":"alice"}"#,
            "{\"sub\":\"agp://\\n\"}",
            &long,
        ] {
            assert_eq!(with(claims), None, "{claims}");
        }
        for text in ["", "x", "x.y.z", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(token(text), None, "{text}");
        }
    }
}
