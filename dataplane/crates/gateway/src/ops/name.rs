//! Names: each has a home core, which serialises claims to it.
//!
//! ```text
//! claimant ── Claim ──► home ── Granted ──► claimant                    the name is free
//!                        │ ── Refused ──► claimant                      a live session has it
//!                        └── Yield ──► owner ── Handover… ──► claimant  resumed (see `resume`)
//!                                        └── NameReleased ──► home ── Granted ──► claimant   taken over
//! claimant ── Settled ──► home                                          it may be claimed again
//! ```

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::hash::Seed;
use hashbrown::HashMap;

use crate::code::Code;
use crate::config::TOKEN_BYTES;
use crate::core_message::{Body, Claim};
use crate::gateway::Gateway;
use crate::ids::{Address, CoreId, Now, SessionId};
use crate::ops::rights::unix_seconds;
use crate::refusal::Refusal;

/// Names whose home is this core.
#[derive(Debug)]
pub(crate) struct Names {
    owners: HashMap<Arc<str>, Owner, Seed>,
    hasher: Seed,
}

#[derive(Debug)]
struct Owner {
    address: Address,
    /// Who is to give it up yet. Until then, and until the owner has settled, nobody else may claim the name.
    previous: Option<Address>,
    token: [u8; TOKEN_BYTES],
    /// What the owner gets if it turns out that there is nothing to resume: a token always means one session.
    fresh_token: [u8; TOKEN_BYTES],
    detached: bool,
}

impl Names {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = Seed::new(seed);
        Self {
            owners: HashMap::with_hasher(hasher),
            hasher,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}

impl Gateway {
    /// The core that serialises claims to a name: the same seen from every core.
    pub(crate) fn home_of(&self, name: &str) -> CoreId {
        CoreId((self.names.hasher.hash_one(name) % u64::from(self.cores)) as u16)
    }

    pub(crate) fn claimed(&mut self, claim: Claim, now: &Now) {
        let Claim {
            name,
            claimant,
            resume,
            token,
            proof,
        } = claim;
        // Whoever uses a proof a second time uses it for the same name, and so asks the same core.
        if let Some(proof) = proof
            && let Err(rejection) = self.authority.use_up(&proof, unix_seconds(now))
        {
            let message = format!("{}: {}", rejection.code, rejection.reason);
            let refusal = Box::new(Refusal::new(Code::Unauthenticated, message));
            let session = claimant.session;
            return self.send(claimant.core, Body::Refused { session, refusal });
        }
        let Some(owner) = self.names.owners.get_mut(&name) else {
            let owner = Owner {
                address: claimant,
                previous: None,
                token,
                fresh_token: token,
                detached: false,
            };
            self.names.owners.insert(Arc::clone(&name), owner);
            return self.send(
                claimant.core,
                Body::Granted {
                    session: claimant.session,
                    name,
                    token,
                },
            );
        };
        let authentic = resume.is_some_and(|shown| same(&shown, &owner.token));
        let refusal = if owner.previous.is_some() {
            Refusal {
                retry_after_ms: 100,
                ..Refusal::retryable(
                    Code::Unavailable,
                    format!("the session of {name} is just being resumed; try again"),
                )
            }
        } else if authentic || owner.detached {
            let previous = std::mem::replace(&mut owner.address, claimant);
            owner.previous = Some(previous);
            owner.detached = false;
            owner.fresh_token = token;
            let to = authentic.then_some(claimant);
            return self.send(
                previous.core,
                Body::Yield {
                    session: previous.session,
                    to,
                },
            );
        } else {
            let message =
                format!("the name {name} is in use by a live session; use another, or show its resume token");
            Refusal::new(Code::AlreadyExists, message)
        };
        self.send(
            claimant.core,
            Body::Refused {
                session: claimant.session,
                refusal: Box::new(refusal),
            },
        );
    }

    pub(crate) fn name_released(&mut self, name: &Arc<str>, from: Address) {
        let Some(owner) = self.names.owners.get_mut(name) else {
            return;
        };
        if owner.previous == Some(from) {
            owner.previous = None;
            owner.token = owner.fresh_token;
            let (to, token) = (owner.address, owner.token);
            self.send(
                to.core,
                Body::Granted {
                    session: to.session,
                    name: Arc::clone(name),
                    token,
                },
            );
        } else if owner.address == from {
            self.names.owners.remove(name);
        }
    }

    pub(crate) fn name_settled(&mut self, name: &str, from: Address) {
        if let Some(owner) = self.names.owners.get_mut(name)
            && owner.address == from
        {
            owner.previous = None;
        }
    }

    pub(crate) fn name_detached(&mut self, name: &str, from: Address) {
        if let Some(owner) = self.names.owners.get_mut(name)
            && owner.address == from
        {
            owner.detached = true;
        }
    }

    /// This core's address of a session.
    pub(crate) fn address(&self, session: SessionId) -> Address {
        Address {
            core: self.core,
            session,
        }
    }
}

/// Compares tokens in a time that does not tell how far they agree.
fn same(a: &[u8; TOKEN_BYTES], b: &[u8; TOKEN_BYTES]) -> bool {
    a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}
