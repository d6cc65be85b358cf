//! An agent's key as MLS signs with it.

use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use ringgate_identity::AgentKey;

/// Signs with the key of a certificate: it is the signature key of the leaf.
#[derive(Debug, Clone)]
pub struct KeySigner(pub AgentKey);

impl Signer for KeySigner {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
