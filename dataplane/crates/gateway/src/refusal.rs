//! Why an agent's message could not be carried out.

use std::borrow::Cow;

use crate::code::Code;

/// What an `Error` tells, its id aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// What was wrong and what to do.
    pub(crate) message: Cow<'static, str>,
    pub(crate) retryable: bool,
    pub(crate) retry_after_ms: u32,
}

impl Refusal {
    /// One that trying again will not change.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: false,
            retry_after_ms: 0,
        }
    }

    /// One that may be gone later.
    pub(crate) fn retryable(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            retryable: true,
            ..Self::new(code, message)
        }
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }
}
