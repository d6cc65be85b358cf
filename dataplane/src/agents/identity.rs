//! Who calls.

use ringgate_gateway::{EventKind, SecurityEvent};
use ringgate_grpc::{Code, Request, Status};
use ringgate_identity::claim;
use ringgate_policy::{Identity, Rejection};

use crate::rules::Rules;
use crate::shard::Peer;

/// How a token is presented (RFC 9449 section 7.1).
const SCHEME: &[u8] = b"dpop ";

/// What is known of a caller before it says anything.
pub(super) struct Caller {
    pub(super) identity: Identity,
    /// The call that a token's proof in Register must be made for; empty where none is looked at.
    pub(super) proof_uri: String,
}

/// Who makes a call: by the certificate of its connection, or else by the token and proof in its headers, or nobody yet.
///
/// # Errors
/// What is wrong with what it shows.
pub(super) fn of(
    peer: &Peer,
    request: &Request,
    rules: &Rules,
    unix_seconds: i64,
) -> Result<Caller, Rejection> {
    let known = |identity| Caller {
        identity,
        proof_uri: String::new(),
    };
    if let Some(chain) = &peer.certificate {
        return rules.connected(chain, &peer.identity, unix_seconds).map(known);
    }
    if !rules.is_strict() {
        return Ok(known(Identity::Declared));
    }
    let authority = request
        .authority()
        .map(String::from_utf8_lossy)
        .unwrap_or_default();
    let uri = rules.proof_uri(&authority, request.path());
    let Some(token) = request.headers().get(b"authorization") else {
        return Ok(Caller {
            identity: Identity::Declared,
            proof_uri: uri.unwrap_or_default(),
        });
    };
    let uri = uri.ok_or_else(|| Rejection {
        code: "PROOF_MISMATCH",
        reason: format!(
            "this node is not known as {authority:?}; call it by a name in its `hosts`, and make the proof for that"
        ),
    })?;
    let (scheme, token) = token.split_at_checked(SCHEME.len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(Rejection {
            code: "TOKEN_MALFORMED",
            reason: "authorization must be `DPoP <token>`, with the proof in `dpop`".to_owned(),
        });
    }
    let proof = request.headers().get(b"dpop").unwrap_or_default();
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let identity = rules.token(text(token).trim(), text(proof), &uri, unix_seconds)?;
    Ok(known(identity))
}

/// The token in the headers of a call.
fn shown(request: &Request) -> Option<&str> {
    let (scheme, token) = request
        .headers()
        .get(b"authorization")?
        .split_at_checked(SCHEME.len())?;
    let token = std::str::from_utf8(token).ok()?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token.trim())
}

/// How a caller that is refused is told, and the operator.
pub(super) fn refused(rejection: &Rejection, peer: &Peer, request: &Request) -> (Status, SecurityEvent) {
    let text = format!("{}: {}", rejection.code, rejection.reason);
    let claimed = match peer.certificate.as_ref().and_then(|chain| chain.first()) {
        Some(leaf) => claim::certificate(leaf),
        None => shown(request).and_then(claim::token),
    };
    let event = SecurityEvent {
        kind: EventKind::Unauthenticated,
        identity: claimed.unwrap_or_default(),
        address: peer.address.to_string(),
        detail: format!("opening a stream: {text}"),
    };
    (Status::new(Code::Unauthenticated, text), event)
}

/// How the operator is told of a client without a stream that must leave because its certificate is no longer good.
pub(super) fn dismissed(rejection: &Rejection, peer: &Peer) -> SecurityEvent {
    let leaf = peer.certificate.as_ref().and_then(|chain| chain.first());
    SecurityEvent {
        kind: EventKind::of_rejection(rejection),
        identity: leaf.and_then(claim::certificate).unwrap_or_default(),
        address: peer.address.to_string(),
        detail: format!(
            "closing an idle connection: {}: {}",
            rejection.code, rejection.reason
        ),
    }
}
