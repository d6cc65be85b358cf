//! What a check found.

use serde::Serialize;

/// How bad a finding is, from good to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Nothing is wrong, but one should know.
    Note,
    /// Works, but slower, less evenly or with less room than it could.
    Warning,
    /// The gateway cannot run.
    Fatal,
}

impl Verdict {
    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Warning => "WARNING",
            Verdict::Fatal => "FATAL",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    pub remedy: Option<String>,
}

impl Finding {
    pub(crate) fn good(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            verdict: Verdict::Good,
            found: found.into(),
            remedy: None,
        }
    }

    pub(crate) fn note(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Note,
            ..Finding::good(check, found)
        }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            verdict: Verdict::Warning,
            remedy: Some(remedy.into()),
            ..Finding::good(check, found)
        }
    }

    pub(crate) fn fatal(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Fatal,
            ..Finding::warning(check, found, remedy)
        }
    }

    pub(crate) fn with_remedy(self, remedy: impl Into<String>) -> Finding {
        Finding {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

impl From<ringgate_uring::Finding> for Finding {
    fn from(finding: ringgate_uring::Finding) -> Finding {
        Finding {
            check: finding.check,
            verdict: match finding.severity {
                ringgate_uring::Severity::Good => Verdict::Good,
                ringgate_uring::Severity::Warning => Verdict::Warning,
                ringgate_uring::Severity::Fatal => Verdict::Fatal,
            },
            found: finding.found,
            remedy: finding.remedy,
        }
    }
}
