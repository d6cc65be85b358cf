//! The control process's services for groups, as this agent calls them.

use bytes::Bytes;
use ringgate_proto::control::v1 as proto;
use ringgate_proto::control::v1::groups_client::GroupsClient;
use ringgate_proto::control::v1::key_packages_client::KeyPackagesClient;
use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::GroupError;
use super::engine::Bundle;
use crate::Credential;

/// Largest answer: a GroupInfo and a tree of a group as large as they get, or a page of mail.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Calls over one connection, which is made anew when the credential is another or the connection is gone.
pub(super) struct Calls {
    credential: Credential,
    channel: Mutex<Option<(Channel, [u8; 32])>>,
}

impl Calls {
    pub(super) fn new(credential: Credential) -> Calls {
        Calls {
            credential,
            channel: Mutex::new(None),
        }
    }

    async fn channel(&self) -> Result<Channel, GroupError> {
        let mut channel = self.channel.lock().await;
        let key = *self.credential.held().key.public();
        if let Some((channel, of)) = &*channel
            && *of == key
        {
            return Ok(channel.clone());
        }
        let fresh = self.credential.control().await?;
        *channel = Some((fresh.clone(), key));
        Ok(fresh)
    }

    async fn groups(&self) -> Result<GroupsClient<Channel>, GroupError> {
        Ok(GroupsClient::new(self.channel().await?).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    async fn packages(&self) -> Result<KeyPackagesClient<Channel>, GroupError> {
        Ok(KeyPackagesClient::new(self.channel().await?))
    }

    pub(super) async fn delivery_service(&self) -> Result<proto::DeliveryService, GroupError> {
        let answer = self
            .groups()
            .await?
            .get_delivery_service(proto::GetDeliveryServiceRequest {})
            .await;
        told(answer)
    }

    pub(super) async fn create(
        &self,
        request: proto::CreateGroupRequest,
    ) -> Result<proto::Group, GroupError> {
        told(self.groups().await?.create_group(request).await)
    }

    /// Submits a commit. One that was not answered is submitted again: the same commit has the same answer.
    pub(super) async fn commit(&self, id: &Bytes, bundle: Bundle) -> Result<proto::Committed, GroupError> {
        let request = proto::SubmitCommitRequest {
            group_id: id.clone(),
            epoch: bundle.epoch,
            commit: bundle.commit,
            welcome: bundle.welcome,
            group_info: bundle.group_info,
        };
        let first = told(self.groups().await?.submit_commit(request.clone()).await);
        match first {
            Err(GroupError::Unavailable(_)) => {
                *self.channel.lock().await = None;
                told(self.groups().await?.submit_commit(request).await)
            }
            answer => answer,
        }
    }

    pub(super) async fn propose(&self, id: &Bytes, proposal: Bytes) -> Result<(), GroupError> {
        let request = proto::SubmitProposalRequest {
            group_id: id.clone(),
            proposal,
        };
        told(self.groups().await?.submit_proposal(request).await).map(drop)
    }

    pub(super) async fn group_info(&self, id: &Bytes) -> Result<proto::GroupInfo, GroupError> {
        let request = proto::GetGroupInfoRequest { group_id: id.clone() };
        told(self.groups().await?.get_group_info(request).await)
    }

    pub(super) async fn re_add(&self, id: &Bytes, key_package: Bytes) -> Result<(), GroupError> {
        let request = proto::RequestReAddRequest {
            group_id: id.clone(),
            key_package,
        };
        told(self.groups().await?.request_re_add(request).await).map(drop)
    }

    pub(super) async fn complain(
        &self,
        id: &Bytes,
        sequence: u64,
        error: String,
    ) -> Result<bool, GroupError> {
        let request = proto::ReportInvalidCommitRequest {
            group_id: id.clone(),
            sequence,
            error,
        };
        Ok(told(self.groups().await?.report_invalid_commit(request).await)?.frozen)
    }

    pub(super) async fn report_epoch(
        &self,
        id: &Bytes,
        epoch: u64,
        digest: [u8; 32],
    ) -> Result<(), GroupError> {
        let request = proto::ReportEpochRequest {
            group_id: id.clone(),
            epoch,
            digest: Bytes::copy_from_slice(&digest),
        };
        told(self.groups().await?.report_epoch(request).await).map(drop)
    }

    pub(super) async fn delete(&self, id: &Bytes) -> Result<(), GroupError> {
        let request = proto::DeleteGroupRequest { group_id: id.clone() };
        told(self.groups().await?.delete_group(request).await).map(drop)
    }

    pub(super) async fn take_mail(&self, letter: String) -> Result<(), GroupError> {
        let request = proto::TakeMailRequest { ids: vec![letter] };
        told(self.groups().await?.take_mail(request).await).map(drop)
    }

    pub(super) async fn watch(
        &self,
        asks: impl tokio_stream::Stream<Item = proto::WatchGroupsRequest> + Send + 'static,
    ) -> Result<Streaming<proto::GroupsEvent>, GroupError> {
        // Told at the beginning of each attempt: a connection that broke is of no more use.
        *self.channel.lock().await = None;
        told(self.groups().await?.watch_groups(Request::new(asks)).await)
    }

    pub(super) async fn claim(&self, names: &[&str]) -> Result<Vec<proto::ClaimedKeyPackage>, GroupError> {
        let request = proto::ClaimKeyPackagesRequest {
            identities: names.iter().map(|name| (*name).to_owned()).collect(),
            cipher_suite: 0,
        };
        let results = told(self.packages().await?.claim_key_packages(request).await)?.results;
        match results.len() == names.len() {
            true => Ok(results),
            false => Err(GroupError::Unavailable(
                "it answers for others than it was asked for".to_owned(),
            )),
        }
    }

    pub(super) async fn publish(&self, key_packages: Vec<Bytes>) -> Result<(), GroupError> {
        let request = proto::PublishKeyPackagesRequest { key_packages };
        let results = told(self.packages().await?.publish_key_packages(request).await)?.results;
        match results.into_iter().find(|result| result.reference.is_empty()) {
            Some(refused) if refused.reason != "POOL_FULL" => Err(GroupError::Service {
                reason: refused.reason,
                message: refused.message,
            }),
            _ => Ok(()),
        }
    }

    pub(super) async fn withdraw_all(&self) -> Result<(), GroupError> {
        let request = proto::WithdrawKeyPackagesRequest {
            all: true,
            ..Default::default()
        };
        told(self.packages().await?.withdraw_key_packages(request).await).map(drop)
    }

    pub(super) async fn pool(&self) -> Result<proto::KeyPackagePool, GroupError> {
        let request = proto::GetKeyPackagePoolRequest::default();
        told(self.packages().await?.get_key_package_pool(request).await)
    }

    pub(super) async fn watch_pool(&self) -> Result<Streaming<proto::KeyPackagePool>, GroupError> {
        let request = proto::GetKeyPackagePoolRequest::default();
        told(self.packages().await?.watch_key_package_pool(request).await)
    }
}

fn told<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, GroupError> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| GroupError::service(&status))
}
