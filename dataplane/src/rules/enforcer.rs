//! Rules as the gateway of one core asks them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ringgate_identity::{ProofId, ReplayCache};
use ringgate_policy::{AgentName, Authority, Denial, Identity, Permission, Proof, Rejection, bearing};

use super::{Rules, rejection, time};

/// See the module. The proofs it has seen outlive it: they are those of the core.
#[derive(Debug)]
pub struct Enforcer {
    rules: Arc<Rules>,
    replays: Rc<RefCell<ReplayCache>>,
}

impl Enforcer {
    /// Enforces `rules`, with the proofs that this core has seen.
    pub fn new(rules: Arc<Rules>, replays: Rc<RefCell<ReplayCache>>) -> Enforcer {
        Enforcer { rules, replays }
    }
}

impl Authority for Enforcer {
    fn decide(&self, who: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        if what == Permission::Register {
            bearing(who, name)?;
        }
        match &self.rules.access {
            None => Ok(()),
            Some(access) => access.check(name, self.rules.context(who), what),
        }
    }

    fn may_forbid(&self, what: Permission<'_>) -> bool {
        let access = self.rules.access.as_ref();
        access.is_some_and(|access| access.may_forbid(what))
    }

    fn examine(&self, who: &Identity, unix_seconds: i64) -> Result<(), Rejection> {
        self.rules.examine(who, unix_seconds)
    }

    fn authenticate(
        &self,
        token: &str,
        proof: &[u8],
        uri: &str,
        unix_seconds: i64,
    ) -> Result<Identity, Rejection> {
        let proof =
            std::str::from_utf8(proof).map_err(|_| rejection(ringgate_identity::Reason::ProofMalformed))?;
        self.rules.token(token, proof, uri, unix_seconds)
    }

    fn use_up(&self, proof: &Proof, unix_seconds: i64) -> Result<(), Rejection> {
        let entered = self
            .replays
            .borrow_mut()
            .enter(ProofId(proof.0), time(unix_seconds));
        entered.map_err(rejection)
    }
}
