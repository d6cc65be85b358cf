//! Join tokens: secrets that authorise enrolments.
//!
//! A token reads `rgjoin.<id>.<secret>`. The store holds the SHA-256 of the secret; the secret has 256 random bits, so that nothing
//! is gained by a slower hash. A used-up token stays until it has expired, so that whoever comes too late is told so.

use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringgate_identity::Subject;
use ringgate_proto::control::v1::JoinToken;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::errors::refusal;
use crate::ledger::hex;

const SCHEME: &str = "rgjoin";
/// How long an expired token is still kept, so that it is refused as expired and not as unknown.
pub(super) const KEPT_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Enrolments that one token may authorise.
pub(super) const USES_MAX: u32 = 1_000_000;

/// A new token: what is stored, and the secret text that is told once.
pub(super) fn create(
    identity: String,
    uses: u32,
    hosts: Vec<String>,
    not_after_unix: i64,
) -> Result<(JoinToken, String), Status> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    let filled = rand::fill(&mut id).and_then(|()| rand::fill(&mut secret));
    filled.map_err(|_| Status::internal("the system gives no random numbers"))?;
    let (id, secret) = (hex(&id), URL_SAFE_NO_PAD.encode(secret));
    let text = format!("{SCHEME}.{id}.{secret}");
    let stored = JoinToken {
        id,
        token: hash(&secret),
        identity,
        uses_left: uses,
        not_after_unix,
        hosts,
    };
    Ok((stored, text))
}

/// The id and the secret of a token.
///
/// # Errors
/// `JOIN_TOKEN_UNKNOWN` when it is none.
pub(super) fn parse(token: &str) -> Result<(&str, &str), Status> {
    let mut parts = token.trim().splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(SCHEME), Some(id), Some(secret))
            if id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Ok((id, secret))
        }
        _ => Err(unknown()),
    }
}

/// Whether a stored token authorises somebody who shows this secret, now.
///
/// # Errors
/// `JOIN_TOKEN_UNKNOWN`, `JOIN_TOKEN_EXPIRED`, `JOIN_TOKEN_USED`, `IDENTITY_NOT_ALLOWED`, `HOST_NOT_ALLOWED`.
pub(super) fn check(
    stored: Option<&JoinToken>,
    secret: &str,
    subject: &Subject,
    hosts: &[String],
    now_unix: i64,
) -> Result<(), Status> {
    let stored = stored.ok_or_else(unknown)?;
    verify_slices_are_equal(stored.token.as_bytes(), hash(secret).as_bytes()).map_err(|_| unknown())?;
    if stored.not_after_unix <= now_unix {
        return Err(refusal(
            Code::PermissionDenied,
            "JOIN_TOKEN_EXPIRED",
            "the join token has expired; ask an operator for another (`ringgate join-token create`)",
        ));
    }
    if stored.uses_left == 0 {
        return Err(refusal(
            Code::PermissionDenied,
            "JOIN_TOKEN_USED",
            "the join token has been used as often as it may be; ask an operator for another (`ringgate join-token create`)",
        ));
    }
    if !covers(&stored.identity, subject) {
        return Err(not_allowed(&format!(
            "the join token is for {}, not for {subject}",
            stored.identity
        )));
    }
    match hosts.iter().find(|host| !stored.hosts.contains(host)) {
        None => Ok(()),
        Some(host) => Err(refusal(
            Code::PermissionDenied,
            "HOST_NOT_ALLOWED",
            format!("the join token is not for the host {host}; create one with `--host {host}`"),
        )),
    }
}

/// Whether a pattern of identities covers one: segment by segment, `*` stands for any one segment.
pub(super) fn covers(pattern: &str, subject: &Subject) -> bool {
    let identity = subject.to_string();
    let (mut wanted, mut given) = (pattern.split('/'), identity.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == "*" || wanted == given => {}
            _ => return false,
        }
    }
}

/// Whether something is a pattern of identities: an identity in which segments, but not the word that says its kind, may be `*`.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let example: Vec<&str> = pattern
        .split('/')
        .map(|segment| if segment == "*" { "x" } else { segment })
        .collect();
    // The name of a pseudonym is random: only all of them can be meant.
    pattern == "pseudonym/*" || Subject::from_path(&example.join("/")).is_ok()
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn unknown() -> Status {
    refusal(
        Code::PermissionDenied,
        "JOIN_TOKEN_UNKNOWN",
        "there is no such join token; give the text that `ringgate join-token create` printed, unchanged",
    )
}

pub(super) fn not_allowed(sentence: &str) -> Status {
    refusal(Code::PermissionDenied, "IDENTITY_NOT_ALLOWED", sentence)
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::reason_of;

    fn subject(path: &str) -> Subject {
        Subject::from_path(path).expect(path)
    }

    #[test]
    fn a_token_authorises_what_it_is_for_and_nothing_else() {
        let (mut stored, text) = create("acme/sales/*/*".into(), 1, vec![], 1_000).expect("random numbers");
        let (id, secret) = parse(&text).expect("its own text");
        assert_eq!(id, stored.id);
        assert!(
            !format!("{stored:?}").contains(secret),
            "the secret is not stored"
        );
        let agent = subject("acme/sales/bot/1");
        check(Some(&stored), secret, &agent, &[], 999).expect("good");
        let reason = |stored: Option<&JoinToken>, secret: &str, path: &str, hosts: &[String], now| {
            reason_of(&check(stored, secret, &subject(path), hosts, now).expect_err("refused"))
        };
        let own = "acme/sales/bot/1";
        assert_eq!(reason(None, secret, own, &[], 999), "JOIN_TOKEN_UNKNOWN");
        assert_eq!(
            reason(Some(&stored), "other", own, &[], 999),
            "JOIN_TOKEN_UNKNOWN"
        );
        assert_eq!(
            reason(Some(&stored), secret, own, &[], 1_000),
            "JOIN_TOKEN_EXPIRED"
        );
        assert_eq!(
            reason(Some(&stored), secret, "acme/legal/bot/1", &[], 999),
            "IDENTITY_NOT_ALLOWED"
        );
        assert_eq!(
            reason(Some(&stored), secret, own, &["h".into()], 999),
            "HOST_NOT_ALLOWED"
        );
        stored.uses_left = 0;
        assert_eq!(reason(Some(&stored), secret, own, &[], 999), "JOIN_TOKEN_USED");
    }

    #[test]
    fn patterns_cover_segment_by_segment() {
        for (pattern, path, covered) in [
            ("acme/a/b/c", "acme/a/b/c", true),
            ("acme/*/*/*", "acme/a/b/c", true),
            ("acme/*", "acme/a/b/c", false),
            ("*/*/*/*", "node/n1", false),
            ("node/*", "node/n1", true),
            ("*/*", "operator/admin", true),
            ("pseudonym/*", "node/n1", false),
        ] {
            assert_eq!(covers(pattern, &subject(path)), covered, "{pattern} {path}");
        }
        for (text, good) in [
            ("acme/a/b/c", true),
            ("acme/*/*/*", true),
            ("node/*", true),
            ("operator/anna", true),
            ("pseudonym/*", true),
            ("*/*", false),
            ("acme/*", false),
            ("", false),
            ("a//b/c", false),
        ] {
            assert_eq!(is_pattern(text), good, "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_unknown() {
        for text in [
            "",
            "rgjoin",
            "rgjoin.abc.def",
            "x.0123456789abcdef.s",
            "rgjoin.0123456789abcdeg.s",
        ] {
            assert_eq!(reason_of(&parse(text).expect_err(text)), "JOIN_TOKEN_UNKNOWN");
        }
    }
}
