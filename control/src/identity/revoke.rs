//! Revocation: a numbered log, and the signed list made from it.

use std::time::Duration;

use async_trait::async_trait;
use ringgate_identity::{CLOCK_SKEW_SECONDS, Serial, UnixTime};
use ringgate_proto::control::v1::revoke_request::Subject as Target;
use ringgate_proto::control::v1::{AuditEntry, Crl, Issued, Revocation, RevokeRequest, Revoked};
use ringgate_store::{Store, StoreError};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::{IdentityService, SCAN_ENTRIES, join};
use crate::caller::Caller;
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::ledger::{Draft, Step};
use crate::wire;

/// Bytes of the reason of a revocation.
const REASON_BYTES_MAX: usize = 512;
/// Serials that are told of one identity; the revocation covers all, told or not.
const SERIALS_TOLD_MAX: usize = 1000;

/// The signed list of the moment. Signing takes long where it is long, so one list serves until something changes or half its time
/// is over.
#[derive(Debug, Default)]
pub(super) struct CrlCache(Mutex<Option<(Crl, UnixTime)>>);

impl IdentityService {
    pub(super) async fn revoke_for(
        &self,
        caller: &Caller,
        request: RevokeRequest,
    ) -> Result<Revoked, Status> {
        if request.reason.len() > REASON_BYTES_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "TOO_LARGE",
                format!("the reason may have {REASON_BYTES_MAX} bytes"),
            ));
        }
        match request.subject {
            Some(Target::Serial(serial)) if request.allow_again => Err(refusal(
                Code::InvalidArgument,
                "SERIAL_STAYS_REVOKED",
                format!("serial {serial} stays revoked; identities can be allowed again"),
            )),
            Some(Target::Serial(serial)) => self.revoke_serial(caller, &serial, request.reason).await,
            Some(Target::Identity(identity)) => {
                self.revoke_identity(caller, &identity, request.reason, request.allow_again)
                    .await
            }
            None => Err(refusal(
                Code::InvalidArgument,
                "SUBJECT_MISSING",
                "say what to revoke: a serial or an identity",
            )),
        }
    }

    async fn revoke_serial(&self, caller: &Caller, serial: &str, reason: String) -> Result<Revoked, Status> {
        caller.about(format!("serial {serial}"), reason.clone());
        let serial = serial
            .parse::<Serial>()
            .map_err(|error| refusal(Code::InvalidArgument, "SERIAL_MALFORMED", error.to_string()))?
            .to_string();
        let store = &*self.context.store;
        let not_found = || {
            refusal(
                Code::NotFound,
                "NOT_FOUND",
                format!(
                    "no certificate with serial {serial} was issued here; `ringgate audit` shows what was"
                ),
            )
        };
        let number = keys::issued_serial(&serial).get(store).await;
        let number = number
            .map_err(|error| store_refusal(&error))?
            .filter(|_| caller.credential().is_ok());
        let issued = match number {
            Some(number) => keys::issued(number.value).get(store).await,
            None => Ok(None),
        };
        let issued = issued
            .map_err(|error| store_refusal(&error))?
            .map(|stored| stored.value);
        // Whoever may not revoke it does not learn whether there is such a serial.
        let identity = match issued {
            Some(issued) if may_revoke(caller, &issued.identity)? => issued.identity,
            Some(_) => return Err(not_yours()),
            None if caller.administers => return Err(not_found()),
            None => return Err(not_yours()),
        };
        caller.about(identity.clone(), format!("serial {serial}: {reason}"));
        let revocation = Revocation {
            serial: serial.clone(),
            identity,
            reason,
            ..Revocation::default()
        };
        let number = self.enter(caller, revocation).await?;
        Ok(Revoked {
            number,
            serials: vec![serial],
        })
    }

    async fn revoke_identity(
        &self,
        caller: &Caller,
        identity: &str,
        reason: String,
        allow_again: bool,
    ) -> Result<Revoked, Status> {
        caller.about(identity, reason.clone());
        let uri = self.subject(identity)?.uri(self.context.authority.domain());
        let what = if allow_again { "allowed again: " } else { "" };
        caller.about(uri.clone(), format!("{what}{reason}"));
        if !may_revoke(caller, &uri)? || (allow_again && !caller.administers) {
            return Err(not_yours());
        }
        let now = UnixTime::now();
        let revocation = Revocation {
            identity: uri.clone(),
            reason,
            issued_until_unix: if allow_again { wire::unix(now) } else { 0 },
            ..Revocation::default()
        };
        let number = self.enter(caller, revocation).await?;
        if allow_again {
            // Times count in seconds, and what was issued until the end of this one is void: whoever enrols after the answer must
            // not fall into it.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let live = self.live_serials(&uri, now, SERIALS_TOLD_MAX).await;
        let live = live.map_err(|error| store_refusal(&error))?;
        Ok(Revoked {
            number,
            serials: live.into_iter().map(|issued| issued.serial).collect(),
        })
    }

    /// Enters a revocation, and waits until this process itself goes by it.
    async fn enter(&self, caller: &Caller, revocation: Revocation) -> Result<u64, Status> {
        let step = Enter {
            revocation,
            audit: caller.entry("ok"),
        };
        let (number, revision) = self.context.ledger.take(step).await?;
        caller.set_recorded();
        self.context.authority.caught_up(revision).await?;
        Ok(number)
    }

    /// Certificates of an identity that have not ended yet, newest first.
    async fn live_serials(&self, uri: &str, now: UnixTime, max: usize) -> Result<Vec<Issued>, StoreError> {
        let store = &*self.context.store;
        let ttl_max = i64::from(self.context.authority.trust().leaf_ttl_seconds_max);
        let now = wire::unix(now);
        let (mut live, mut before) = (Vec::new(), 0);
        loop {
            let page = keys::issued_to(uri).before(store, before, SCAN_ENTRIES).await?;
            for (_, number) in page.items {
                before = number.value;
                let Some(issued) = keys::issued(before).get(store).await? else {
                    continue;
                };
                let issued = issued.value;
                if issued.not_before_unix.saturating_add(ttl_max) < now - WINDOW_SECONDS || live.len() == max
                {
                    return Ok(live);
                }
                if issued.not_after_unix >= now {
                    live.push(issued);
                }
            }
            if !page.more {
                return Ok(live);
            }
        }
    }

    /// The signed list: all revoked serials that have not ended, those of revoked identities included.
    pub(super) async fn signed_list(&self) -> Result<Crl, Status> {
        let mut cache = self.crl.0.lock().await;
        let now = UnixTime::now();
        let head = keys::REVOCATIONS.before(&*self.context.store, 0, 1).await;
        let head = head.map_err(|error| store_refusal(&error))?;
        let number = head.items.first().map_or(0, |(_, stored)| stored.value.number);
        let ttl = self.context.settings.identity.crl_ttl_seconds;
        if let Some((crl, made)) = &*cache
            && crl.number == number
            && now.as_secs() < made.as_secs() + ttl / 2
        {
            return Ok(crl.clone());
        }
        let revoked = self
            .revoked_serials(now)
            .await
            .map_err(|error| store_refusal(&error))?;
        let next_update = wire::time(wire::unix(now).saturating_add_unsigned(ttl));
        let signed = self
            .context
            .authority
            .issuer()
            .crl(revoked, number, now, next_update);
        let crl = Crl {
            crl_der: signed
                .map_err(|error| refusal(Code::Internal, "SIGNING_FAILED", error.to_string()))?
                .into(),
            number,
            next_update_unix: wire::unix(next_update),
        };
        *cache = Some((crl.clone(), now));
        Ok(crl)
    }

    async fn revoked_serials(&self, now: UnixTime) -> Result<Vec<(Serial, UnixTime)>, StoreError> {
        let store: &dyn Store = &*self.context.store;
        let ttl_max = i64::from(self.context.authority.trust().leaf_ttl_seconds_max);
        let oldest = wire::unix(now) - ttl_max - WINDOW_SECONDS;
        let mut revoked = std::collections::BTreeMap::new();
        let mut before = 0;
        loop {
            let page = keys::REVOCATIONS.before(store, before, SCAN_ENTRIES).await?;
            for (_, stored) in page.items {
                let revocation = stored.value;
                before = revocation.number;
                // What was revoked before that has ended by itself.
                if revocation.time_unix < oldest {
                    return Ok(revoked.into_iter().collect());
                }
                let at = wire::time(revocation.time_unix);
                if let Ok(serial) = revocation.serial.parse::<Serial>() {
                    revoked.insert(serial, at);
                    continue;
                }
                let until = match revocation.issued_until_unix {
                    0 => revocation.time_unix,
                    until => until,
                };
                for issued in self.live_serials(&revocation.identity, now, usize::MAX).await? {
                    // Dated back when it was issued.
                    let issued_at = issued.not_before_unix + CLOCK_SKEW_SECONDS as i64;
                    if let Ok(serial) = issued.serial.parse()
                        && issued_at <= until
                    {
                        revoked.insert(serial, at);
                    }
                }
            }
            if !page.more {
                return Ok(revoked.into_iter().collect());
            }
        }
    }
}

/// How much longer than its life something is kept in mind: certificates are dated back.
const WINDOW_SECONDS: i64 = 2 * CLOCK_SKEW_SECONDS as i64;

/// Operators who may change things, and the holder itself.
fn may_revoke(caller: &Caller, uri: &str) -> Result<bool, Status> {
    Ok(caller.administers || caller.credential()?.uri() == uri)
}

fn not_yours() -> Status {
    refusal(
        Code::PermissionDenied,
        "NOT_AN_OPERATOR",
        "only operators revoke what is not their own",
    )
}

struct Enter {
    revocation: Revocation,
    audit: AuditEntry,
}

#[async_trait]
impl Step for Enter {
    type Output = u64;

    /// Something revoked twice keeps its first number.
    async fn take(&self, draft: &mut Draft) -> Result<u64, Status> {
        let mut revocation = self.revocation.clone();
        let slot = match revocation.serial.as_str() {
            "" => keys::revoked_identity(&revocation.identity),
            serial => keys::revoked_serial(serial),
        };
        let before = draft.get(&slot).await?;
        let is_revoked = before
            .as_ref()
            .is_some_and(|before| before.issued_until_unix == 0);
        match (is_revoked, revocation.issued_until_unix) {
            (true, 0) => {
                draft.audit(self.audit.clone()).await?;
                return Ok(before.map_or(0, |before| before.number));
            }
            (false, until) if until != 0 => {
                return Err(refusal(
                    Code::NotFound,
                    "NOT_FOUND",
                    format!("{} is not revoked", revocation.identity),
                ));
            }
            _ => {}
        }
        let head = draft.get(&keys::revocation_head()).await?;
        revocation.number = head.map_or(1, |head| head.number + 1);
        revocation.time_unix = join::unix_now();
        draft.put(&keys::revocation_head(), &revocation);
        draft.put(&keys::revocation(revocation.number), &revocation);
        draft.put(&slot, &revocation);
        draft.audit(self.audit.clone()).await?;
        Ok(revocation.number)
    }
}
