//! The service as it is called.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use ringgate_identity::Subject;
use ringgate_mls::suite;
use ringgate_proto::control::v1::key_packages_server::KeyPackages;
use ringgate_proto::control::v1::{
    ClaimKeyPackagesRequest, ClaimKeyPackagesResponse, ClaimedKeyPackage, GetKeyPackagePoolRequest,
    KeyPackagePool, PublishKeyPackagesRequest, PublishKeyPackagesResponse, WithdrawKeyPackagesRequest,
    WithdrawKeyPackagesResponse,
};
use tonic::{Code, Request, Response, Status};

use super::{KeyPackageService, TARGETS_MAX, agent, mls_refusal};
use crate::caller::Caller;
use crate::errors::{reason_of, refusal};
use crate::groups::signal;

#[async_trait::async_trait]
impl KeyPackages for KeyPackageService {
    async fn publish_key_packages(
        &self,
        request: Request<PublishKeyPackagesRequest>,
    ) -> Result<Response<PublishKeyPackagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let results = self.publish(&caller, &request.get_ref().key_packages).await?;
        let pool = self.pool(&agent(&caller)?, suite::number(suite::DEFAULT)).await?;
        Ok(Response::new(PublishKeyPackagesResponse {
            results,
            pool: Some(pool),
        }))
    }

    async fn claim_key_packages(
        &self,
        request: Request<ClaimKeyPackagesRequest>,
    ) -> Result<Response<ClaimKeyPackagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let claimer = agent(&caller)?;
        let request = request.into_inner();
        caller.about(request.identities.join(" "), "key packages");
        if request.identities.len() > TARGETS_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "TOO_MANY_CLAIMS",
                format!("one call may name {TARGETS_MAX} agents; make several"),
            ));
        }
        let suite = suite_of(request.cipher_suite)?;
        let mut results = Vec::with_capacity(request.identities.len());
        for identity in request.identities {
            let claimed = match self.uri(&identity) {
                Ok(uri) => self.claim(&claimer, &uri, suite).await.map(|found| (uri, found)),
                Err(status) => Err(status),
            };
            results.push(match claimed {
                Ok((identity, (entry, last_resort))) => ClaimedKeyPackage {
                    identity,
                    key_package: entry.key_package,
                    reference: entry.reference,
                    last_resort,
                    ..ClaimedKeyPackage::default()
                },
                Err(status) => ClaimedKeyPackage {
                    identity,
                    reason: reason_of(&status),
                    message: status.message().to_owned(),
                    ..ClaimedKeyPackage::default()
                },
            });
        }
        Ok(Response::new(ClaimKeyPackagesResponse { results }))
    }

    async fn withdraw_key_packages(
        &self,
        request: Request<WithdrawKeyPackagesRequest>,
    ) -> Result<Response<WithdrawKeyPackagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let removed = self.withdraw(&caller, &request.references, request.all).await?;
        Ok(Response::new(WithdrawKeyPackagesResponse { removed }))
    }

    async fn get_key_package_pool(
        &self,
        request: Request<GetKeyPackagePoolRequest>,
    ) -> Result<Response<KeyPackagePool>, Status> {
        let owner = agent(&Caller::of(&request)?)?;
        let suite = suite_of(request.get_ref().cipher_suite)?;
        self.pool(&owner, suite).await.map(Response::new)
    }

    type WatchKeyPackagePoolStream = Pin<Box<dyn Stream<Item = Result<KeyPackagePool, Status>> + Send>>;

    async fn watch_key_package_pool(
        &self,
        request: Request<GetKeyPackagePoolRequest>,
    ) -> Result<Response<Self::WatchKeyPackagePoolStream>, Status> {
        let owner = agent(&Caller::of(&request)?)?;
        let suite = suite_of(request.get_ref().cipher_suite)?;
        let changes = self.hub.follow(&signal::pool(&owner));
        let begin = (self.clone(), owner, changes);
        let told = stream::try_unfold(begin, move |(service, owner, mut changes)| async move {
            // Marked as new at first, so that what is there is told at once.
            if changes.changed().await.is_err() {
                return Ok::<_, Status>(None);
            }
            let pool = service.pool(&owner, suite).await?;
            Ok(Some((pool, (service, owner, changes))))
        });
        Ok(Response::new(told.boxed()))
    }
}

impl KeyPackageService {
    /// The URI of an agent that a request names by URI or path.
    fn uri(&self, identity: &str) -> Result<String, Status> {
        let domain = self.context.authority.domain();
        let subject = match identity.starts_with("agp://") {
            true => Subject::parse(identity)
                .ok()
                .filter(|(named, _)| named == domain)
                .map(|(_, subject)| subject),
            false => Subject::from_path(identity).ok(),
        };
        match subject {
            Some(subject @ (Subject::Agent(_) | Subject::Pseudonym(_))) => Ok(subject.uri(domain)),
            _ => Err(refusal(
                Code::InvalidArgument,
                "IDENTITY_MALFORMED",
                format!(
                    "`{identity}` is no agent of {domain}; name it organization/namespace/service/instance"
                ),
            )),
        }
    }
}

fn suite_of(number: u32) -> Result<u16, Status> {
    let number = match number {
        0 => suite::number(suite::DEFAULT),
        number => u16::try_from(number).unwrap_or(u16::MAX),
    };
    suite::allowed(number).map_err(|error| mls_refusal(&error))?;
    Ok(number)
}
