//! Refusals as callers see them: a gRPC status with a reason of a closed list, and a sentence that says what to do.

use ringgate_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of all reasons, in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "ringgate.control";

/// A refusal with its reason, for programs (`google.rpc.ErrorInfo`), and a sentence, for people.
pub fn refusal(code: Code, reason: &str, sentence: impl Into<String>) -> Status {
    refusal_with(code, reason, sentence, [])
}

/// A refusal that also says what it is about, by key and value.
pub fn refusal_with<const N: usize>(
    code: Code,
    reason: &str,
    sentence: impl Into<String>,
    about: [(&str, String); N],
) -> Status {
    let about = about.map(|(key, value)| (key.to_owned(), value));
    let details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::from(about));
    Status::with_error_details(code, sentence, details)
}

/// What a caller is told when the store does not do what it should.
pub fn store_refusal(error: &StoreError) -> Status {
    let (code, reason) = match error {
        StoreError::Conflict { .. } => (Code::Aborted, "CONFLICT"),
        StoreError::Unavailable { .. } => (Code::Unavailable, "STORE_UNAVAILABLE"),
        StoreError::TooLarge { .. } => (Code::ResourceExhausted, "TOO_LARGE"),
        StoreError::Compacted { .. } => (Code::OutOfRange, "HISTORY_GONE"),
        _ => (Code::Internal, "STORE_DAMAGED"),
    };
    refusal(code, reason, error.to_string())
}

/// The reason of a status: that of its `ErrorInfo`, or the name of its code.
pub fn reason_of(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => info.reason,
        None => format!("{:?}", status.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_reason() {
        let status = refusal(Code::NotFound, "NOT_FOUND", "there is none");
        assert_eq!(reason_of(&status), "NOT_FOUND");
        assert_eq!(reason_of(&Status::new(Code::Unavailable, "later")), "Unavailable");
    }
}
