//! Talking to etcd's members: one at a time, the next when it does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

use super::EtcdOptions;
use super::api::AuthenticateRequest;
use super::api::auth_client::AuthClient;
use crate::{RETRY, Revision, StoreError};

/// How often a connection is probed while it is in use, and how long the answer may take: a member that vanished is noticed within
/// their sum.
const PROBE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

pub(super) struct Members {
    channels: Vec<Channel>,
    /// The one to ask, modulo their number.
    current: AtomicUsize,
    user: Option<(String, String)>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    timeout: Duration,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The answer is larger than allowed.
    TooMuch,
    /// The token is not (any more) valid; nothing was done.
    Token,
    /// etcd does not have this lease (any more).
    NoLease,
    Other(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Other(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::TooMuch => {
                StoreError::Corrupt("etcd holds an entry larger than any that was written".to_owned())
            }
            Failure::Token => open("etcd does not take its own token; look at its log".to_owned()),
            Failure::NoLease => StoreError::SessionEnded,
            Failure::Other(error) => error,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let says = |text: &str| status.message().contains(text);
        match status.code() {
            // What tonic says of a message above the limit of decoding.
            Code::OutOfRange if says("message length") => Failure::TooMuch,
            // A page of a revision that is gone; which is the oldest that is not, etcd does not say here.
            Code::OutOfRange if says("has been compacted") => {
                StoreError::Compacted { oldest: Revision(0) }.into()
            }
            Code::NotFound if says("lease not found") => Failure::NoLease,
            Code::Unauthenticated => Failure::Token,
            Code::PermissionDenied => open(format!(
                "etcd refuses this user: {}; give it the rights to read and write below the namespace",
                status.message()
            ))
            .into(),
            _ => unavailable(format!("etcd: {}", cause(&status))).into(),
        }
    }
}

impl Members {
    pub(super) async fn connect(options: &EtcdOptions) -> Result<Members, StoreError> {
        let channel =
            |url: &String| channel(url, options).map_err(|error| open(format!("etcd at `{url}`: {error}")));
        let channels: Vec<_> = options.endpoints.iter().map(channel).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(open("no etcd endpoint is given".to_owned()));
        }
        let members = Members {
            channels,
            current: AtomicUsize::new(0),
            user: options.user.clone(),
            token: Mutex::new(None),
            timeout: options.timeout,
        };
        members.renew_token().await?;
        Ok(members)
    }

    /// Asks a member, and if it does not answer each other one: for what may be done twice.
    pub(super) async fn ask<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        let mut left = self.channels.len();
        loop {
            left -= 1;
            match self.once(&call).await {
                Err(Failure::Other(StoreError::Unavailable { .. })) if left > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// Asks one member: for what must not be done twice.
    pub(super) async fn once<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        match self.try_once(&call).await {
            Err(Failure::Token) if self.user.is_some() => {
                self.renew_token().await?;
                self.try_once(&call).await
            }
            outcome => outcome,
        }
    }

    async fn try_once<T, C>(&self, call: impl Fn(Channel) -> C) -> Result<T, Failure>
    where
        C: Future<Output = Result<Response<T>, Status>>,
    {
        let current = self.current.load(Ordering::Relaxed);
        let channel = self.channels[current % self.channels.len()].clone();
        let outcome = match tokio::time::timeout(self.timeout, call(channel)).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(Failure::from),
            Err(_) => Err(unavailable(format!(
                "etcd did not answer within {} ms",
                self.timeout.as_millis()
            ))
            .into()),
        };
        if let Err(Failure::Other(StoreError::Unavailable { .. })) = outcome {
            // Unless somebody else has gone on already.
            let next = current.wrapping_add(1);
            let _ = self
                .current
                .compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        outcome
    }

    /// A request with what goes with each.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // Without it a member that lost the others answers reads and watches as if nothing happened any more.
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    async fn renew_token(&self) -> Result<(), StoreError> {
        let Some((name, password)) = &self.user else {
            return Ok(());
        };
        let answer = self
            .ask_without_token(AuthenticateRequest {
                name: name.clone(),
                password: password.clone(),
            })
            .await?;
        let mut token =
            MetadataValue::try_from(answer).map_err(|_| open("etcd's token is no header".to_owned()))?;
        token.set_sensitive(true);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    async fn ask_without_token(&self, user: AuthenticateRequest) -> Result<String, StoreError> {
        for _ in 0..self.channels.len() {
            let authenticate = |channel| {
                let user = user.clone();
                async move { AuthClient::new(channel).authenticate(user).await }
            };
            match self.try_once(authenticate).await {
                Ok(answer) => return Ok(answer.token),
                Err(Failure::Other(StoreError::Unavailable { reason, .. }))
                    if reason.contains("authentication") =>
                {
                    return Err(open(format!("{reason}; look at user and password")));
                }
                Err(Failure::Other(StoreError::Unavailable { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(unavailable("no member of etcd answers".to_owned()))
    }
}

fn channel(url: &str, options: &EtcdOptions) -> Result<Channel, tonic::transport::Error> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(options.timeout)
        .http2_keep_alive_interval(PROBE.0)
        .keep_alive_timeout(PROBE.1)
        .tcp_nodelay(true);
    if let Some(tls) = &options.tls {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((chain, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(chain, key));
        }
        endpoint = endpoint.tls_config(config)?;
    }
    Ok(endpoint.connect_lazy())
}

/// What a status says, and what was behind it: tonic's own errors name the cause only there.
fn cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

pub(super) fn unavailable(reason: String) -> StoreError {
    StoreError::Unavailable { reason, retry: RETRY }
}

pub(super) fn open(reason: String) -> StoreError {
    StoreError::Open { reason, source: None }
}
