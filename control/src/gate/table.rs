//! Who may call what: one table for all services.

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody; what authorises the call is in the request, or nothing is needed.
    Anyone,
    /// Everyone with a good credential. The handler sees to it that agents and nodes touch only what is theirs.
    Verified,
    /// Data planes.
    Node,
    /// Data planes and operators.
    NodeOrOperator,
    /// Operators.
    Operator,
}

/// What a method does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only reads.
    Reads,
    /// It changes something: it is written to the audit log, and operators who may only look are refused.
    Changes,
}

/// How long a call lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is answered once.
    Call,
    /// It stays, and ends when the caller's credential does.
    Stream,
}

/// A method.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// `Service/Method`, as the audit log names it.
    pub name: &'static str,
    /// Who may call it.
    pub who: Who,
    /// What it does.
    pub effect: Effect,
    /// How long a call lasts.
    pub life: Life,
}

macro_rules! methods {
    ($package:literal: $($service:ident { $($method:ident $who:ident $effect:ident $life:ident;)* })*) => {
        &[$($(Method {
            path: concat!("/", $package, ".", stringify!($service), "/", stringify!($method)),
            name: concat!(stringify!($service), "/", stringify!($method)),
            who: Who::$who,
            effect: Effect::$effect,
            life: Life::$life,
        },)*)*]
    };
}

/// The services of `ringgate.control.v1`.
const CONTROL: &[Method] = methods! { "ringgate.control.v1":
    Identity {
        GetTrustBundle   Anyone   Reads   Call;
        Enroll           Anyone   Changes Call;
        Renew            Verified Changes Call;
        IssueToken       Verified Changes Call;
        Revoke           Verified Changes Call;
        ListRevocations  NodeOrOperator Reads Call;
        GetCrl           Verified Reads   Call;
        CreateJoinToken  Operator Changes Call;
        ListJoinTokens   Operator Reads   Call;
        DeleteJoinToken  Operator Changes Call;
        ListIssued       Operator Reads   Call;
        VerifyCredential Verified Reads   Call;
    }
    Policy {
        GetPolicy        Operator Reads   Call;
        ApplyPolicy      Operator Changes Call;
        CheckPolicy      Operator Reads   Call;
        Why              Operator Reads   Call;
        SetGrant         Operator Changes Call;
        ListGrants       Operator Reads   Call;
    }
    Config {
        GetConfig        Operator Reads   Call;
        ApplyConfig      Operator Changes Call;
        WatchConfig      Operator Reads   Stream;
        ListConfigHistory Operator Reads  Call;
        RollbackConfig   Operator Changes Call;
    }
    Registry {
        ListAgents       Operator Reads   Call;
        WatchAgents      Operator Reads   Stream;
        ListNodes        Operator Reads   Call;
    }
    Nodes {
        Attach           Node     Changes Stream;
    }
    KeyPackages {
        PublishKeyPackages  Verified Changes Call;
        ClaimKeyPackages    Verified Changes Call;
        WithdrawKeyPackages Verified Changes Call;
        GetKeyPackagePool   Verified Reads   Call;
        WatchKeyPackagePool Verified Reads   Stream;
    }
    Groups {
        GetDeliveryService  Verified Reads   Call;
        CreateGroup         Verified Changes Call;
        SubmitCommit        Verified Changes Call;
        SubmitProposal      Verified Changes Call;
        GetGroup            Verified Reads   Call;
        GetGroupInfo        Verified Reads   Call;
        RequestReAdd        Verified Changes Call;
        ReportInvalidCommit Verified Changes Call;
        ReportEpoch         Verified Changes Call;
        DeleteGroup         Verified Changes Call;
        WatchGroups         Verified Reads   Stream;
        TakeMail            Verified Changes Call;
    }
    Audit {
        ListAudit        Operator Reads   Call;
        WatchSecurityEvents Operator Reads Stream;
    }
};

/// Health says only that the process serves, so that load balancers can ask.
const HEALTH: &[Method] = methods! { "grpc.health.v1":
    Health {
        Check Anyone Reads Call;
        Watch Anyone Reads Stream;
        List  Anyone Reads Call;
    }
};

const REFLECTION: &[Method] = methods! { "grpc.reflection.v1":
    ServerReflection {
        ServerReflectionInfo Verified Reads Stream;
    }
};

const REFLECTION_ALPHA: &[Method] = methods! { "grpc.reflection.v1alpha":
    ServerReflection {
        ServerReflectionInfo Verified Reads Stream;
    }
};

/// What is not in the table.
const UNKNOWN: Method = Method {
    path: "",
    name: "unknown method",
    who: Who::Verified,
    effect: Effect::Reads,
    life: Life::Call,
};

/// The method at a path. One that is not in the table can be called with a good credential, and is then found not to exist.
#[must_use]
pub fn method(path: &str) -> &'static Method {
    [CONTROL, HEALTH, REFLECTION, REFLECTION_ALPHA]
        .into_iter()
        .flatten()
        .find(|method| method.path == path)
        .unwrap_or(&UNKNOWN)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_is_in_the_table_with_its_life() {
        let files =
            FileDescriptorSet::decode(ringgate_proto::control::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut known = 0;
        for file in &files.file {
            for service in &file.service {
                for described in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), described.name());
                    let found = method(&path);
                    assert_eq!(found.path, path, "missing in the table");
                    let streams = described.server_streaming() || described.client_streaming();
                    assert_eq!(found.life == Life::Stream, streams, "{path}");
                    known += 1;
                }
            }
        }
        assert_eq!(known, CONTROL.len(), "the table names methods that are not there");
    }

    #[test]
    fn only_these_need_no_credential() {
        let open: Vec<_> = CONTROL
            .iter()
            .filter(|method| method.who == Who::Anyone)
            .collect();
        let names: Vec<_> = open.iter().map(|method| method.name).collect();
        assert_eq!(names, ["Identity/GetTrustBundle", "Identity/Enroll"]);
    }
}
