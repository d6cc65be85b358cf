//! What groups of this gateway agree on.

use openmls::prelude::{
    BasicCredential, Capabilities, CredentialType, Extension, ExtensionType, Extensions, ExternalSender,
    GroupContext, MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProposalType, RequiredCapabilitiesExtension,
    SenderRatchetConfiguration, WireFormatPolicy,
};

use crate::{MlsError, suite};

/// Epochs before the current one whose messages members still read, and gateways still pass on (MLS.md §7). More would keep old
/// keys longer; fewer would lose what was on its way when somebody committed.
pub const PAST_EPOCHS: u64 = 2;
/// Epochs whose resumption secret is kept: a commit of a member of another library may be bound to an epoch that is over (RFC 9420 §8.6).
const RESUMPTIONS: usize = PAST_EPOCHS as usize + 1;
/// Messages of one sender that may come late or early: a fan-out over several cores reorders little, and a subscription that
/// drops messages leaves gaps of thousands.
const OUT_OF_ORDER: u32 = 64;
const FORWARD: u32 = 5000;

/// Whether the delivery service reads a group's handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does: handshakes are PublicMessages, which it validates.
    Assisted,
    /// It does not: handshakes are PrivateMessages, which it orders by their header.
    Sealed,
}

impl Mode {
    fn wire_format(self) -> WireFormatPolicy {
        match self {
            // Application messages are PrivateMessages in any case (RFC 9420 §6).
            Mode::Assisted => PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
            Mode::Sealed => PURE_CIPHERTEXT_WIRE_FORMAT_POLICY,
        }
    }
}

/// What every leaf says that it can. Nobody is a member by a basic credential; but the delivery service has one as external sender, and
/// `mls-rs` wants each leaf to know of it.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities::new(
        None,
        Some(&suite::ALLOWED),
        Some(&[ExtensionType::LastResort]),
        Some(&[ProposalType::SelfRemove]),
        Some(&[CredentialType::X509, CredentialType::Basic]),
    )
}

/// Whether a leaf can what it must.
///
/// # Errors
/// [`MlsError::Capabilities`].
pub fn check_capabilities(capabilities: &Capabilities) -> Result<(), MlsError> {
    match capabilities.credentials().contains(&CredentialType::X509) {
        true => Ok(()),
        false => Err(MlsError::Capabilities("credential type x509")),
    }
}

/// The delivery service as external sender of a group: by its key, and a basic credential that names it.
#[must_use]
pub fn external_sender(key: &[u8], identity: &[u8]) -> ExternalSender {
    let credential = BasicCredential::new(identity.to_vec());
    ExternalSender::new(key.to_vec().into(), credential.into())
}

/// The context of a new group: members must have certificates, and the delivery service may propose to remove them.
///
/// # Errors
/// [`MlsError::Invalid`], which would be an error of the build.
pub fn context(delivery_service: Option<ExternalSender>) -> Result<Extensions<GroupContext>, MlsError> {
    let required = RequiredCapabilitiesExtension::new(&[], &[], &[CredentialType::X509]);
    let mut extensions = vec![Extension::RequiredCapabilities(required)];
    if let Some(sender) = delivery_service {
        extensions.push(Extension::ExternalSenders(vec![sender]));
    }
    Extensions::from_vec(extensions).map_err(|error| MlsError::Invalid(error.to_string()))
}

/// How a member makes a group.
#[must_use]
pub fn create(
    mode: Mode,
    padding: usize,
    context: Extensions<GroupContext>,
    lifetime_seconds: u64,
) -> MlsGroupCreateConfig {
    MlsGroupCreateConfig::builder()
        .ciphersuite(suite::DEFAULT)
        .capabilities(capabilities())
        .wire_format_policy(mode.wire_format())
        .padding_size(padding)
        .max_past_epochs(PAST_EPOCHS as usize)
        .number_of_resumption_psks(RESUMPTIONS)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD))
        .use_ratchet_tree_extension(true)
        .lifetime(openmls::prelude::Lifetime::new(lifetime_seconds))
        .with_group_context_extensions(context)
        .build()
}

/// How a member joins one.
#[must_use]
pub fn join(mode: Mode, padding: usize) -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(mode.wire_format())
        .padding_size(padding)
        .max_past_epochs(PAST_EPOCHS as usize)
        .number_of_resumption_psks(RESUMPTIONS)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD))
        .use_ratchet_tree_extension(true)
        .build()
}
